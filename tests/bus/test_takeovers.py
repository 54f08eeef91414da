"""A domain changes hands by proof: two tenants, control, the verifier and real DNS."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.control.keys import add_operator_key
from shared.contract.records import DomainClaim, Suspension
from shared.contract.subjects import token
from tests.bus_server import BusServer
from tests.control_process import Api, Control
from tests.verifier_world import World, world_of

DOMAIN = "wanted.example"
PROOF_AT = "_postlane-challenge.wanted.example"


class Town(NamedTuple):
    """A verifier, a control, and two instances, the first of which has the domain."""

    world: World
    api: Api
    old: str
    new: str
    configuration: str

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Call the API beside the event loop, where DNS is served."""
        answer = await asyncio.to_thread(self.api.request, method, path, json=body)
        return answer.status_code, answer.json() if answer.content else None


@pytest.fixture
async def town(bus_server: BusServer, tmp_path: Path) -> AsyncIterator[Town]:
    """Give a test two tenants that want the same domain."""
    control = Control(tmp_path, bus_server)
    await asyncio.to_thread(control.start)
    async with world_of(bus_server, tmp_path) as world:
        key = await add_operator_key(control.environment, None, "tests")
        await world.verifier()
        with control.client(key) as api:
            old, new = api.instance("old"), api.instance("new")
            configuration = api.configuration(old, DOMAIN)
            await world.checked_again(configuration, times=1)  # the verifier is at work
            yield Town(world, api, old, new, configuration)
        assert await asyncio.to_thread(control.stop) == 0


async def test_a_proven_domain_changes_hands_and_the_old_configuration_is_suspended(town: Town) -> None:
    """Refused, challenged, not proven, proven: then the claim is the new one's, and the old one may not resume."""
    path = f"/v1/postlane/instances/{town.new}/takeovers"
    wish = {"name": "ours", "domain": DOMAIN}
    status, said = await town.call("POST", f"/v1/instances/{town.new}/smtp/config", wish)
    assert status == 409
    assert "prove it:  postlane domain takeover wanted.example" in said["errors"][0]["message"]
    status, challenge = await town.call("POST", path, {"domain": "Wanted.Example"})
    assert (status, challenge["name"], challenge["domain"]) == (201, PROOF_AT, DOMAIN)
    assert (await town.call("POST", path, {"domain": DOMAIN}))[1] == challenge  # the same until it is met

    for published in (None, "postlane-proof=guessed"):
        if published:
            town.world.dns.set(PROOF_AT, "TXT", published)
        status, said = await town.call("POST", f"{path}/{challenge['id']}/complete")
        assert (status, said["errors"][0]["code"]) == (409, "proof_missing")
        assert f"publish '{challenge['value']}'" in said["errors"][0]["message"]
        assert await town.world.directory.get(f"suspension.{town.configuration}") is None

    town.world.dns.set(PROOF_AT, "TXT", challenge["value"])
    status, made = await town.call("POST", f"{path}/{challenge['id']}/complete", {"name": "ours"})
    assert (status, made["domain"], made["name"]) == (201, DOMAIN, "ours")
    suspended = await town.world.directory.get(f"suspension.{town.configuration}")
    assert suspended is not None
    assert isinstance(suspended.record, Suspension)
    assert "proved by a record in its DNS" in suspended.record.reason
    assert town.new not in str(suspended.record)
    claim = await town.world.directory.get(f"domain.{token(DOMAIN)}")
    assert claim is not None
    assert isinstance(claim.record, DomainClaim)
    assert claim.record.configuration == made["id"]

    own = f"/v1/postlane/instances/{town.old}/configurations/{town.configuration}"
    status, said = await town.call("POST", f"{own}/resume")
    assert (status, said["errors"][0]["code"]) == (409, "domain_lost")
    assert (await town.call("GET", path))[1] == {"takeovers": []}
    status, audit = await town.call("GET", f"/v1/postlane/audit?instance={town.old}")
    assert status == 200
    assert any(f"suspension.{town.configuration}" in str(each) for each in audit["records"])
    assert (await town.call("DELETE", f"/v1/instances/{town.old}/smtp/config/{town.configuration}"))[0] == 204
    after = await town.world.directory.get(f"domain.{token(DOMAIN)}")
    assert after is not None
    assert after.record == claim.record  # what the old one leaves behind is no longer the claim


async def test_only_what_another_instance_has_is_taken_over(town: Town) -> None:
    """A free domain is added as usual, one's own is one's own; a challenge can be given up, and is nobody else's."""
    path = f"/v1/postlane/instances/{town.new}/takeovers"
    for domain, instance, code in (
        ("free.example", town.new, "domain_free"),
        (DOMAIN, town.old, "domain_yours"),
    ):
        status, said = await town.call("POST", f"/v1/postlane/instances/{instance}/takeovers", {"domain": domain})
        assert (status, said["errors"][0]["code"]) == (409, code)
    assert (await town.call("POST", path, {"domain": "no domain"}))[0] == 400
    _, challenge = await town.call("POST", path, {"domain": DOMAIN})
    town.world.dns.set(PROOF_AT, "TXT", challenge["value"])
    elsewhere = f"/v1/postlane/instances/{town.old}/takeovers/{challenge['id']}"
    assert (await town.call("POST", f"{elsewhere}/complete"))[0] == 404
    assert (await town.call("DELETE", f"{path}/{challenge['id']}"))[0] == 204
    assert (await town.call("POST", f"{path}/{challenge['id']}/complete"))[0] == 404
    assert await town.world.directory.get(f"suspension.{town.configuration}") is None
