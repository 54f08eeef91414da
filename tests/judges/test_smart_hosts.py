"""Mail servers of a customer relay through us: TLS checked, SASL, pipelining, AUTH= on MAIL, bounces of their own."""

import smtplib
from collections.abc import Callable, Iterator

import dkim
import pytest

from tests.journeys.test_first_message import arrived, published_key
from tests.judges.smart_hosts import SmartHost, Upstream, exim, postfix
from tests.system import System, eventually

pytestmark = pytest.mark.judge


@pytest.fixture(params=[postfix, exim])
def relay(request: pytest.FixtureRequest, system: System) -> Iterator[SmartHost]:
    """Run a mail server that relays through the system."""
    tenant = system.tenant
    start: Callable[[Upstream], SmartHost] = request.param
    host = start(
        Upstream(system.ready["smtp"]["port"], system.ready["ca_file"], tenant["username"], tenant["password"])
    )
    yield host
    host.stop()


def test_a_mail_server_relays_through_us(system: System, relay: SmartHost) -> None:
    """Several messages, one with two recipients and one in eight bits: each is accepted once, arrives and verifies."""
    tenant, marker = system.tenant, f"relayed-by-{relay.name}"
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        for number in range(3):
            to = ["delivered@inbox.example", f"second{number}@inbox.example"]
            body = "Grüße, über den Umweg." if number == 2 else "Hello by a detour."
            message = system.message(to[0], f"{marker}-{number}", body)
            client.sendmail(f"app@{tenant['domain']}", to, message, ["BODY=8BITMIME"] if number == 2 else [])
    keys = published_key(system)
    for number in range(3):
        assert dkim.verify(arrived(system, f"{marker}-{number}"), dnsfunc=lambda name, timeout=5: keys[name])
    copies = [mail for mail in system.arrived() if marker.encode() in mail]
    assert len(copies) == 3  # one transaction each, with both recipients
    eventually("the server saw our replies", lambda: relay.log().count("Ok: queued as") >= 3)
    assert "ESMTPSA" in copies[0].decode(errors="replace")


def test_a_bounce_of_theirs_is_taken(system: System, relay: SmartHost) -> None:
    """With the null sender, a mail server may send as long as the header From is in the user's domain."""
    marker = f"bounced-by-{relay.name}"
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        client.sendmail("", ["delivered@inbox.example"], system.message("delivered@inbox.example", marker))
    assert b"Hello." in arrived(system, marker)
    eventually("the server saw our reply", lambda: "Ok: queued as" in relay.log())


def test_a_refusal_stays_with_them(system: System, relay: SmartHost) -> None:
    """A sender that is not the customer's is refused for good, in words its mail server logs."""
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=30) as client:
        client.sendmail(
            "ceo@somebody-else.example", ["delivered@inbox.example"], system.message("delivered@inbox.example", "no")
        )
    said = "Sender domain somebody-else.example is not one this username may send for"
    eventually("the server was told", lambda: said in relay.log())
