"""Signing keys in the console: replaced while mail flows, given up by who means it and for what the page showed."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from services.control.core import rotation
from shared.bus.kv import Bucket
from shared.contract.records import Configuration, DirectoryRecord
from shared.runtime.clock import now
from tests.browser import Browser
from tests.control_world import Tenant, World
from tests.patience import until_seen
from tests.town import Town


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give the module two replicas of control whose operator has a zone for delegated keys."""
    found = World(tmp_path_factory.mktemp("control"), dkim_zone="dkim.relay.example")
    yield found
    found.close()


def signing_keys(tenant: Tenant, configuration: str = "") -> str:
    """Return the page."""
    return f"/console/tenants/{tenant.id}/domains/{configuration or tenant.configuration}/signing-keys"


def state(tenant: Tenant) -> dict[str, Any]:
    """Return what the API has of the keys."""
    found: dict[str, Any] = tenant.reader.get(f"{tenant.own}/dkim").json()
    return found


async def test_a_key_is_replaced_once_the_next_one_is_in_dns(town: Town) -> None:
    """Begun, not finished blindly, published, seen, finished."""
    own = f"/v1/postlane/instances/{town.old}/configurations/{town.configuration}/dkim"
    page = f"/console/tenants/{town.old}/domains/{town.configuration}/signing-keys"
    visitor = await town.visitor("manager", town.old)
    await visitor.open(page)
    assert "dkim-next" not in visitor.page
    await visitor.submit("/rotate")
    assert "The next key is made: publish its record." in visitor.page
    assert "It was not seen in DNS yet; the key in use signs until then." in visitor.page
    _, begun = await town.call("GET", own)
    (record,) = [each for each in begun["records"] if each["kind"] == "dkim-next"]
    assert f"<code>{record['name']}</code></td><td><code>{record['value']}</code>" in visitor.page
    await visitor.submit("/finish", 409, sure="yes")
    assert "must be in DNS before the old one is given up" in visitor.page

    town.world.dns.set(record["name"], "TXT", record["value"])

    async def seen() -> bool:
        return "It was seen in DNS and signs: the rotation may be finished." in await visitor.open(page)

    await until_seen("the next key is seen", seen)
    await visitor.open(f"{page}?look=now")
    assert "Looked at: now" in visitor.page
    await visitor.submit("/finish", 400)
    assert "tick that you mean it" in visitor.page
    await visitor.open(page)
    await visitor.submit("/finish", sure="yes")
    assert "The old key is retired" in visitor.page
    assert "Make the next key" in visitor.page
    _, after = await town.call("GET", own)
    assert (after["selector"], after["retired_selector"]) == (begun["next_selector"], begun["selector"])
    assert f"<dt>In use, selector</dt><dd><code>{begun['next_selector']}</code>" in visitor.page


def test_a_rotation_is_cancelled_by_who_means_it(tenant: Tenant) -> None:
    """The key in use stays; one that was to end by itself is said to."""
    visitor = Browser.of(tenant.manager)
    visitor.open(signing_keys(tenant))
    assert 'name="force"' not in visitor.page  # a domain with keys of its own has any number of selectors
    before = state(tenant)["selector"]
    visitor.submit("/rotate", finish_when_seen="yes")
    assert "The key in use is given up by itself." in visitor.page
    assert state(tenant)["finish_when_seen"]
    visitor.submit("/cancel", status=400)
    assert state(tenant)["next_selector"]
    visitor.open(signing_keys(tenant))
    visitor.submit("/cancel", sure="yes")
    assert "The key in use stays" in visitor.page
    assert "next_selector" not in state(tenant)
    assert state(tenant)["selector"] == before
    visitor.post(f"{signing_keys(tenant)}/cancel", 409, sure="yes")
    assert "no rotation is under way" in visitor.page
    visitor.open(signing_keys(tenant))
    visitor.submit("/rotate")
    visitor.post(f"{signing_keys(tenant)}/rotate", 409)
    assert "finish or cancel it first" in visitor.page


