"""The octets of DATA: where they end, and without their transparency dots (RFC 5321 §4.5.2).

Only CR LF . CR LF ends a message. Nothing else is taken for a line end, and nothing is repaired: a stray CR or LF
is found later and refused.
"""

from typing import Literal

END = b"\r\n.\r\n"
_DOT = b"\r\n."
LINE_LIMIT = 998  # RFC 5322 §2.1.1, without CRLF
_RAW_LINE = LINE_LIMIT + 3
"""A line on the wire: with its CRLF, and a dot in front (RFC 5321 §4.5.3.1.6)."""

Trouble = Literal["", "too large", "line too long", "no budget"]


class DataDecoder:
    """Collects the octets after 354. Holds at most `limit` octets and, once something is wrong, next to nothing."""

    def __init__(self, limit: int) -> None:
        """Prepare for a message of at most `limit` octets."""
        self._limit = limit
        self._raw = bytearray(b"\r\n")  # the CRLF of the DATA command counts: `.` CRLF ends an empty message
        self._line_start = 2
        self._dots = self._counted = 0
        """Transparency dots in so many octets from the start."""
        self.trouble: Trouble = ""
        self.discarded = 0
        """Octets thrown away since something went wrong."""

    @property
    def held(self) -> int:
        """Octets held in memory."""
        return len(self._raw)

    def give_up(self, trouble: Trouble) -> None:
        """Keep nothing from here on, but go on looking for the end."""
        self.trouble = self.trouble or trouble
        self.discarded += max(0, len(self._raw) - 4)
        del self._raw[:-4]

    def feed(self, chunk: bytes | bytearray) -> bytes | None:
        """Take the next octets; None while the end has not come, then what follows the end."""
        raw = self._raw
        before = len(raw)
        raw += chunk
        end = raw.find(END, max(0, before - 4))
        rest: bytes | None = None
        if end >= 0:
            rest = bytes(raw[end + 5 :])
            del raw[end + 2 :]
        if self.trouble:
            self.give_up(self.trouble)
        elif not self._lines_fit():
            self.give_up("line too long")
        elif len(raw) - 2 > self._limit and self._size() > self._limit:
            self.give_up("too large")
        return rest

    def message(self) -> bytes:
        """Return the message, dots removed, ending in CRLF unless it is empty; the decoder is empty afterwards."""
        raw, self._raw = self._raw, bytearray()
        if b"\r\n." in raw:
            raw = raw.replace(b"\r\n.", b"\r\n")
        with memoryview(raw) as view:
            return bytes(view[2:])

    def _size(self) -> int:
        # A dot and CR at the end may be the end of the message cut in two: no octet of it counts yet.
        raw = self._raw
        undecided = raw.endswith(b"\r\n.\r")
        # Each octet is counted once, however small the pieces are in which a large message comes. What may be the
        # beginning of the end is not settled.
        settled = max(self._counted, len(raw) - len(END) + 1)
        self._dots += raw.count(_DOT, self._counted, settled + len(_DOT) - 1)
        self._counted = settled
        return len(raw) - 2 - self._dots - raw.count(_DOT, settled) - undecided

    def _lines_fit(self) -> bool:
        # Hop from line end to line end in steps of a whole line: cheap also for long messages.
        start, raw = self._line_start, self._raw
        while len(raw) - start > _RAW_LINE:
            end = raw.rfind(b"\n", start, start + _RAW_LINE)
            if end < 0:
                return False
            start = end + 1
        self._line_start = start
        return True
