"""An ingress that starts beside a later control: what it cannot read it does not refuse for good (U03)."""

import asyncio
import smtplib
from pathlib import Path

import pytest

from tests.bus_server import BusServer
from tests.dialogues.test_server import MAIL, _until, begin, bus, connect, running, with_tenants
from tests.ingress_process import Tenants, client_context, password_of

__all__ = ["bus"]  # a fixture


def written(bus: BusServer, *keys: str) -> None:
    """Write records of a later version."""

    async def write() -> None:
        control = await bus.connect("control")
        for key in keys:
            await control.store(f"$KV.directory.{key}", b'{"type":"later.v1"}', stream="KV_directory")
        await control.close()

    asyncio.run(write())


def login(port: int, username: str, password: str) -> int:
    """Return the code a login is answered with."""
    with smtplib.SMTP_SSL("127.0.0.1", port, timeout=20, context=client_context()) as client:
        try:
            return client.login(username, password)[0]
        except smtplib.SMTPAuthenticationError as fault:
            return fault.smtp_code


def test_nobody_is_refused_for_good(bus: BusServer, tmp_path: Path) -> None:
    """A login that cannot be decided is told 454, a sender 451; both are let in once the records can be read."""

    async def put_back(tenants: Tenants) -> None:
        await tenants.configuration("a", "shop", "shop.example")
        await tenants.configuration("b", "rival", "rival.example")
        await tenants.rule("b", "127.0.0.1/32")  # last, for it is waited for

    written(bus, "configuration.rival", "authorization.shop")
    with running(bus, tmp_path) as ingress:
        assert login(ingress.ports["tls"], "bob", password_of("bob")) == 454
        with connect(ingress) as client:
            code, text = client.mail("a@shop.example")
            assert (code, text[:5]) == (451, b"4.3.0")
            with_tenants(bus, put_back)
            _until(lambda: login(ingress.ports["tls"], "bob", password_of("bob")) == 235)
            assert login(ingress.ports["tls"], "bob", "wrong") == 535
            client.rset()
            begin(client)
            assert client.data(MAIL + "text\r\n")[0] == 250


@pytest.mark.parametrize("kind", ["suspension", "rule"])
def test_nobody_slips_through(bus: BusServer, tmp_path: Path, kind: str) -> None:
    """A suspension that cannot be read is not taken for none, nor is a rule; the other tenants send."""
    written(bus, "suspension.shop" if kind == "suspension" else "rule.rule-b")
    with running(bus, tmp_path) as ingress:
        if kind == "rule":
            assert login(ingress.ports["tls"], "bob", password_of("bob")) == 454
            return
        with connect(ingress) as client:
            assert client.mail("a@shop.example")[0] == 451
            assert client.mail("a@second.example")[0] == 250
