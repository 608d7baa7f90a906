"""One line per event: text for a person at a terminal, JSON for everything else.

Modules log a short constant message and put what varies in `extra`:
`log.info("credentials renewed", extra={"role": "deploy"})`.
"""

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import TextIO

from imds_proxy.credentials import timestamp
from imds_proxy.errors import OutputError
from imds_proxy.printable import escaped, is_unicode

_OURS = "imds_proxy"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str = "INFO", style: str = "auto", stream: TextIO | None = None) -> None:
    """Send this project's events, and other libraries' warnings, to `stream` (standard error).

    Args:
        level: A logging level's name, for this project's own events.
        style: "text", "json" or "auto" (text when `stream` is a terminal).
        stream: Where lines go.
    """
    stream = stream or sys.stderr
    handler = _Handler(stream)
    text = style == "text" or (style == "auto" and stream.isatty())
    handler.setFormatter(TextFormatter() if text else JsonFormatter(only_ascii=not is_unicode(stream.encoding)))
    # At DEBUG botocore logs STS answers, secrets and all: libraries never get below WARNING, whatever is asked.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("imds_proxy").setLevel(level)


def told(error: BaseException) -> str:
    """An unexpected error as its kind and its place: its text may hold an answer of AWS's, and that a secret."""
    place = next(iter(reversed(traceback.extract_tb(error.__traceback__))), None)
    at = f"{Path(place.filename).name}:{place.lineno}" if place else "an unknown place"
    return f"{type(error).__name__} at {at}"


class _Handler(logging.StreamHandler[TextIO]):
    """Of lines that cannot be written nothing is said: it would have to be written there, with a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """What is not the stream's fault is logging's to report."""
        if not isinstance(sys.exception(), OSError | OutputError):
            super().handleError(record)


class JsonFormatter(logging.Formatter):
    """`{"time":…,"level":…,"event":…, …}`.

    Args:
        only_ascii: The stream may be unable to write other characters: JSON has an escape for each.
    """

    def __init__(self, *, only_ascii: bool = False) -> None:
        super().__init__()
        self._only_ascii = only_ascii

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object on one line, without a character that a terminal obeys."""
        head = {"time": timestamp(record.created), "level": record.levelname.lower(), "event": _event(record)}
        return escaped(json.dumps(head | _details(record), default=str, ensure_ascii=self._only_ascii))


class TextFormatter(logging.Formatter):
    """`12:00:00 INFO  event key=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold; what is not printable is escaped as in JSON."""
        details = " ".join(f"{key}={_quoted(value)}" for key, value in _details(record).items())
        time = self.formatTime(record, "%H:%M:%S")
        line = f"{time} {record.levelname:<7} {_event(record)} {details}".rstrip().replace("\n", "\\n")
        return escaped(line)


def _event(record: logging.LogRecord) -> str:
    """What happened; of a library's line its constant words, without the values: they may be an answer's."""
    return record.getMessage() if record.name.startswith(_OURS) else str(record.msg)


def _details(record: logging.LogRecord) -> dict[str, object]:
    details = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if not record.name.startswith(_OURS):
        details["logger"] = record.name
    if record.exc_info and (error := record.exc_info[1]) is not None:
        frames = traceback.extract_tb(error.__traceback__)
        places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
        details["traceback"] = " > ".join([*places, type(error).__name__])
    return details


def _quoted(value: object) -> str:
    text = str(value)
    plain = bool(text) and text.isprintable() and not {" ", '"'} & set(text)
    return text if plain else json.dumps(text, ensure_ascii=False)
