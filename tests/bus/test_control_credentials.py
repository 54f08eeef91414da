"""Credentials over the API: two live passwords, their last use, guard rails, quotas, use of API keys."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
from argon2 import PasswordHasher

from services.control.caller import Caller
from services.control.directory import Directory
from services.control.keys import ApiKeys
from shared.bus.kv import Bucket
from shared.bus.replica import Replica
from shared.contract.records import User
from shared.contract.siblings import PasswordUse, Spending
from tests.bus.test_control import refused
from tests.bus_server import BusServer
from tests.control_process import Control
from tests.control_world import ANSWERS, Tenant, World
from tests.patience import tasks_of_a_block

AT = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


def user_path(tenant: Tenant) -> str:
    """Return the path of the tenant's user in Postlane's part of the API."""
    return f"{tenant.own}/users/{tenant.user['id']}"


def test_a_user_has_two_passwords_at_most_and_each_can_be_ended(world: World, tenant: Tenant) -> None:
    """Rotation overlaps, a third password is a conflict, ending one lets the next rotation through, the last stays."""
    path = user_path(tenant)
    rotated = tenant.manager.made(f"{path}/rotate", {"keep_seconds": 3600}, 200)
    listed = tenant.reader.get(f"{path}/passwords").json()["passwords"]
    assert [each["works"] for each in listed] == [True, True]
    assert ["expires_at" in each for each in listed] == [True, False]
    assert not any("password" in each or "$argon2" in str(each) for each in listed)
    refused(tenant.manager.post(f"{path}/rotate", json={"keep_seconds": 600}), 409, "too_many_passwords")
    assert tenant.manager.delete(f"{path}/passwords/{listed[0]['id']}").status_code == 204
    refused(tenant.manager.delete(f"{path}/passwords/{listed[0]['id']}"), 404, "password_not_found")
    refused(tenant.manager.delete(f"{path}/passwords/{listed[1]['id']}"), 409, "last_password")
    refused(tenant.reader.delete(f"{path}/passwords/{listed[1]['id']}"), 403)
    record = world.records()[f"user.{tenant.configuration}.{tenant.user['id']}"]
    assert isinstance(record, User)
    assert [password.id for password in record.passwords] == [listed[1]["id"]]
    assert PasswordHasher().verify(record.passwords[0].hash, rotated["password"])
    tenant.manager.made(f"{path}/rotate", {"keep_seconds": 600}, 200)


def test_clones_share_the_end_of_a_password(world: World, tenant: Tenant) -> None:
    """A password revoked in one configuration is revoked in the other: it is the same password."""
    other = tenant.manager.configuration(tenant.id, world.domain())
    username = tenant.user["username"]
    clone = tenant.manager.made(f"/v1/instances/{tenant.id}/smtp/config/{other}/users?username_to_clone={username}", {})
    path = user_path(tenant)
    tenant.manager.made(f"{path}/rotate", {}, 200)
    first, second = (each["id"] for each in tenant.reader.get(f"{path}/passwords").json()["passwords"])
    assert tenant.manager.delete(f"{path}/passwords/{first}").status_code == 204
    record = world.records()[f"user.{other}.{clone['id']}"]
    assert isinstance(record, User)
    assert [password.id for password in record.passwords] == [second]


def test_the_last_use_of_a_password_is_told(world: World, tenant: Tenant) -> None:
    """What ingress wrote down is shown: when, from where, and the name the client gave."""
    path = user_path(tenant)
    password = tenant.reader.get(f"{path}/passwords").json()["passwords"][0]
    assert "last_use" not in password

    async def used() -> None:
        bus = await world.bus.connect("ingress")
        use = PasswordUse(at=AT, address="192.0.2.7", banner="jira.acme.example")
        key = f"{tenant.configuration}.{tenant.user['id']}.{password['id']}"
        await Bucket[PasswordUse](bus, "usage", PasswordUse).put(key, use)
        await bus.close()

    asyncio.run(used())
    shown = tenant.reader.get(f"{path}/passwords").json()["passwords"][0]["last_use"]
    assert shown == {"at": "2026-05-01T12:00:00Z", "address": "192.0.2.7", "banner": "jira.acme.example"}


def test_guard_rails_are_set_lifted_and_audited(world: World, tenant: Tenant) -> None:
    """A change names only what it changes; faults are listed together and change nothing; IBM's view stays as it is."""
    path = user_path(tenant)
    ibm = tenant.reader.get(f"{tenant.path}/users/{tenant.user['id']}").json()
    wish = {"senders": [f"jira@{tenant.domain}"], "networks": ["192.0.2.1"], "messages_per_hour": 10}
    tenant.manager.patch(path, json=wish)
    changed = tenant.manager.patch(path, json={"recipients": ["client.example"], "networks": []}).json()
    assert changed["guard_rails"] == {
        "senders": [f"jira@{tenant.domain}"],
        "networks": [],
        "recipients": ["*@client.example"],
        "messages_per_hour": 10,
        "staging": "deliver",
        "redirect_to": "",
        "staging_allowed": [],
    }
    assert tenant.reader.get(path).json() == changed
    wrong = tenant.manager.patch(path, json={"senders": ["a@rival.example"], "staging": "allow-list"})
    assert len(refused(wrong, 400)) == 2
    refused(tenant.manager.patch(path, json={"staging": "burn"}), 400)
    refused(tenant.reader.patch(path, json={"staging": "capture"}), 403)
    assert tenant.reader.get(path).json() == changed
    assert set(tenant.reader.get(f"{tenant.path}/users/{tenant.user['id']}").json()) == set(ibm)
    staged = tenant.manager.patch(path, json={"staging": "redirect", "redirect_to": "qa@acme.example"}).json()
    assert staged["guard_rails"]["staging"] == "redirect"
    audit = tenant.manager.get("/v1/postlane/audit", params={"key": tenant.user["id"]}).json()["records"]
    assert audit[0]["after"]["redirect_to"] == "qa@acme.example"
    assert audit[0]["before"]["staging"] == "deliver"


