"""A domain changes hands by proof: two tenants, control, the verifier and real DNS."""

import asyncio
from pathlib import Path
from typing import Any

from services.control.caller import Caller
from services.control.configurations import Configurations
from services.control.decisions import Decisions
from services.control.directory import Directory
from services.control.notices import Notices
from services.control.settings import ControlSettings
from services.control.signing_keys import SigningKeys
from services.control.takeovers import Takeovers
from services.control.workshop import Workshop
from shared.contract.records import Configuration, DomainClaim, DomainTakeover, Suspension
from shared.contract.standing import Observation
from shared.contract.subjects import token
from shared.runtime.clock import now
from tests.bus_server import BusServer
from tests.patience import tasks_of_a_block
from tests.town import DOMAIN, PROOF_AT, Town
from tests.verifier_world import SPF, configuration


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


async def test_a_takeover_that_cannot_be_completed_suspends_nobody(town: Town) -> None:
    """What is wrong with the configuration to be made is said before the other one is touched."""
    path = f"/v1/postlane/instances/{town.new}/takeovers"
    _, challenge = await town.call("POST", path, {"domain": DOMAIN})
    town.world.dns.set(PROOF_AT, "TXT", challenge["value"])
    for wish, code in (({"name": "n" * 251}, 400), ({"description": "d" * 251}, 400), ({"delegate": True}, 409)):
        assert (await town.call("POST", f"{path}/{challenge['id']}/complete", wish))[0] == code
        assert await town.world.directory.get(f"suspension.{town.configuration}") is None
    assert (await town.call("POST", f"{path}/{challenge['id']}/complete"))[0] == 201


async def test_the_new_tenant_is_not_told_whose_the_domain_was(town: Town) -> None:
    """No record of the audit log that it may read names the other's configuration, and the operator's does."""
    path = f"/v1/postlane/instances/{town.new}/takeovers"
    _, challenge = await town.call("POST", path, {"domain": DOMAIN})
    town.world.dns.set(PROOF_AT, "TXT", challenge["value"])
    assert (await town.call("POST", f"{path}/{challenge['id']}/complete"))[0] == 201
    _, key = await town.call("POST", "/v1/postlane/keys", {"role": "manager", "instance": town.new})
    headers = {"Authorization": f"Bearer {key['api_key']}"}
    audit = await asyncio.to_thread(town.api.get, "/v1/postlane/audit", headers=headers)
    assert audit.status_code == 200
    assert "takeover." in audit.text
    assert town.configuration not in audit.text
    _, everything = await town.call("GET", f"/v1/postlane/audit?key=domain.{token(DOMAIN)}")
    assert any(town.configuration in str(each.get("before")) for each in everything["records"])


async def test_an_operator_who_resumes_in_the_middle_of_a_takeover_frees_nobody(bus_server: BusServer) -> None:
    """The claim moves between the operator's look at it and the end of the suspension: the loser stays suspended."""
    at = now()
    bus = await bus_server.connect("control")
    settings = ControlSettings(master_key_file=Path("unused"))
    operator, loser = Caller("key", "operator", None), configuration("c-1", DOMAIN)
    directory = Directory(bus, 60)
    decisions = Decisions(directory, Notices(directory))

    class Slow(Configurations):
        async def create(self, *_args: Any, **_wish: Any) -> Configuration:
            await decisions.resume(operator, loser)
            moved = DomainClaim(domain=DOMAIN, configuration="c-2", at=at)
            await directory.put(f"domain.{token(DOMAIN)}", moved, "test", "i-2")
            return configuration("c-2", DOMAIN)

        def check(self, *_args: Any, **_wish: Any) -> tuple[str, str]:
            return DOMAIN, SPF

    async def look(name: str, _value: str) -> Observation:
        return Observation(verdict="pass", detail="", name=name, at=at)

    workshop = Workshop(settings)
    slow = Slow(directory, SigningKeys(directory, workshop, settings, b""), settings)
    takeovers = Takeovers(directory, slow, decisions, settings)
    claim = DomainClaim(domain=DOMAIN, configuration="c-1", at=at)
    wish = DomainTakeover(id="t-1", instance="i-2", domain=DOMAIN, token="x", at=at)
    async with tasks_of_a_block() as tasks:
        await directory.start(tasks)
        await directory.create("configuration.c-1", loser, "test", "i-1")
        await directory.create(f"domain.{token(DOMAIN)}", claim, "test", "i-1")
        await takeovers.complete(operator, wish, "", "", delegate=False, look=look)
    assert await directory.fresh("suspension.c-1", Suspension) is not None
    workshop.close()
    await bus.close()
