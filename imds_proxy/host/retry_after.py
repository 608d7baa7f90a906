"""How long a service asks us to wait ("Retry-After" of RFC 9110, 10.2.3)."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds; 0 where an answer does not say, or not in a way that can be read.

    Args:
        headers: Of the answer, by lower-case name. A date is compared with the answer's own: no clock here matters.
    """
    asked = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(asked):
        return float(asked)
    try:
        wait = parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):  # one of them is no date, or without a time zone
        return 0.0
    return max(wait.total_seconds(), 0.0)