@pytest.mark.parametrize("act", ["cancel", "finish"])
def test_another_rotation_than_that_of_the_page_stays(tenant: Tenant, act: str) -> None:
    """Somebody else has cancelled it meanwhile, and begun one of their own."""
    visitor = Browser.of(tenant.manager)
    visitor.open(signing_keys(tenant))
    visitor.submit("/rotate")
    assert tenant.manager.post(f"{tenant.own}/dkim/cancel").is_success
    theirs = tenant.manager.made(f"{tenant.own}/dkim/rotate", {}, 200)["next_selector"]
    visitor.submit(f"/{act}", status=409, sure="yes")
    assert "the keys have changed meanwhile" in visitor.page
    assert state(tenant)["next_selector"] == theirs


def test_a_second_key_is_made_and_removed(tenant: Tenant) -> None:
    """Its record is on the page; another one made meanwhile is not removed for it."""
    visitor = Browser.of(tenant.manager)
    page = signing_keys(tenant)
    visitor.open(page)
    visitor.submit("/ed25519")
    assert "mail is signed twice once it is in DNS" in visitor.page
    selector = state(tenant)["ed25519_selector"]
    assert f"<code>{selector}._domainkey.{tenant.domain}</code>" in visitor.page
    assert "v=DKIM1; k=ed25519; p=" in visitor.page
    visitor.post(f"{page}/ed25519", 409)
    assert "there is an Ed25519 key already" in visitor.page
    visitor.open(page)
    visitor.submit("/ed25519/remove", status=400)
    visitor.open(page)
    assert tenant.manager.delete(f"{tenant.own}/dkim/ed25519").is_success
    assert tenant.manager.post(f"{tenant.own}/dkim/ed25519").is_success
    visitor.submit("/ed25519/remove", status=409, sure="yes")
    assert state(tenant)["ed25519_selector"] != selector
    visitor.open(page)
    visitor.submit("/ed25519/remove", sure="yes")
    assert "Mail has one signature from now on" in visitor.page
    assert "ed25519_selector" not in state(tenant)


def test_a_selector_that_is_still_needed_is_taken_only_by_force(world: World, tenant: Tenant) -> None:
    """Delegated keys take turns: the next rotation would overwrite the key that mail under way was signed with."""
    wish = {"name": "d", "domain": world.domain(), "delegate": True}
    made = tenant.manager.made(f"/v1/instances/{tenant.id}/smtp/config", wish)["id"]
    visitor = Browser.of(tenant.manager)
    page = signing_keys(tenant, made)
    assert "dkim-spare" in visitor.open(page)
    assert "Delegated to" in visitor.page
    visitor.submit("/rotate")
    begun = world.records()[f"configuration.{made}"]
    assert isinstance(begun, Configuration)

    async def finished() -> None:  # no verifier runs here that would see the next key
        bus = await world.bus.connect("control")
        directory: Bucket[DirectoryRecord] = Bucket(bus, "directory", DirectoryRecord)
        await directory.put(f"configuration.{made}", rotation.finished(begun, now()))
        await bus.close()

        async def read() -> bool:
            return "Make the next key" in await asyncio.to_thread(visitor.open, page)

        await until_seen("control has read it", read)

    asyncio.run(finished())
    visitor.submit("/rotate", status=409)
    assert "stays published until" in visitor.page
    visitor.open(page)
    visitor.submit("/rotate", force="yes")
    assert "The next key is made" in visitor.page


def test_a_reader_sees_the_records_and_is_told_that_it_only_reads(tenant: Tenant) -> None:
    """By the API; nothing is changed."""
    reader = Browser.of(tenant.reader)
    reader.open(signing_keys(tenant))
    assert f"<code>{state(tenant)['selector']}._domainkey.{tenant.domain}</code>" in reader.page
    before = state(tenant)
    for act in ("rotate", "finish", "cancel", "ed25519", "ed25519/remove"):
        reader.post(f"{signing_keys(tenant)}/{act}", 403, sure="yes")
        assert "this key may only read" in reader.page
    assert state(tenant) == before
