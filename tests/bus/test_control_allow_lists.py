"""The deprecated allow list over the API: imported by operators, shown as IBM shows it, migrated; rule reports."""

import asyncio
from datetime import UTC, datetime, timedelta

from shared.bus.kv import Bucket
from shared.contract.records import Configuration
from shared.contract.siblings import RuleReport
from tests.bus.test_control import refused
from tests.control_world import Tenant, World

AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def explained(tenant: Tenant, address: str) -> dict[str, object]:
    """Return why an address is let in."""
    answer = tenant.reader.get(f"/v1/postlane/instances/{tenant.id}/access", params={"address": address})
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


def test_a_list_is_imported_shown_and_lapses(world: World, tenant: Tenant) -> None:
    """Operators import it; IBM's read-only view shows it while it lasts; the explanation says what it does."""
    path = f"{tenant.own}/allowed_addresses"
    refused(tenant.manager.put(path, json={"subnets": ["198.51.100.7"]}), 403, "not_allowed")
    assert len(refused(tenant.operator.put(path, json={"subnets": ["x", "y"]}), 400)) == 2
    refused(tenant.operator.put(path, json={"subnets": [], "until": "2027-01-01T00:00:00"}), 400)
    before = tenant.reader.get(f"{tenant.path}/allowed_ips").json()
    assert before["subnets"] == ["192.0.2.1"]
    made = tenant.operator.put(path, json={"subnets": ["198.51.100.7", "44.255.224.210/20"]}).json()
    assert (made["subnets"], made["in_force"]) == (["198.51.100.7", "44.255.224.0/20"], True)
    until = datetime.fromisoformat(made["until"]) - datetime.now(UTC)
    assert timedelta(days=182) < until <= timedelta(days=183), "six months by default"
    assert tenant.reader.get(path).json() == made
    shown = tenant.reader.get(f"{tenant.path}/allowed_ips").json()
    assert shown["subnets"] == ["192.0.2.1", "198.51.100.7", "44.255.224.0/20"]
    assert shown["updated_at"] > before["updated_at"]
    refused(tenant.manager.patch(f"{tenant.path}/allowed_ips", json={"subnets": []}), 405)
    listed = explained(tenant, "198.51.100.7")
    assert listed["admitted"] is False
    assert f"the imported list of {tenant.domain} admits it for that domain until" in str(listed["sentence"])
    assert explained(tenant, "198.51.100.8")["allow_lists"] == []
    tenant.operator.put(path, json={"subnets": ["198.51.100.7"], "until": "2026-01-01T00:00:00Z"})
    assert tenant.reader.get(f"{tenant.path}/allowed_ips").json()["subnets"] == ["192.0.2.1"]
    assert "had it until 2026-01-01" in str(explained(tenant, "198.51.100.7")["sentence"])
    ended = tenant.operator.put(path, json={"subnets": []}).json()
    assert ended == {"subnets": [], "in_force": False}


def test_a_migration_makes_zones_and_widens_every_rule(world: World, tenant: Tenant) -> None:
    """A dry run changes nothing; a migration lets the addresses in by rules and empties the list; twice is once."""
    second = tenant.manager.made("/v1/zones", tenant.zone_body("second", "192.0.2.1", "192.0.2.2"))
    tenant.manager.made("/v1/rules", tenant.rule_body(second["id"]))
    tenant.operator.put(f"{tenant.own}/allowed_addresses", json={"subnets": ["198.51.100.0/24"]})
    path = f"/v1/postlane/instances/{tenant.id}/allowed_addresses/migrate"
    before = world.records()
    refused(tenant.reader.post(path), 403)
    planned = tenant.manager.post(path, params={"dry_run": "true"}).json()
    assert world.records() == before
    assert (len(planned["migration"]["zones"]), len(planned["migration"]["rules"])) == (1, 2)
    assert explained(tenant, "198.51.100.9")["admitted"] is False
    done = tenant.manager.post(path).json()
    assert done["migration"] == planned["migration"]
    assert explained(tenant, "198.51.100.9")["admitted"] is True
    assert explained(tenant, "192.0.2.1")["admitted"] is True
    assert explained(tenant, "192.0.2.2")["admitted"] is False
    assert tenant.reader.get(f"{tenant.path}/allowed_ips").json()["subnets"] == ["192.0.2.1", "198.51.100.0/24"]
    record = world.records()[f"configuration.{tenant.configuration}"]
    assert isinstance(record, Configuration)
    assert (record.allowed_addresses, record.allowed_until) == ((), None)
    after = world.records()
    assert tenant.manager.post(path).json()["migration"] == {"zones": [], "rules": []}
    assert world.records() == after


def test_without_a_rule_a_migration_makes_one(world: World, tenant: Tenant) -> None:
    """The zone alone would open nothing; the rule made is one that IBM's clients can read."""
    assert tenant.manager.delete(f"/v1/rules/{tenant.rule['id']}").status_code == 204
    tenant.operator.put(f"{tenant.own}/allowed_addresses", json={"subnets": ["198.51.100.7"]})
    tenant.manager.post(f"/v1/postlane/instances/{tenant.id}/allowed_addresses/migrate")
    assert explained(tenant, "198.51.100.7")["admitted"] is True
    (rule,) = tenant.reader.get("/v1/rules", params={"account_id": tenant.id}).json()["rules"]
    (zone,) = (
        each
        for each in tenant.reader.get("/v1/zones", params={"account_id": tenant.id}).json()["zones"]
        if each["name"].startswith("allowed ")
    )
    assert rule["contexts"] == [{"attributes": [{"name": "networkZoneId", "value": zone["id"]}]}]


def test_what_rules_in_report_mode_saw_is_listed(world: World, tenant: Tenant) -> None:
    """Newest first, for the tenant alone."""
    stranger = world.tenant()

    async def note() -> None:
        bus = await world.bus.connect("ingress")
        bucket: Bucket[RuleReport] = Bucket(bus, "reports", RuleReport)
        for number, instance in enumerate((tenant.id, tenant.id, stranger.id)):
            report = RuleReport(
                at=AT + timedelta(minutes=number), instance=instance, rule="r1", address=f"192.0.2.{number}",
                endpoint="public", username="u",
            )  # fmt: skip
            await bucket.put(f"{instance}.r1.public.{number}", report)
        await bus.close()

    asyncio.run(note())
    path = f"/v1/postlane/instances/{tenant.id}/access/reports"
    assert [each["address"] for each in tenant.reader.get(path).json()["reports"]] == ["192.0.2.1", "192.0.2.0"]
    refused(stranger.reader.get(path), 404, "instance_not_found")
