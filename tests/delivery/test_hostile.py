"""Answers made to confuse: of name servers and of mail servers. None is a fault of ours, none ends mail for good."""

from pathlib import Path

import pytest

from services.delivery import own_address
from services.delivery.core import reach
from services.delivery.core.outcome import Bounced, Deferred, Delivered
from services.delivery.core.sts import OPPORTUNISTIC
from services.delivery.exchangers import Exchangers
from services.delivery.policies import Policies
from tests.delivery.exchanger import Exchanger
from tests.delivery.test_cases import tap
from tests.delivery.test_courier import field, only, server_context
from tests.delivery.world import World


@pytest.mark.parametrize("size", ["SIZE " + "9" * 5000, "SIZE \u00b2", "SIZE -1", "SIZE", "SIZE 0", "SIZE x"])
async def test_a_size_that_is_no_number(size: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server that offers a nonsensical size takes any."""
    async with field(tmp_path, Exchanger(extensions=(size,))) as made:
        assert isinstance(only(await made.send("x@rcpt.test")), Delivered)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "name", [r"\200" * 63 + ".rcpt.test", r"\000.rcpt.test", r"\..rcpt.test", "*.test", "_mx.test"]
)
async def test_an_exchanger_with_an_odd_name(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A name that no certificate can have is as good as any where TLS is opportunistic."""
    exchanger = Exchanger(tls=server_context(tmp_path))
    async with field(tmp_path, exchanger) as made:
        made.dns.set("rcpt.test", "MX", f"10 {name}.")
        made.dns.set(name, "A", "127.0.0.1")
        attempted = await made.send("x@rcpt.test")
    assert isinstance(only(attempted), Delivered)
    assert [message.tls for message in exchanger.received] == [True]
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("reply", [b"530 5.7.0 Must issue a STARTTLS command first\r\n", b"530 no\r\n"])
async def test_a_server_that_demands_tls(reply: bytes, tmp_path: Path) -> None:
    """A server that wants TLS, which cannot be had from it now, is tried again; one that has it and refuses, not."""
    exchanger = Exchanger(tls=server_context(tmp_path))
    exchanger.script["STARTTLS"] = [(b"454 4.7.0 TLS not available\r\n",)]
    exchanger.script["MAIL"] = [(reply,)]
    async with field(tmp_path, exchanger) as made:
        result = only(await made.send("x@rcpt.test"))
    assert isinstance(result, Deferred)
    assert result.diagnosis.code == 530
    sound = Exchanger(tls=server_context(tmp_path))
    sound.script["MAIL"] = [(reply,)]
    async with field(tmp_path, sound) as made:
        assert isinstance(only(await made.send("x@rcpt.test")), Bounced)


async def test_our_own_addresses_are_never_contacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of this machine is refused though it is public and no setting names it; one that is opened is not."""
    assert own_address.is_local("127.0.0.1")
    assert own_address.is_local("::1")
    assert not own_address.is_local("192.0.2.1")
    for opened in ("127.0.0.1", "::ffff:127.0.0.1"):
        assert not own_address.is_own(opened, reach.networks(["127.0.0.0/8"]))
    monkeypatch.setattr(own_address, "is_local", lambda address: address in ("9.9.9.9", "127.0.0.1"))
    exchanger = Exchanger()
    async with field(tmp_path, exchanger) as made:
        made.dns.set("mx.rcpt.test", "A", "9.9.9.9")
        with tap() as heard:
            result = only(await made.send("x@rcpt.test"))
        assert isinstance(result, Bounced)
        assert (result.diagnosis.enhanced, "our own" in result.diagnosis.text, heard) == ("5.4.4", True, [])
        made.dns.set("rcpt.test", "MX", "10 mx.rcpt.test.", "20 second.rcpt.test.")
        made.dns.set("second.rcpt.test", "A", "127.0.0.1")
        assert isinstance(only(await made.send("x@rcpt.test")), Delivered)


async def test_our_own_addresses_serve_no_policy(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a policy fetched from ourselves."""
    world.dns.set("mta-sts.rcpt.test", "A", "9.9.9.9")
    world.dns.set("_mta-sts.rcpt.test", "TXT", "v=STSv1; id=1;")
    monkeypatch.setattr(own_address, "is_local", lambda address: address == "9.9.9.9")
    settings = world.settings()
    policies = Policies(settings, world.watcher.bus, Exchangers(settings))
    with tap() as heard:
        assert await policies.of("rcpt.test") == OPPORTUNISTIC
    assert heard == []
