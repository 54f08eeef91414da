"""Credentials at two ingress processes: rotation, expiry, revocation, last use; the allow list; rules that report."""

import asyncio
import contextlib
import smtplib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from shared.bus.kv import Bucket
from shared.contract.records import Password, Rule
from shared.contract.siblings import PasswordUse, RuleReport
from tests.bus_server import BusServer
from tests.dialogues.test_server import MAIL, PAUSE_SECONDS, WAIT_SECONDS, begin, connect, running, with_tenants
from tests.dialogues.test_server import bus as bus
from tests.ingress_process import AT, CHEAP, IngressProcess, Tenants, client_context, password_of

SECOND = "the-second-password"


@contextlib.contextmanager
def pair(bus: BusServer, directory: Path, **settings: str) -> Iterator[tuple[IngressProcess, IngressProcess]]:
    """Run two ingress processes."""
    for name in ("one", "two"):
        (directory / name).mkdir()
    with running(bus, directory / "one", **settings) as one, running(bus, directory / "two", **settings) as two:
        yield one, two


def passwords(bus: BusServer, *wanted: Password) -> None:
    """Give alice these passwords, in `shop.example` and in her clone's configuration.

    That of `shop.example`, which the tests send from, comes last: what holds there holds everywhere.
    """

    async def put(tenants: Tenants) -> None:
        for configuration in ("second", "shop"):
            key = f"user.{configuration}.u-alice"
            entry = await tenants.directory.get(key)
            assert entry is not None
            await tenants.directory.put(key, msgspec.structs.replace(entry.record, passwords=wanted))

    with_tenants(bus, put)


def password(name: str, text: str) -> Password:
    """Make a password."""
    return Password(id=name, hash=CHEAP.hash(text), created_at=AT)


def log_in(ingress: IngressProcess, text: str, source: str = "127.0.0.1", name: str = "client.example") -> smtplib.SMTP:
    """Return a client that has logged in as alice."""
    client = smtplib.SMTP("127.0.0.1", ingress.ports["public"], name, timeout=WAIT_SECONDS, source_address=(source, 0))
    client.starttls(context=client_context())
    client.login("alice", text)
    return client


