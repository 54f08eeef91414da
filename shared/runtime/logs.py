"""Process logs on standard error: JSON lines for machines, a short line for a person at a terminal.

The mail's own story is told by events; these lines are for whoever runs the processes. Every value is escaped, so
nothing a client sends can start a new line.
"""

import contextlib
import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import TextIO

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_STEERING = re.compile("[\x80-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Ends of lines, controls and directions that JSON lets stand."""
_encoder = msgspec.json.Encoder(enc_hook=str)
_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _tame(text: str) -> str:
    """Escape in JSON what it need not escape, but readers of lines and terminals would obey."""
    return text if text.isascii() else _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class JsonLines(logging.Formatter):
    """One JSON object a record: at, level, room, text, and whatever was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        line = _beginning(record.created, record.levelname.lower(), record.name, record.getMessage())
        line |= {name: value for name, value in _extra(record).items() if name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _tame(_encoder.encode(line).decode())


def _beginning(at: float, level: str, room: str, text: str) -> dict[str, object]:
    return {
        "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "room": room,
        "text": text,
    }


def tell(log: logging.Logger, text: str, **fields: object) -> None:
    """Log at INFO, as `log.info(text, extra=fields)` does, at a third of its price: for lines of every message."""
    if not log.isEnabledFor(logging.INFO):
        return
    root = logging.root.handlers
    if len(root) == 1 and isinstance(root[0], _Lines) and not log.handlers:
        line = _encoder.encode(_beginning(time.time(), "info", log.name, text) | fields)
        root[0].write(line if line.isascii() else _tame(line.decode()).encode())
    else:
        log.info(text, extra=fields)


class _Lines(logging.StreamHandler[TextIO]):
    """JSON lines on standard error."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(JsonLines())

    def write(self, line: bytes) -> None:
        """Write a line that is made already; nobody is told if that fails, like any other line."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.buffer.write(line + b"\n")
            self.stream.flush()


class Terminal(logging.Formatter):
    """A line a person reads: time, room, text, extras."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, coloured by level."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        extra = " ".join(f"{name}={_tame(json.dumps(value, default=str))}" for name, value in _extra(record).items())
        text = _tame(json.dumps(record.getMessage(), ensure_ascii=False))[1:-1]
        line = f"{at} {record.name:9} {_COLOURS.get(record.levelname, '')}{text}\x1b[0m {extra}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str = "INFO") -> None:
    """Send all log records to standard error, once per process."""
    handler: logging.Handler = _Lines()
    if sys.stderr.isatty():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(Terminal())
    # Nothing shows where a line was logged, so nobody looks for it; this costs a tenth of a line.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # mail.log shows lines of mail at DEBUG; uvicorn tells of its own start and end what the room tells already
    for noisy in ("mail.log", "nats", "asyncio", "httpx", "uvicorn.access", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
