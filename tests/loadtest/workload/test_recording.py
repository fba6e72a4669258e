import base64
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.workload.asked import Workload
from loadtest.workload.recording import RecordingError, read_recording, write_recording
from serving.rpc.pb import ranking_pb2 as pb

HEADER = '{"format": "exfm-requests", "version": 1}\n'


def line(offset: object, vertical: str = "v", ads: list[int] | None = None) -> str:
    message = pb.RankRequest(vertical=vertical, ad_ids=ads or [1, 2]).SerializeToString()
    return json.dumps({"offset_s": offset, "request": base64.b64encode(message).decode()}) + "\n"


def test_what_was_sent_is_read_back(tmp_path: Path, workload: Workload) -> None:
    path, schedule_s = tmp_path / "sent.jsonl", np.cumsum(np.full(10, 0.25))
    write_recording(path, schedule_s, workload)
    offsets_s, again = read_recording(path, ["click"])
    assert offsets_s == pytest.approx(schedule_s)
    assert again.vertical == "selftest"
    assert [asked.message for asked in again.requests] == [workload.at(index).message for index in range(10)]
    assert again.at(0).tasks == ("click",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no request"),
        (HEADER, "holds no request"),
        ("{}\n", ":1: expected"),
        ("nonsense\n", ":1:"),
        (HEADER + "[]\n", ":2: expected a JSON object"),
        (HEADER + line(0.0) + line(-1.0), ":3: offset_s"),
        (HEADER + line(1.0) + line(0.5), ":3: offset_s: 0.5 after 1.0"),
        (HEADER + line(True), ":2: offset_s"),
        (HEADER + line(None), ":2: offset_s"),
        (HEADER + '{"offset_s": 1, "request": 7}\n', ":2: request"),
        (HEADER + '{"offset_s": 1, "request": "***"}\n', ":2: request: not base64"),
        (HEADER + '{"offset_s": 1, "request": "////"}\n', ":2: not a serialised RankRequest"),
        (HEADER + line(0.0, ads=[3, 3]), ":2: request ''"),
        (HEADER + line(0.0) + line(0.1, vertical="w"), "asks verticals v, w"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sent.jsonl"
    path.write_text(text)
    with pytest.raises(RecordingError, match=said):
        read_recording(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.dictionaries(st.sampled_from(["offset_s", "request", "format"]), st.text() | st.floats()))
def test_no_line_leads_to_another_error(tmp_path: Path, raw: object) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_text(HEADER + json.dumps(raw) + "\n")
    with pytest.raises(RecordingError):
        read_recording(path)