def test_the_last_use_of_an_api_key_is_told(world: World, tenant: Tenant) -> None:
    """Each use is noted soon, with address and client, on every replica; at most once in an interval; tokens too."""
    made = tenant.operator.made("/v1/postlane/keys", {"role": "reader", "instance": tenant.id})
    path = f"/v1/postlane/keys/{made['id']}"
    assert "last_use" not in tenant.manager.get(path).json()
    with world.control.client(made["api_key"]) as client:
        assert client.get("/v1/postlane/instances", headers={"User-Agent": "first/1.0"}).status_code == 200
        used = eventually(lambda: tenant.manager.get(path).json().get("last_use"))
        assert (used["address"], used["client"]) == ("127.0.0.1", "first/1.0")
        client.get("/v1/postlane/instances", headers={"User-Agent": "second/2.0"})
        with world.other.client(made["api_key"]) as elsewhere:
            agent = {"User-Agent": "elsewhere/1.0"}
            eventually(lambda: elsewhere.get("/v1/postlane/instances", headers=agent).status_code == 200)
        eventually(lambda: tenant.manager.get(path).json()["last_use"]["client"] == "elsewhere/1.0")
    listed = tenant.manager.get("/v1/postlane/keys").json()["keys"]
    assert {each["id"]: each.get("last_use", {}).get("client") for each in listed}[made["id"]] == "elsewhere/1.0"
    stranger = world.tenant()
    refused(stranger.manager.get(path), 404, "key_not_found")


