from exporter.itinerary import Itinerary


def test_steps_are_announced_timed_and_listed() -> None:
    now_s, said = [0.0], list[str]()
    itinerary = Itinerary(said.append, lambda: now_s[0])
    itinerary.begin("load", "a file")
    now_s[0] = 2.0
    itinerary.say("large")
    itinerary.begin("convert", "to onnx")
    now_s[0] = 2.5
    itinerary.end()
    itinerary.end()
    assert said == ["1/7 load: a file", "    large", "2/7 convert: to onnx"]
    assert [step.to_dict() for step in itinerary.done] == [
        {"name": "load", "seconds": 2.0},
        {"name": "convert", "seconds": 0.5},
    ]
