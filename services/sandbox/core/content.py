"""The octets after DATA: where they end, and what they were before the dots were stuffed."""

END = b"\r\n.\r\n"
"""RFC 5321 §4.1.1.4: only CRLF, dot, CRLF ends the data."""


class Content:
    """Takes the octets as they come, however they are cut. Over the limit it keeps nothing, but still finds the end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._received = bytearray(b"\r\n")  # so that a dot in the first line is found like any other
        self._looked = 0
        self._too_large = False

    def feed(self, octets: bytes) -> bytes | None:
        """Take more octets; return those behind the end of the data (maybe none), or None before the end."""
        self._received += octets
        end = self._received.find(END, self._looked)
        if end >= 0:
            behind = bytes(self._received[end + len(END) :])
            self._too_large = self._too_large or end > self._limit
            del self._received[end + 2 :]
            return behind
        self._looked = max(0, len(self._received) - len(END) + 1)
        if len(self._received) > self._limit + len(END):
            self._too_large = True
            del self._received[: self._looked]
            self._looked = 0
        return None

    def whole(self) -> bytes | None:
        """Return the message, once its end was found; None if it was over the limit."""
        if self._too_large:
            return None
        return bytes(self._received).replace(b"\r\n.", b"\r\n")[2:]  # RFC 5321 §4.5.2