def until(holds: Callable[[], bool]) -> None:
    """Wait for something to come true; how soon it does is for benchmarks to say."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(PAUSE_SECONDS)


def logs_in(ingress: IngressProcess, text: str, source: str = "127.0.0.1") -> bool:
    """Whether alice gets in."""
    try:
        log_in(ingress, text, source).quit()
    except smtplib.SMTPAuthenticationError:
        return False
    return True


def test_a_rotation_overlaps_and_a_revocation_ends_what_it_must(bus: BusServer, tmp_path: Path) -> None:
    """Both passwords work; the revoked one does not any more, cached or in an open session; the other goes on."""
    first, second = password("p1", password_of("alice")), password("p2", SECOND)
    passwords(bus, first, second)
    with pair(bus, tmp_path) as processes:
        for ingress in processes:
            assert logs_in(ingress, password_of("alice"))  # from now on known to the cache
            assert logs_in(ingress, SECOND)
        old = [connect(ingress) for ingress in processes]
        new = [log_in(ingress, SECOND) for ingress in processes]
        passwords(bus, second)
        for client in old:
            until(lambda client=client: ended(client))  # type: ignore[misc]
        for ingress in processes:
            assert not logs_in(ingress, password_of("alice"))
        for client in new:
            begin(client)
            assert client.data(MAIL)[0] == 250
            client.quit()


def ended(client: smtplib.SMTP) -> bool:
    """Whether the session ends at MAIL, with a word on what to do."""
    code, text = client.mail("a@shop.example")
    if code == 250:
        client.rset()
        return False
    assert (code, text[:5]) == (421, b"4.7.0")
    assert b"reconnect and log in again" in text
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.noop()
    return True


def test_an_expired_password_is_refused(bus: BusServer, tmp_path: Path) -> None:
    """A password works up to its end, although the cache knows it, and the session that used it ends, not before."""
    first, second = password("p1", password_of("alice")), password("p2", SECOND)
    passwords(bus, first, second)
    with running(bus, tmp_path) as ingress:
        client = connect(ingress)
        end = datetime.now(UTC) + timedelta(seconds=2)
        passwords(bus, msgspec.structs.replace(first, expires_at=end), second)
        until(lambda: ended(client))
        assert datetime.now(UTC) >= end
        assert not logs_in(ingress, password_of("alice"))
        assert logs_in(ingress, SECOND)


def uses(bus: BusServer) -> dict[str, PasswordUse]:
    """Return the noted uses of passwords."""

    async def read() -> dict[str, PasswordUse]:
        connection = await bus.connect("control")
        try:
            return {
                entry.key: entry.record
                for entry in await Bucket[PasswordUse](connection, "usage", PasswordUse).entries()
            }
        finally:
            await connection.close()

    return asyncio.run(read())


def test_the_last_use_is_noted_at_most_once_in_an_interval(bus: BusServer, tmp_path: Path) -> None:
    """The first use is written at once; later ones wait for the interval, or for the end of the process."""
    with running(bus, tmp_path, usage_seconds="3600") as ingress:
        log_in(ingress, password_of("alice"), name="jira.shop.example").quit()
        until(lambda: set(uses(bus)) == {"shop.u-alice.p1", "second.u-alice.p1"})
        noted = uses(bus)["shop.u-alice.p1"]
        assert (noted.address, noted.banner) == ("127.0.0.1", "jira.shop.example")
        assert abs((datetime.now(UTC) - noted.at).total_seconds()) < 60
        for number in range(20):
            log_in(ingress, password_of("alice"), name=f"ci{number}.shop.example").quit()
        connection_uses = uses(bus)
        assert connection_uses["shop.u-alice.p1"] == noted
    assert uses(bus)["shop.u-alice.p1"].banner == "ci19.shop.example"


def test_a_long_session_is_a_use_too(bus: BusServer, tmp_path: Path) -> None:
    """Each accepted message counts as a use of the password, not only the login."""
    with running(bus, tmp_path, usage_seconds="0.5") as ingress, connect(ingress) as client:
        until(lambda: "shop.u-alice.p1" in uses(bus))
        first = uses(bus)["shop.u-alice.p1"].at
        begin(client)
        assert client.data(MAIL)[0] == 250
        until(lambda: uses(bus)["shop.u-alice.p1"].at > first)


def test_the_allow_list_admits_until_its_date(bus: BusServer, tmp_path: Path) -> None:
    """An address no rule admits comes in by the list of its configuration, for that one alone, until the date."""

    async def import_list(tenants: Tenants, until_: datetime) -> None:
        entry = await tenants.directory.get("configuration.shop")
        assert entry is not None
        listed = msgspec.structs.replace(entry.record, allowed_addresses=("127.0.0.9",), allowed_until=until_)
        await tenants.directory.put("configuration.shop", listed)

    with pair(bus, tmp_path) as processes:
        for ingress in processes:
            assert not logs_in(ingress, password_of("alice"), "127.0.0.9")
        with_tenants(bus, lambda tenants: import_list(tenants, datetime.now(UTC) + timedelta(days=1)))
        clients = []
        for ingress in processes:
            until(lambda ingress=ingress: logs_in(ingress, password_of("alice"), "127.0.0.9"))  # type: ignore[misc]
            client = log_in(ingress, password_of("alice"), "127.0.0.9")
            assert client.mail("a@second.example")[0] == 550, "the clone's configuration has no list"
            assert client.mail("a@shop.example")[0] == 250
            client.rset()
            assert not logs_in(ingress, password_of("alice"), "127.0.0.8")
            clients.append(client)
        with_tenants(bus, lambda tenants: import_list(tenants, datetime.now(UTC)))
        for ingress, client in zip(processes, clients, strict=True):
            until(lambda client=client: refuses(client))  # type: ignore[misc]
            assert not logs_in(ingress, password_of("alice"), "127.0.0.9")
            assert logs_in(ingress, password_of("alice")), "rules count as ever"


def refuses(client: smtplib.SMTP) -> bool:
    """Whether MAIL is refused because of the client's address."""
    code, text = client.mail("a@shop.example")
    client.rset()
    return code == 550 and b"no longer allowed" in text


def test_a_rule_in_report_mode_only_reports(bus: BusServer, tmp_path: Path) -> None:
    """Whom it would refuse gets in and is noted; whom it would admit is not."""

    async def report(tenants: Tenants) -> None:
        await tenants.rule("a", "127.0.0.0/8")
        entry = await tenants.directory.get("rule.rule-a")
        assert entry is not None
        assert isinstance(entry.record, Rule)
        await tenants.rule("c", "127.0.0.1/32")
        zone = await tenants.directory.get("zone.zone-c")
        assert zone is not None
        narrow = msgspec.structs.replace(zone.record, id="narrow", instance="a")
        await tenants.directory.put("zone.narrow", narrow)
        context = msgspec.structs.replace(entry.record.contexts[0], zones=("narrow",))
        tried = msgspec.structs.replace(entry.record, id="tried", enforcement="report", contexts=(context,))
        await tenants.directory.put("rule.tried", tried)

    with_tenants(bus, report)
    with running(bus, tmp_path) as ingress:
        assert logs_in(ingress, password_of("alice"))
        assert logs_in(ingress, password_of("alice"), "127.0.0.5")
        until(lambda: bool(reports(bus)))
        assert ingress.figure("postlane_ingress_reported_total") == 1
    (found,) = reports(bus).values()
    assert (found.rule, found.address, found.endpoint, found.username) == ("tried", "127.0.0.5", "public", "alice")


def reports(bus: BusServer) -> dict[str, RuleReport]:
    """Return what rules in report mode have noted."""

    async def read() -> dict[str, RuleReport]:
        connection = await bus.connect("control")
        try:
            return {
                entry.key: entry.record
                for entry in await Bucket[RuleReport](connection, "reports", RuleReport).entries("a")
            }
        finally:
            await connection.close()

    return asyncio.run(read())
