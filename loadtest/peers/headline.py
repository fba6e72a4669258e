"""What came of a comparison, in sentences that are computed from it, whoever came first."""

from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.peers import quality, stolen
from loadtest.peers.figures import at_least, good_at, multiples_of, whole
from loadtest.peers.turns import best_of, middle

OURS, SAME = "exfm", "exfm_same_onnx"
_ROUGHLY = {(False, False): "", (True, False): "at least ", (False, True): "at most ", (True, True): "about "}
"""What is said of a ratio by whether its two figures are lower bounds."""


def headline(result: Mapping[str, Any]) -> list[str]:
    """Sentences without their full stops: capacity, goodput, the same model, quality, the machine's neighbours."""
    best = best_of(result["capacity_rps"], (OURS, SAME))
    made = [_capacity(result, OURS, best)]
    if best:
        made += [text for key in multiples_of(result) if (text := _goodput(result, key))]
    if result["capacity_rps"].get(SAME):
        made.append("With the very ONNX file that the peers serve: " + _capacity(result, SAME, best))
    if _alone(result):
        made.append("Some figures are of one repeat, so their spread is not known")
    made.append(quality.told(result.get("quality", {})))
    told = stolen.told(result.get("stolen_share", {}))
    return [*made, told] if told else made


def _capacity(result: Mapping[str, Any], ours: str, best: tuple[str, float] | None) -> str:
    every, within = (
        result["capacity_rps"],
        f" with p99 within {result['budget_ms']:g} ms" if "budget_ms" in result else "",
    )
    own = middle(every.get(ours, []))
    if own is None:
        return f"{ours} has no capacity measured" + (
            f"; the best peer's is {best[1]:.0f}/s ({best[0]})" if best else ""
        )
    if not best:
        return f"{ours} holds {at_least(result, ours)}{own:.0f}/s{within}; no peer has a capacity to set beside it"
    peer, theirs = best
    bounds = at_least(result, ours), at_least(result, peer)
    roughly = _ROUGHLY[bool(bounds[0]), bool(bounds[1])]
    if own >= theirs:
        text = f"{ours} holds {bounds[0]}{own:.0f}/s{within}, {roughly}{own / theirs:.2f} times what the best peer "
        text += f"does, {bounds[1]}{theirs:.0f}/s ({peer})"
    else:
        text = f"{peer} holds {bounds[1]}{theirs:.0f}/s{within}, {ours} {bounds[0]}{own:.0f}/s: "
        text += f"{roughly}{own / theirs:.2f} of it, place {_place(every, ours)} of {len(every)}"
    return text + _certainty(every[ours], every[peer])


def _goodput(result: Mapping[str, Any], key: str) -> str:
    """Ours and the best peer's at one multiple; empty if one of the two is missing."""
    medians = {name: middle(by.get(key, [])) for name, by in result["goodput_rps"].items()}
    own = medians.pop(OURS, None)
    peers = {name: value for name, value in medians.items() if value is not None and name != SAME}
    if own is None or not peers:
        return ""
    peer = max(peers, key=lambda name: peers[name])
    full = good_at(result, OURS, key).partition(" (")[2].rstrip(")")
    text = f"At {key} of that peer's capacity exfm has {whole(own)}/s good"
    text += f" ({full}/s by its full model)" if full else ""
    text += f", the best peer {whole(peers[peer])}/s ({peer})"
    if not peers[peer]:
        return text
    times = "times as much" if own >= peers[peer] else "of it"
    good = result["goodput_rps"]
    return f"{text}: {own / peers[peer]:.2f} {times}{_certainty(good[OURS][key], good[peer][key])}"


def _alone(result: Mapping[str, Any]) -> bool:
    """Whether a figure has one repeat only."""
    good = [values for by in result["goodput_rps"].values() for values in by.values()]
    return any(len(values) == 1 for values in (*result["capacity_rps"].values(), *good))


def _place(every: Mapping[str, Sequence[float]], ours: str) -> int:
    own = middle(every[ours]) or 0.0
    return 1 + sum((middle(values) or 0.0) > own for values in every.values())


def _certainty(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """What the repeats say of the order of two medians; nothing if the ranges are apart, or if one has no range."""
    if min(len(ours), len(theirs)) < 2:
        return ""
    overlap = max(ours) >= min(theirs) and max(theirs) >= min(ours)
    return "; their repeats overlap, so which is larger is open" if overlap else ""
