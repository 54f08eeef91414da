"""Rules of so many networks that they are compiled beside the sessions: every change comes into force all the same."""

import smtplib
from ipaddress import ip_address
from pathlib import Path

import msgspec

from shared.contract.records import Rule, RuleContext, Zone, ZoneAddress
from tests.bus_server import BusServer
from tests.dialogues.test_credentials import logs_in, until
from tests.dialogues.test_server import bus as bus
from tests.dialogues.test_server import connect, running, with_tenants
from tests.ingress_process import AT, Tenants, password_of

ZONES = 25
NETWORKS = 1_000
HOME = ZoneAddress(type="ipAddress", value="127.0.0.1")


def zone(number: int, *more: ZoneAddress) -> Zone:
    """Make a zone of a thousand networks, and more."""
    first = [(number * NETWORKS + each) * 256 + (10 << 24) for each in range(NETWORKS - len(more))]
    entries = tuple(ZoneAddress(type="subnet", value=f"{ip_address(each)}/24") for each in first)
    return Zone(
        id=f"z{number}", instance="a", name=f"z{number}", addresses=(*more, *entries), created_at=AT, updated_at=AT
    )


def put(bus: BusServer, *zones: Zone) -> None:
    """Write zones, and the rule that lets all of them in."""

    async def write(tenants: Tenants) -> None:
        for each in zones:
            await tenants.directory.put(f"zone.{each.id}", each)

    with_tenants(bus, write)


def name_zones(bus: BusServer, *names: str) -> None:
    """Let exactly these zones in."""

    async def write(tenants: Tenants) -> None:
        entry = await tenants.directory.get("rule.rule-a")
        assert entry is not None
        assert isinstance(entry.record, Rule)
        rule = msgspec.structs.replace(entry.record, contexts=(RuleContext(zones=names),))
        await tenants.directory.put("rule.rule-a", rule)

    with_tenants(bus, write)


def refused(client: smtplib.SMTP) -> bool:
    """Whether MAIL is refused because of the address."""
    code, text = client.mail("a@shop.example")
    client.rset()
    return code == 550 and b"no longer allowed" in text


def test_changes_of_large_rules_come_into_force(bus: BusServer, tmp_path: Path) -> None:
    """An address leaves one of many zones and comes back; zones leave the rule; the rule becomes small again."""
    put(bus, *(zone(number) for number in range(ZONES)), zone(7, HOME))
    name_zones(bus, *(f"z{number}" for number in range(ZONES)))
    with running(bus, tmp_path) as ingress, connect(ingress) as client:
        assert client.mail("a@shop.example")[0] == 250
        client.rset()
        put(bus, zone(7))
        until(lambda: refused(client))
        assert not logs_in(ingress, password_of("alice"))
        put(bus, zone(8, HOME))
        until(lambda: logs_in(ingress, password_of("alice")))
        name_zones(bus, *(f"z{number}" for number in range(ZONES) if number != 8))
        until(lambda: not logs_in(ingress, password_of("alice")))
        name_zones(bus, "z8")
        until(lambda: logs_in(ingress, password_of("alice")))
