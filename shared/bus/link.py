"""The client library's connection, made to let go of a peer that reads nothing any more and to be strict in headers."""

from nats.aio.client import Client

from shared.bus.origin import headers_of


class Link(Client):
    """Reconnects at once. The library first waits until everything it holds is written to the lost peer.

    If that is more than the sockets take (large mails on a link that drops everything, or a stopped server) the wait
    ends when TCP gives up, after a quarter of an hour; until then nobody hears of the loss.
    """

    def let_go(self) -> None:
        """End the present connection without writing what is left: whoever sent it takes it for not sent."""
        self._pending, self._pending_data_size = [], 0
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        return headers_of(raw)

    async def _attempt_reconnect(self) -> None:
        self.let_go()
        await super()._attempt_reconnect()
