"""What control tells contacts, on a real bus."""

from collections.abc import Iterator

import pytest

from shared.contract.events import NoticeRequested
from tests.control_world import ANSWERS, Tenant, World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give the module two replicas of control on one bus."""
    found = World(tmp_path_factory.mktemp("control"))
    yield found
    found.close()


def told(world: World, tenant: Tenant) -> list[NoticeRequested]:
    """Return what the contacts of a tenant were told, oldest first."""
    return [each for each in world.notices() if each.configuration == tenant.configuration]


def test_decisions_and_suspensions_are_told_to_the_contacts(world: World) -> None:
    """Approved, suspended, resumed, rejected: one notice each, with the operator's words."""
    tenant = world.tenant()
    tenant.operator.post(f"{tenant.own}/suspend", json={"reason": "too soon"})
    tenant.operator.post(f"{tenant.own}/resume")
    assert told(world, tenant) == []  # nobody is known yet who could be told
    contacts = ["dns@acme.example", "post@acme.example"]
    tenant.manager.put(f"{tenant.own}/authorization", json={**ANSWERS, "contacts": contacts})

    tenant.operator.made(f"{tenant.own}/authorization/approve", {"messages_per_hour": 500}, 200)
    tenant.operator.made(f"{tenant.own}/suspend", {"reason": "complaints"}, 200)
    tenant.operator.post(f"{tenant.own}/resume")
    tenant.operator.made(f"{tenant.own}/authorization/reject", {"reason": "bought list"}, 200)

    notices = [each for each in told(world, tenant) if each.recipients == tuple(contacts)]
    assert [each.subject.partition(": ")[2] for each in notices] == [
        "sending is approved",
        "the operator has suspended sending",
        "the operator's suspension has ended",
        "sending is not approved",
    ]
    assert "500 messages per hour" in notices[0].text
    assert "complaints" in notices[1].text
    assert "bought list" in notices[3].text
    assert len({each.id for each in notices}) == 4
