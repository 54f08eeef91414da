"""Answers made to confuse: of name servers and of mail servers. None is a fault of ours, none ends mail for good."""

from pathlib import Path

import pytest

from services.delivery.core.outcome import Bounced, Deferred, Delivered
from tests.delivery.exchanger import Exchanger
from tests.delivery.test_courier import field, only, server_context


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
