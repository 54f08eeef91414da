"""What `Bus.reached` promises, seen from the wire: the answer it waits for comes after all that was sent before it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from shared.bus.client import Bus, connect
from shared.bus.settings import BusSettings
from shared.runtime.secret import Secret

INFO = b'INFO {"server_id":"T","version":"2.12.0","max_payload":1048576,"headers":true,"jetstream":true}\r\n'


class Wire:
    """As much of a server as notes what comes in which order, and answers PING."""

    def __init__(self) -> None:
        self.read: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        writer.write(INFO)
        while line := await reader.readline():
            self.read.append(line.strip())
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()


@pytest.fixture
async def wire() -> AsyncIterator[tuple[Wire, Bus]]:
    """Give a test a wire and a bus connected to it."""
    wire = Wire()
    async with await asyncio.start_server(wire.serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        bus = await connect(BusSettings(url=f"nats://{host}:{port}", user="t", password=Secret("t")), "test")
        yield wire, bus
        await bus.close()
        server.close()


async def test_all_sent_before_is_received_when_it_returns(wire: tuple[Wire, Bus]) -> None:
    """A subscription and a message, not yet written, both arrive before the last PING."""
    seen, bus = wire
    for number in range(20):
        await bus.listen(f"heard.{number}", _ignore)
        await bus.publish(f"said.{number}", b"word")
        assert await bus.reached()
        pings = [at for at, line in enumerate(seen.read) if line == b"PING"]
        assert _place(seen.read, b"SUB heard.%d " % number) < pings[-1]
        assert _place(seen.read, b"PUB said.%d " % number) < pings[-1]


async def test_the_clients_own_flush_promises_less(wire: tuple[Wire, Bus]) -> None:
    """The control: its PING overtakes what still waits to be written. If this fails, `reached` can be simpler."""
    seen, bus = wire
    await bus.publish("said", b"word")
    await bus.nc.flush()
    pings = [at for at, line in enumerate(seen.read) if line == b"PING"]
    assert not any(line.startswith(b"PUB said") for line in seen.read[: pings[-1]])


async def test_nothing_is_reached_without_a_server(wire: tuple[Wire, Bus]) -> None:
    """A closed connection is told, not raised."""
    _, bus = wire
    await bus.nc.close()
    assert not await bus.reached(1)


def _place(lines: list[bytes], start: bytes) -> int:
    return next(at for at, line in enumerate(lines) if line.startswith(start))


async def _ignore(_subject: str, _body: bytes) -> None:
    """Take no notice."""
