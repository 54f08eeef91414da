"""Postfix, Exim and OpenSMTPD under MTA-STS policies: what is enforced is met, or nothing of the message leaves.

Between delivery and the receiver stands a tap. It hears every octet towards the receiver, and can do what the policy is
there against: take STARTTLS out of the receiver's answer.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from services.command.ports import free_port
from shared.contract.events import MessageAttempted
from shared.runtime.certificates import CA_FILE
from tests.delivery.conftest import world
from tests.delivery.house import delivering
from tests.delivery.policy_host import PolicyHost, policy
from tests.delivery.test_policies import Authority, authority
from tests.delivery.world import World
from tests.judges import receivers
from tests.judges.receivers import Receiver

__all__ = ["authority", "world"]

pytestmark = pytest.mark.judge

ADDRESSES = {"postfix": "127.0.0.8", "exim": "127.0.0.9", "opensmtpd": "127.0.0.10"}
TAPPED = "127.0.0.3"
_numbers = itertools.count(1)


class Tap:
    """Passes connections on to a receiver and keeps what went there; `strip` hides that it offers STARTTLS."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.strip = False
        self.heard = bytearray()

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator["Tap"]:
        """Listen on `port` of the address that DNS leads to, for the length of a block."""
        async with await asyncio.start_server(self._serve, TAPPED, port):
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self.receiver.address, self.receiver.port)
        await asyncio.gather(self._out(reader, back), self._home(there, writer))

    async def _out(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while octets := await source.read(65536):
                self.heard += octets
                target.write(octets)
                await target.drain()
        target.close()

    async def _home(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while octets := await source.read(65536):
                target.write(octets.replace(b"STARTTLS", b"XNOTHING") if self.strip else octets)
                await target.drain()
        target.close()


class Scene:
    """A world, a real receiver behind a tap, and the policy of its domain."""

    def __init__(self, world: World, receiver: Receiver, tap: Tap, host: PolicyHost, authority: Authority) -> None:
        self.world, self.receiver, self.tap, self.host, self.authority = world, receiver, tap, host, authority
        self.domain = f"{receiver.name}.example"

    def trust(self) -> None:
        """Have delivery trust who signed the receiver's certificate."""
        bundle = self.authority.bundle
        bundle.write_bytes(bundle.read_bytes() + (self.receiver.here / "tls" / CA_FILE).read_bytes())

    def demand(self, mode: str, mx: str = "") -> None:
        """Publish a policy, under an id of its own."""
        self.host.body = policy(mode, mx or f"mx.{self.domain}")
        self.world.dns.set(f"_mta-sts.{self.domain}", "TXT", f"v=STSv1; id={next(_numbers)};")

    async def sent(self, *wanted: str) -> tuple[MessageAttempted, bytes]:
        """Send one message until it has one of these states; return its last record and what its body says."""
        marker = f"marker-{next(_numbers)}-of-{self.receiver.name}".encode()
        settings = self.world.settings(
            retry_waits_seconds=(3600,), mta_sts_port=self.host.port, mta_sts_fetch_seconds=10.0
        )
        async with delivering(self.world.server, settings):
            envelope = await self.world.tenant.accept(f"everybody@{self.domain}", text=marker + b"\r\n")
            event = await self.world.watcher.until(envelope, *wanted)
        assert isinstance(event, MessageAttempted)
        return event, marker

    async def kept(self, marker: bytes) -> bytes:
        """Wait until the receiver keeps a message, and return it as it lies there."""
        async with asyncio.timeout(60):
            while True:
                found = [mail for mail in self.receiver.kept() if marker in mail]
                if found:
                    assert len(found) == 1
                    return found[0]
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module", params=ADDRESSES)
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """Run a receiver."""
    start: Callable[[str, int], Receiver] = getattr(receivers, request.param)
    host = start(ADDRESSES[request.param], free_port())
    yield host
    host.stop()


@pytest.fixture
async def scene(world: World, receiver: Receiver, authority: Authority) -> AsyncIterator[Scene]:
    """Lead a domain to the receiver, through the tap, and give it a policy host."""
    domain = f"{receiver.name}.example"
    world.dns.set(domain, "MX", f"10 mx.{domain}.")
    world.dns.set(f"mx.{domain}", "A", TAPPED)
    world.dns.set(f"mta-sts.{domain}", "A", "127.0.0.1")
    tap = Tap(receiver)
    async with PolicyHost(authority.context(f"mta-sts.{domain}")) as host, tap.listening(world.exchanger.port):
        yield Scene(world, receiver, tap, host, authority)


@pytest.mark.parametrize("mode", ["enforce", "testing"])
async def test_met(scene: Scene, mode: str) -> None:
    """With a certificate that verifies, the message arrives over TLS, and nothing of it was heard on the way."""
    scene.trust()
    scene.demand(mode)
    event, marker = await scene.sent("delivered")
    (tried,) = event.exchangers
    assert tried.policy.startswith(f"MTA-STS {mode} ")
    assert (tried.tls_verified, tried.tls_problem) == (True, "")
    assert re.search(rb"TLSv?1\.[23]", (await scene.kept(marker)).split(b"\r\n\r\n", 1)[0])
    assert b"STARTTLS" in scene.tap.heard
    assert b"MAIL FROM" not in scene.tap.heard
    assert marker not in scene.tap.heard


def _unsigned(scene: Scene) -> None:
    """Nobody whom delivery trusts has signed the certificate."""


def _other_name(scene: Scene) -> None:
    scene.trust()
    scene.world.dns.set(scene.domain, "MX", f"10 other.{scene.domain}.")
    scene.world.dns.set(f"other.{scene.domain}", "A", TAPPED)


def _stripped(scene: Scene) -> None:
    scene.trust()
    scene.tap.strip = True


BREACHES: dict[str, tuple[Callable[[Scene], None], str]] = {
    "a certificate nobody signed": (_unsigned, "does not verify"),
    "a certificate for another name": (_other_name, "does not verify"),
    "no STARTTLS": (_stripped, "does not offer STARTTLS"),
}


@pytest.mark.parametrize("breach", BREACHES)
async def test_not_met(scene: Scene, breach: str) -> None:
    """Enforced: it waits with 4.7.5 and not even a sender was heard. In testing the same delivers: the control."""
    prepare, why = BREACHES[breach]
    prepare(scene)
    scene.demand("enforce", f"*.{scene.domain}")
    event, marker = await scene.sent("deferred", "delivered")
    (recipient,) = event.recipients
    assert recipient.last is not None
    assert (recipient.status, recipient.last.enhanced) == ("deferred", "4.7.5")
    assert why in recipient.last.text
    assert b"EHLO" in scene.tap.heard
    assert b"MAIL FROM" not in scene.tap.heard
    assert marker not in scene.tap.heard

    scene.demand("testing", f"*.{scene.domain}")
    event, delivered = await scene.sent("delivered")
    assert why in event.exchangers[-1].tls_problem
    await scene.kept(delivered)
    assert (delivered in scene.tap.heard) == scene.tap.strip, "the tap hears what is in clear, and only that"
    assert not any(marker in mail for mail in scene.receiver.kept())
