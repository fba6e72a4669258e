"""How many workers, and one time: the part behind the scheme of `local:2?give_way_ms=5` and `ranks:4?wait_s=60`."""

import math
import re
from urllib.parse import parse_qsl

_COUNT = re.compile(r"0|[1-9]\d{0,3}")


def parse_count(rest: str, time: str, unless_given: float) -> tuple[int, float]:
    """The count, 0 to 9999, and the time called `time`, above 0 and finite if it is given.

    Raises:
        ValueError: anything else stands there.
    """
    count, _, query = rest.partition("?")
    asked = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    given = asked.pop(time, None)
    value = unless_given if given is None else float(given)
    if not _COUNT.fullmatch(count) or asked or (given is not None and not 0 < value < math.inf):
        raise ValueError(rest)
    return int(count), value
