"""What `locust -f loadtest/locustfile.py` can be told besides locust's own options; also fields of its web page."""

from typing import Any

from loadtest.arrivals.shapes import SHAPES
from loadtest.verdict.judge import CPU_SHARE, SENT_LATE_SHARE


def add_options(parser: Any) -> None:
    """Add them to locust's parser."""
    add = parser.add_argument
    add("--vertical", default="", help="which vertical of the server (the first by name)", env_var="EXFM_VERTICAL")
    add("--rate", type=float, default=50.0, help="requests per second over all processes, around which the shape moves")
    add("--seconds", type=float, default=30.0, help="length of the shape")
    add("--shape", choices=sorted(SHAPES), default="steady", help="how the rate moves")
    add("--candidates", default="200", help="ads per request: a number, dlrm-v2 or dlrm-v3")
    add("--schema-file", default="", help="random requests of this schema; without: what the server describes")
    add("--seed", type=int, default=0, help="of requests and arrivals")
    add("--timeout-ms", type=float, default=0.0, help="deadline of each call; 0: the vertical's budget")
    add("--objectives", default="", help="TOML file; without: p99 in the budget, 1 %% late, 99 %% full, no error")
    add(
        "--verdict-file",
        default="",
        help="where the result goes as JSON; its page beside it, as .html",
        include_in_web_ui=False,
    )
    add("--events", default="", help="file of what happened when, a JSON line each; also written meanwhile")
    add("--max-generator-cpu", type=float, default=CPU_SHARE, help="share of its core from which on a run is invalid")
    add("--max-sent-late", type=float, default=SENT_LATE_SHARE, help="share sent late from which on a run is invalid")