async def test_a_key_is_known_as_soon_as_it_is_shown(bus_server: BusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it was made and where it is revoked nobody waits for the bus to tell of it."""
    monkeypatch.setattr(Replica, "_heard", AsyncMock())
    bus = await bus_server.connect("control")
    directory, operator = Directory(bus, 60), Caller("k", "operator", None)
    keys = ApiKeys(directory, 60, 10)
    async with tasks_of_a_block() as tasks:
        await directory.start(tasks)
        text, record = await keys.add(operator, "reader", "i", "", None)
        assert keys.recognise(text) == Caller(record.id, "reader", "i")
        await keys.revoke(operator, record.id)
        assert keys.recognise(text) is None
    await bus.close()


def eventually(look: Callable[[], Any]) -> Any:
    """Wait for something to be true; return it."""
    deadline = time.monotonic() + 60.0
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_the_use_of_a_quota_is_told(world: World, tenant: Tenant, within_the_hour: None) -> None:
    """What all ingress processes have told of this hour and day is added up; what is over is not."""
    tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS)
    tenant.operator.post(f"{tenant.own}/authorization/approve", json={"messages_per_hour": 10, "messages_per_day": 50})
    tenant.manager.patch(user_path(tenant), json={"messages_per_hour": 4})
    hour = int(time.time() // 3600)

    async def told(process: str, at_hour: int, this_hour: int, this_day: int) -> None:
        bus = await world.bus.connect("ingress")
        configuration, user = tenant.configuration, tenant.user["id"]
        record = Spending(
            process=process, at=AT, hour=at_hour, day=at_hour // 24, this_second={},
            this_hour={configuration: this_hour, user: 2}, this_day={configuration: this_day, user: 2}, held={},
        )  # fmt: skip
        await Bucket[Spending](bus, "spending", Spending).put(f"{process}.3", record)
        await bus.close()

    asyncio.run(told("one", hour, 3, 7))
    asyncio.run(told("two", hour, 2, 9))
    asyncio.run(told("dead", hour - 48, 90, 90))
    found = tenant.reader.get(f"{tenant.own}/quota").json()
    assert (found["quota"]["messages_per_hour"], found["quota"]["messages_per_day"]) == (10, 50)
    assert (found["this_hour"], found["this_day"], found["held"], found["hold_cap"]) == (5, 16, 0, 10_000)
    assert found["users"] == [{"username": tenant.user["username"], "messages_per_hour": 4, "this_hour": 4}]
    assert datetime.fromisoformat(found["hour_ends_at"]).timestamp() == (hour + 1) * 3600
    refused(world.tenant().reader.get(f"{tenant.own}/quota"), 404, "instance_not_found")


def test_parallel_rotations_leave_two_passwords(world: World, tenant: Tenant) -> None:
    """Twenty rotations at once over two replicas: one is made, the others are told that two passwords live."""
    path = f"{user_path(tenant)}/rotate"
    with world.other.client(world.key) as elsewhere, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda client: client.post(path, json={}), [world.operator, elsewhere] * 10))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    eventually(lambda: len(tenant.reader.get(f"{user_path(tenant)}/passwords").json()["passwords"]) == 2)


def test_the_end_of_a_password_can_be_moved(world: World, tenant: Tenant) -> None:
    """Later for a client that is not changed yet, or lifted; not into the past, and what has ended stays ended."""
    path = f"{user_path(tenant)}/passwords"
    tenant.manager.made(f"{user_path(tenant)}/rotate", {"keep_seconds": 600}, 200)
    first, second = (each["id"] for each in tenant.reader.get(path).json()["passwords"])
    moved = tenant.manager.patch(f"{path}/{first}", json={"expires_at": "2099-01-01T00:00:00Z"}).json()
    assert [each.get("expires_at") for each in moved["passwords"]] == ["2099-01-01T00:00:00Z", None]
    lifted = tenant.manager.patch(f"{path}/{first}", json={"expires_at": None}).json()
    assert [each.get("expires_at") for each in lifted["passwords"]] == [None, None]
    refused(tenant.manager.patch(f"{path}/{second}", json={"expires_at": "2020-01-01T00:00:00Z"}), 400, "invalid_time")
    refused(tenant.manager.patch(f"{path}/{second}", json={"expires_at": "2099-01-01T00:00:00"}), 400, "invalid_time")
    refused(tenant.manager.patch(f"{path}/none", json={"expires_at": None}), 404, "password_not_found")
    refused(tenant.reader.patch(f"{path}/{first}", json={"expires_at": None}), 403)
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    assert tenant.manager.patch(f"{path}/{first}", json={"expires_at": soon}).status_code == 200
    eventually(lambda: not tenant.reader.get(path).json()["passwords"][0]["works"])
    refused(tenant.manager.patch(f"{path}/{first}", json={"expires_at": None}), 409, "password_ended")


def test_a_hash_of_other_parameters_is_outdated(world: World, tenant: Tenant) -> None:
    """After the settings of Argon2id were changed it is seen which passwords still have a hash of before."""
    path = user_path(tenant)
    assert [each["hash"] for each in tenant.reader.get(f"{path}/passwords").json()["passwords"]] == ["current"]
    stricter = Control(world.directory, world.bus, argon2_time_cost="2")
    stricter.start()
    try:
        with stricter.client(world.key) as operator:
            operator.made(f"{path}/rotate", {}, 200)
            listed = operator.get(f"{path}/passwords").json()["passwords"]
            assert [each["hash"] for each in listed] == ["outdated", "current"]
    finally:
        assert stricter.stop() == 0
