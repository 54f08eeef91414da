"""Signing keys of configurations on a real bus: sealed, rotated, delegated."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from services.control.caller import Caller
from services.control.configurations import Configurations
from services.control.core import rotation
from services.control.directory import Directory
from services.control.refusal import Refused
from services.control.settings import ControlSettings
from services.control.signing_keys import SigningKeys
from services.control.workshop import Workshop
from shared.bus.kv import Bucket, Entry
from shared.contract.records import Configuration, DirectoryRecord, DkimKey
from shared.runtime.sealing import read_master_key, unseal
from tests.control_world import Tenant, World
from tests.patience import tasks_of_a_block
from tests.system import eventually

ZONE = "dkim.relay.example"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give the module two replicas of control whose operator has a zone for delegated keys."""
    found = World(tmp_path_factory.mktemp("control"), dkim_zone=ZONE, lookups_at_once="20")
    yield found
    found.close()


def keys(world: World) -> dict[str, DkimKey]:
    """Return every sealed key."""

    async def read() -> dict[str, DkimKey]:
        bus = await world.bus.connect("control")
        bucket: Bucket[DkimKey] = Bucket(bus, "keys", DkimKey)
        try:
            return {entry.key: entry.record for entry in await bucket.entries()}
        finally:
            await bus.close()

    return asyncio.run(read())


def configuration(world: World, tenant: Tenant) -> Configuration:
    found = world.records()[f"configuration.{tenant.configuration}"]
    assert isinstance(found, Configuration)
    return found


def opened(world: World, name: str, key: DkimKey) -> object:
    """Return a private key as the signer opens it."""
    master = read_master_key(world.directory / "master-key")
    return load_der_private_key(unseal(master, key.sealed, name), None)


def test_a_rotation_is_finished_only_when_the_next_key_was_seen(world: World) -> None:
    """Begin, refuse to finish blindly, cancel, begin again: the key in use stays all the while."""
    tenant = world.tenant()
    before = configuration(world, tenant)
    state = tenant.manager.made(f"{tenant.own}/dkim/rotate", {}, 200)
    assert [each["kind"] for each in state["records"]] == ["dkim", "dkim-next"]
    begun = configuration(world, tenant)
    assert begun.next_key is not None
    assert begun.selector == before.selector
    assert keys(world)[f"dkim-next.{tenant.configuration}"].selector == begun.next_key.selector
    opened(world, f"dkim-next.{tenant.configuration}", keys(world)[f"dkim-next.{tenant.configuration}"])
    assert tenant.manager.post(f"{tenant.own}/dkim/rotate", json={}).status_code == 409
    refused = tenant.manager.post(f"{tenant.own}/dkim/finish")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (409, "next_key_not_seen")
    assert tenant.reader.post(f"{tenant.own}/dkim/cancel").status_code == 403
    assert tenant.manager.post(f"{tenant.own}/dkim/cancel").status_code == 200
    assert configuration(world, tenant).next_key is None
    assert f"dkim-next.{tenant.configuration}" not in keys(world)
    assert tenant.manager.post(f"{tenant.own}/dkim/cancel").status_code == 409
    assert tenant.manager.post(f"{tenant.own}/dkim/finish").json()["errors"][0]["code"] == "no_rotation"
    assert keys(world)[f"dkim.{tenant.configuration}"].selector == before.selector


def test_a_second_key_is_made_sealed_and_removed(world: World) -> None:
    """Its TXT value is the public half of what is sealed."""
    tenant = world.tenant()
    state = tenant.manager.made(f"{tenant.own}/dkim/ed25519", None)
    (record,) = [each for each in state["records"] if each["kind"] == "dkim-ed25519"]
    name = f"dkim-ed25519.{tenant.configuration}"
    private = opened(world, name, keys(world)[name])
    assert isinstance(private, Ed25519PrivateKey)
    public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    assert record["value"] == f"v=DKIM1; k=ed25519; p={public}"
    assert record["name"] == f"{keys(world)[name].selector}._domainkey.{tenant.domain}"
    assert tenant.manager.post(f"{tenant.own}/dkim/ed25519").status_code == 409
    assert tenant.manager.delete(f"{tenant.own}/dkim/ed25519").status_code == 200
    assert name not in keys(world)


def test_a_delegated_domain_has_aliases_and_the_operator_the_keys(world: World) -> None:
    """The customer reads two CNAMEs; the operator's zone has the key, and during a rotation both."""
    tenant = world.tenant()
    made = tenant.manager.made(
        f"/v1/instances/{tenant.id}/smtp/config", {"name": "d", "domain": world.domain(), "delegate": True}
    )
    own = f"/v1/postlane/instances/{tenant.id}/configurations/{made['id']}"
    aliases = tenant.reader.get(f"{own}/dkim").json()["records"]
    assert [each["type"] for each in aliases] == ["CNAME", "CNAME"]
    assert tenant.manager.get("/v1/postlane/dkim-zone").status_code == 403

    def published() -> dict[str, str]:
        keys_of_zone = tenant.operator.get("/v1/postlane/dkim-zone").json()["keys"]
        return {f"{key['name']}.": key["use"] for key in keys_of_zone if key["domain"] == made["domain"]}

    assert published() == {aliases[0]["value"]: "current"}
    tenant.manager.made(f"{own}/dkim/rotate", {}, 200)
    assert published() == {aliases[0]["value"]: "current", aliases[1]["value"]: "next"}
    tenant.manager.delete(f"/v1/instances/{tenant.id}/smtp/config/{made['id']}")
    assert published() == {}
    assert not [name for name in keys(world) if name.endswith(made["id"])]


def test_a_key_that_a_crash_left_under_the_other_name_is_not_lost(world: World) -> None:
    """The configuration was finished, the sealed key not yet moved: the next rotation moves it before it begins."""
    tenant = world.tenant()
    tenant.manager.made(f"{tenant.own}/dkim/rotate", {}, 200)
    begun = configuration(world, tenant)
    assert begun.next_key is not None

    async def crash() -> None:
        bus = await world.bus.connect("control")
        directory: Bucket[DirectoryRecord] = Bucket(bus, "directory", DirectoryRecord)
        key = f"configuration.{tenant.configuration}"
        await directory.put(key, rotation.finished(begun, begun.updated_at))
        await bus.close()

    asyncio.run(crash())
    finished = begun.next_key.selector
    eventually("it is known", lambda: finished in str(tenant.reader.get(tenant.path).json()["config"]["dkim"]))
    assert keys(world)[f"dkim.{tenant.configuration}"].selector == begun.selector
    tenant.manager.made(f"{tenant.own}/dkim/rotate", {}, 200)
    after = configuration(world, tenant)
    assert after.next_key is not None
    main, coming = f"dkim.{tenant.configuration}", f"dkim-next.{tenant.configuration}"
    assert keys(world)[main].selector == after.selector == begun.next_key.selector
    assert keys(world)[coming].selector == after.next_key.selector
    opened(world, main, keys(world)[main])


def test_an_instance_may_not_keep_dns_busy(world: World) -> None:
    """Requests that ask DNS are limited for each instance, and the others go on."""
    tenant, other = world.tenant(), world.tenant()
    answers = [tenant.reader.get(f"{tenant.own}/records").status_code for _ in range(60)]
    assert set(answers) == {200, 429}
    assert tenant.reader.get(f"{tenant.own}/records", params={"look": "last"}).status_code == 200
    assert other.reader.get(f"{other.own}/records").status_code == 200


def beside(world: World, race: Callable[[Directory, SigningKeys], Awaitable[None]]) -> None:
    """Run something with a control's directory and keys of its own on the bus, beside the two replicas."""

    async def run() -> None:
        bus = await world.bus.connect("control")
        directory = Directory(bus, 60)
        master_key = world.directory / "master-key"
        settings = ControlSettings(master_key_file=master_key, dkim_zone=ZONE)
        workshop = Workshop(settings)

        try:
            async with tasks_of_a_block() as tasks:
                await directory.start(tasks)
                await race(directory, SigningKeys(directory, workshop, settings, read_master_key(master_key)))
        finally:
            workshop.close()
            await bus.close()

    asyncio.run(run())


def test_a_rotation_that_begins_while_another_is_finished_loses_no_key(world: World) -> None:
    """One replica has looked, another finishes and dies before it has moved the key: the first gives way to it."""
    tenant = world.tenant()
    tenant.manager.made(f"{tenant.own}/dkim/rotate", {}, 200)
    begun = configuration(world, tenant)
    assert begun.next_key is not None
    coming = f"dkim-next.{tenant.configuration}"

    async def race(directory: Directory, signing_keys: SigningKeys) -> None:
        get = directory.keys.get

        async def finished_meanwhile(key: str) -> Entry[DkimKey] | None:
            found = await get(key)
            directory.keys.get = get  # type: ignore[method-assign]
            finished = rotation.finished(begun, begun.updated_at)
            await directory.put(f"configuration.{begun.id}", finished, "test", begun.instance)
            return found

        directory.keys.get = finished_meanwhile  # type: ignore[method-assign]
        with pytest.raises(Refused) as refused:
            await signing_keys.begin(Caller("key", "operator", None), begun, by_itself=False, force=True)
        assert refused.value.faults[0].code == "changed_meanwhile"

    beside(world, race)
    assert keys(world)[coming].selector == begun.next_key.selector
    opened(world, coming, keys(world)[coming])


def test_a_rotation_that_begins_while_another_is_cancelled_keeps_its_key(world: World) -> None:
    """What the one who cancels deletes is the key of the rotation that was cancelled."""
    tenant = world.tenant()
    tenant.manager.made(f"{tenant.own}/dkim/rotate", {}, 200)
    begun = configuration(world, tenant)

    async def race(directory: Directory, signing_keys: SigningKeys) -> None:
        change = directory.change

        async def then_begun(*args: Any, **named: Any) -> Any:
            changed = await change(*args, **named)
            directory.change = change  # type: ignore[method-assign]
            await signing_keys.begin(Caller("key", "operator", None), begun, by_itself=False, force=False)
            return changed

        directory.change = then_begun  # type: ignore[method-assign]
        await signing_keys.cancel(Caller("key", "operator", None), begun)

    beside(world, race)
    after = configuration(world, tenant)
    assert after.next_key is not None
    assert keys(world)[f"dkim-next.{tenant.configuration}"].selector == after.next_key.selector


def test_an_address_is_confirmed_only_for_itself(world: World) -> None:
    """A change that was begun before another address was confirmed does not inherit its confirmation."""
    tenant = world.tenant()
    before = configuration(world, tenant)
    changes: dict[str, object] = {"reply_to": "b@elsewhere.example"}

    async def race(directory: Directory, signing_keys: SigningKeys) -> None:
        confirmed = msgspec.structs.replace(before, reply_to="a@acme.example", reply_to_confirmed_at=before.created_at)
        await directory.put(f"configuration.{before.id}", confirmed, "test", before.instance)
        settings = ControlSettings(master_key_file=world.directory / "master-key")
        stale = msgspec.structs.replace(before, reply_to="b@elsewhere.example")
        edited, _ = await Configurations(directory, signing_keys, settings).edit(
            Caller("key", "manager", tenant.id), stale, changes
        )
        assert (edited.reply_to, edited.reply_to_confirmed_at) == ("b@elsewhere.example", None)

    beside(world, race)
