"""Control against a real bus: the API in IBM's shape, isolation of tenants, limits under concurrency."""

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from openapi_spec_validator import validate

from services.control.keys import add_operator_key
from shared.bus.kv import Bucket
from shared.contract.events import DirectoryChanged
from shared.contract.records import DkimKey, Rule, User
from shared.runtime.sealing import read_master_key, unseal
from tests.bus_server import BusServer
from tests.control_process import SPF_INCLUDE, Control
from tests.control_world import ANSWERS, SMTP_API_TYPE, Tenant, World
from tests.system import eventually


def refused(answer: httpx.Response, status: int, code: str = "") -> list[str]:
    """Check an error body of IBM's shape; return its messages."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"trace", "errors", "status_code"}
    assert re.fullmatch(r"[0-9a-f-]{36}", body["trace"])
    assert body["status_code"] == status
    assert len(body["errors"]) >= 1
    if code:
        assert code in [error["code"] for error in body["errors"]]
    return [error["message"] for error in body["errors"]]


def has_null(value: Any) -> bool:
    """Whether a JSON value holds a null anywhere."""
    if isinstance(value, dict):
        return any(has_null(v) for v in value.values())
    return any(has_null(v) for v in value) if isinstance(value, list) else value is None


def test_a_configuration_has_its_records_and_keeps_them(tenant: Tenant) -> None:
    """The records of the create reply are those of every later reply; only that reply has created_at."""
    domain = f"second.{tenant.domain}"
    answer = tenant.manager.post(f"/v1/instances/{tenant.id}/smtp/config", json={"name": "n", "domain": domain.upper()})
    made = answer.json()
    assert answer.status_code == 201
    assert made["domain"] == domain
    assert re.fullmatch(rf"[0-9a-f-]{{36}}\._domainkey\.{domain}", made["config"]["dkim"]["txt_name"])
    assert made["config"]["dkim"]["txt_value"].startswith("v=DKIM1; h=sha256; k=rsa; p=MII")
    assert len(made["config"]["dkim"]["txt_value"]) <= 500
    assert made["config"]["spf"] == {
        "txt_name": domain,
        "txt_value": f"v=spf1 include:{SPF_INCLUDE} -all",
        "verification": "PENDING",
    }
    assert made["config"]["en_authorization"] == {"verification": "PENDING"}
    path = f"/v1/instances/{tenant.id}/smtp/config/{made['id']}"
    changed = tenant.manager.patch(path, json={"name": "m"}).json()
    assert changed["config"] == made["config"]
    assert (changed["name"], "created_at" in changed, "updated_at" in made) == ("m", False, False)
    assert tenant.manager.get(path).json() == changed
    assert tenant.manager.patch(path, json={}).json() == changed


def test_the_ibm_prefix_reaches_the_same_operations(tenant: Tenant) -> None:
    """The last part of IBM's service URL may be there or not."""
    plain, prefixed = tenant.reader.get(tenant.path), tenant.reader.get(f"/event-notifications{tenant.path}")
    assert plain.status_code == prefixed.status_code == 200
    assert plain.json() == prefixed.json()


def test_no_reply_has_a_null(tenant: Tenant) -> None:
    """What is absent is left out: IBM's clients break on null."""
    paths = ["", "/users", f"/users/{tenant.user['id']}", "/allowed_ips"]
    replies = [tenant.reader.get(tenant.path + path) for path in paths]
    replies += [tenant.reader.get(f"/v1/instances/{tenant.id}/smtp/config", params={"limit": 1, "search": ""})]
    replies += [
        tenant.reader.get(f"/v1/zones/{tenant.zone['id']}"),
        tenant.reader.get(f"/v1/rules/{tenant.rule['id']}"),
    ]
    replies += [tenant.reader.get(f"/v1/{kind}", params={"account_id": tenant.id}) for kind in ("zones", "rules")]
    for reply in replies:
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"] == "application/json"
        assert not has_null(reply.json()), reply.text


def test_the_dkim_key_is_sealed_and_matches_its_record(world: World, tenant: Tenant) -> None:
    """Delivery can unseal the key; its public half is what the customer publishes."""

    async def read() -> DkimKey:
        bus = await world.bus.connect("delivery")
        entry = await Bucket[DkimKey](bus, "keys", DkimKey).get(f"dkim.{tenant.configuration}")
        await bus.close()
        assert entry is not None
        return entry.record

    record = asyncio.run(read())
    master_key = read_master_key(world.directory / "master-key")
    private = load_der_private_key(unseal(master_key, record.sealed, f"dkim.{tenant.configuration}"), None)
    assert isinstance(private, RSAPrivateKey)
    assert private.key_size == 2048
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    import base64

    config = tenant.reader.get(tenant.path).json()["config"]
    assert config["dkim"]["txt_value"].endswith("p=" + base64.b64encode(public).decode())
    assert config["dkim"]["txt_name"].startswith(record.selector)


def test_a_domain_has_one_configuration_whoever_asks(world: World, tenant: Tenant) -> None:
    """The second claim is refused, also of another tenant, on another replica, in other letters; removal frees it."""
    stranger = world.tenant()
    path = f"/v1/instances/{stranger.id}/smtp/config"
    with world.other.client(world.key) as elsewhere:
        answer = elsewhere.post(path, json={"name": "x", "domain": tenant.domain.upper()})
        refused(answer, 409, "domain_in_use")
        assert tenant.id not in answer.text
        assert tenant.manager.delete(tenant.path).status_code == 204
        assert elsewhere.post(path, json={"name": "x", "domain": tenant.domain}).status_code == 201


def test_parallel_claims_of_a_domain_have_one_winner(world: World, tenant: Tenant) -> None:
    """Twenty creates of one domain over two replicas: one is made, the others are told so."""
    domain = world.domain()
    with world.other.client(world.key) as elsewhere, ThreadPoolExecutor(20) as pool:
        clients = [world.operator, elsewhere] * 10
        body = {"name": "x", "domain": domain}
        answers = list(pool.map(lambda c: c.post(f"/v1/instances/{tenant.id}/smtp/config", json=body), clients))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19


@pytest.mark.parametrize("write", ["create", "replace"])
def test_a_zone_is_not_removed_under_a_rule_that_begins_to_name_it(write: str, world: World, tenant: Tenant) -> None:
    """Both at once, on two replicas, again and again: never are both done, and a refusal leaves nothing behind."""
    ends: set[tuple[int, int]] = set()
    with world.other.client(world.key) as elsewhere, ThreadPoolExecutor(2) as pool:
        for number in range(12):
            zone = tenant.manager.made("/v1/zones", tenant.zone_body(f"{write}-{number}"))["id"]
            if write == "create":
                written = pool.submit(elsewhere.post, "/v1/rules", json=tenant.rule_body(zone))
            else:
                shown = elsewhere.get(f"/v1/rules/{tenant.rule['id']}")
                headers = {"If-Match": shown.headers["ETag"]}
                body = tenant.rule_body(tenant.zone["id"], zone)
                written = pool.submit(elsewhere.put, f"/v1/rules/{tenant.rule['id']}", json=body, headers=headers)
            removed = pool.submit(tenant.manager.delete, f"/v1/zones/{zone}")
            ends.add((written.result().status_code, removed.result().status_code))
            there = world.records()
            named = {each for r in there.values() if isinstance(r, Rule) for c in r.contexts for each in c.zones}
            assert (zone in named) <= (f"zone.{zone}" in there), ends
            if zone in named and write == "replace":
                headers = {"If-Match": elsewhere.get(f"/v1/rules/{tenant.rule['id']}").headers["ETag"]}
                body = tenant.rule_body(tenant.zone["id"])
                assert elsewhere.put(f"/v1/rules/{tenant.rule['id']}", json=body, headers=headers).status_code == 200
    assert ends <= {(201, 409), (200, 409), (400, 204), (400, 409)}


def test_credentials_are_shown_once_and_kept_as_a_hash(world: World, tenant: Tenant) -> None:
    """The password verifies against the only thing kept of it."""
    shown = tenant.user
    assert re.fullmatch(r"[a-z0-9]{18}\d{2}", shown["username"])
    assert len(shown["password"]) == 32
    again = tenant.manager.get(f"{tenant.path}/users/{shown['id']}").json()
    assert set(again) == {"id", "smtp_config_id", "description", "domain", "username", "created_at", "updated_at"}
    record = world.records()[f"user.{tenant.configuration}.{shown['id']}"]
    assert isinstance(record, User)
    assert PasswordHasher().verify(record.passwords[0].hash, shown["password"])
    assert shown["password"] not in json.dumps(msgspec.to_builtins(world.records()))


def test_twenty_parallel_creates_of_the_last_users_make_five(world: World, tenant: Tenant) -> None:
    """At most five users, however many ask two replicas at once; a removed one makes room."""
    with world.other.client(world.key) as elsewhere, ThreadPoolExecutor(20) as pool:
        clients = [world.operator, elsewhere] * 10
        answers = list(pool.map(lambda client: client.post(f"{tenant.path}/users", json={}), clients))
    made = [answer for answer in answers if answer.status_code == 201]
    assert len(made) == 4  # the tenant has one already
    for answer in answers:
        if answer not in made:
            assert "at most 5 users" in refused(answer, 409, "too_many_users")[0]
    eventually("all are known", lambda: tenant.reader.get(f"{tenant.path}/users").json()["total_count"] == 5)
    assert tenant.manager.delete(f"{tenant.path}/users/{tenant.user['id']}").status_code == 204
    assert tenant.manager.post(f"{tenant.path}/users", json={}).status_code == 201


def test_a_clone_shares_username_and_password(world: World, tenant: Tenant) -> None:
    """A user may be used in another configuration of its instance, once; its password is not shown."""
    other = tenant.manager.configuration(tenant.id, f"clone.{tenant.domain}")
    path, query = f"/v1/instances/{tenant.id}/smtp/config/{other}/users", {"username_to_clone": tenant.user["username"]}
    clone = tenant.manager.post(path, json={}, params=query).json()
    assert "password" not in clone
    assert (clone["username"], clone["domain"]) == (tenant.user["username"], f"clone.{tenant.domain}")
    records = world.records()
    original, copy = (
        records[f"user.{c}.{u}"] for c, u in ((tenant.configuration, tenant.user["id"]), (other, clone["id"]))
    )
    assert isinstance(original, User)
    assert isinstance(copy, User)
    assert original.passwords == copy.passwords
    refused(tenant.manager.post(path, json={}, params=query), 409, "user_exists")
    refused(tenant.manager.post(path, json={}, params={"username_to_clone": "nobody"}), 400, "invalid_username")
    stranger = world.tenant()
    foreign = {"username_to_clone": stranger.user["username"]}
    refused(tenant.manager.post(path, json={}, params=foreign), 404, "user_not_found")


def test_a_rotated_user_has_two_passwords_for_a_while(world: World, tenant: Tenant) -> None:
    """The old password gets an end, the new one has none; a third waits, unless the old ones end at once."""
    path = f"{tenant.own}/users/{tenant.user['id']}/rotate"
    rotated = tenant.manager.made(path, {"keep_seconds": 3600}, 200)
    key = f"user.{tenant.configuration}.{tenant.user['id']}"
    record = world.records()[key]
    assert isinstance(record, User)
    assert [password.expires_at is None for password in record.passwords] == [False, True]
    for password, text in zip(record.passwords, (tenant.user["password"], rotated["password"]), strict=True):
        assert PasswordHasher().verify(password.hash, text)
    assert "ends at 20" in refused(tenant.manager.post(path, json={}), 409, "too_many_passwords")[0]
    last = tenant.manager.made(path, {"keep_seconds": 0}, 200)
    record = world.records()[key]
    assert isinstance(record, User)
    assert len(record.passwords) == 1
    assert PasswordHasher().verify(record.passwords[0].hash, last["password"])


def test_a_rotation_reaches_the_clones(world: World, tenant: Tenant) -> None:
    """A clone goes on sharing the password of its original."""
    other = tenant.manager.configuration(tenant.id, f"twin.{tenant.domain}")
    query = {"username_to_clone": tenant.user["username"]}
    clone = tenant.manager.post(
        f"/v1/instances/{tenant.id}/smtp/config/{other}/users", json={}, params=query
    ).json()  # fmt: skip
    tenant.manager.made(f"{tenant.own}/users/{tenant.user['id']}/rotate", {}, 200)
    records = world.records()
    original, copy = (
        records[f"user.{c}.{u}"] for c, u in ((tenant.configuration, tenant.user["id"]), (other, clone["id"]))
    )
    assert isinstance(original, User)
    assert isinstance(copy, User)
    assert original.passwords == copy.passwords


def test_the_openapi_document_is_valid_and_complete(tenant: Tenant) -> None:
    """The document validates, names every operation once, and every operation says how it fails."""
    document = tenant.reader.get("/v1/postlane/openapi.json").json()
    validate(document)
    named = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in named}) == len(named)
    assert all("default" in operation["responses"] for operation in named)
    assert document["openapi"].startswith("3.1")


def test_removing_a_configuration_leaves_nothing_behind(world: World, tenant: Tenant) -> None:
    """Users, decision, suspension, claim, key and roster go with it."""
    tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS).raise_for_status()
    tenant.operator.post(f"{tenant.own}/suspend", json={"reason": "x"}).raise_for_status()
    assert [key for key in world.records() if tenant.configuration in key] != []
    assert tenant.manager.delete(tenant.path).status_code == 204
    assert [key for key in world.records() if tenant.configuration in key] == []
    refused(tenant.manager.get(tenant.path), 404, "configuration_not_found")
    refused(tenant.manager.delete(tenant.path), 404)


def test_two_replicas_editing_one_rule_do_not_overwrite_each_other(world: World, tenant: Tenant) -> None:
    """The ETag of the first reply is stale after another's change, wherever that was made."""
    path = f"/v1/rules/{tenant.rule['id']}"
    etag = tenant.manager.get(path).headers["etag"]
    body = tenant.rule_body(tenant.zone["id"], description="first")
    with world.other.client(world.key) as elsewhere:
        changed = elsewhere.put(path, json=body, headers={"If-Match": etag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != etag
        stale = tenant.manager.put(path, json=body | {"description": "second"}, headers={"If-Match": etag})
        refused(stale, 412, "precondition_failed")
        assert elsewhere.get(path).json()["description"] == "first"
    refused(tenant.manager.put(path, json=body), 400)
    refused(tenant.manager.put(path, json=body, headers={"If-Match": '"x"'}), 412)


def test_of_parallel_edits_with_one_etag_one_is_made(world: World, tenant: Tenant) -> None:
    """Twenty replacements at once over two replicas, all with the ETag all have read: one is made."""
    path = f"/v1/rules/{tenant.rule['id']}"
    etag = tenant.manager.get(path).headers["etag"]
    with world.other.client(world.key) as elsewhere, ThreadPoolExecutor(20) as pool:

        def edit(number: int) -> httpx.Response:
            client = (world.operator, elsewhere)[number % 2]
            body = tenant.rule_body(tenant.zone["id"], description=f"edit {number}")
            return client.put(path, json=body, headers={"If-Match": etag})

        answers = list(pool.map(edit, range(20)))
        (made,) = [answer for answer in answers if answer.status_code == 200]
        for answer in answers:
            if answer is not made:
                refused(answer, 412, "precondition_failed")
        wanted = made.json()["description"]
        eventually("it is known elsewhere", lambda: elsewhere.get(path).json()["description"] == wanted)


def test_zone_names_are_unique_and_free_again(tenant: Tenant) -> None:
    """A taken name is refused at creation and replacement; renaming frees the old one; a zone in use stays."""
    refused(tenant.manager.post("/v1/zones", json=tenant.zone_body("office")), 409, "zone_name_in_use")
    second = tenant.manager.post("/v1/zones", json=tenant.zone_body("vpn"))
    path, match = f"/v1/zones/{second.json()['id']}", {"If-Match": second.headers["etag"]}
    refused(tenant.manager.put(path, json=tenant.zone_body("office"), headers=match), 409, "zone_name_in_use")
    renamed = tenant.manager.put(path, json=tenant.zone_body("lab"), headers=match)
    assert renamed.json()["name"] == "lab"
    refused(tenant.manager.put(path, json=tenant.zone_body("other"), headers=match), 412)
    assert tenant.manager.post("/v1/zones", json=tenant.zone_body("vpn")).status_code == 201
    assert tenant.manager.post("/v1/zones", json=tenant.zone_body("other")).status_code == 201
    refused(tenant.manager.delete(f"/v1/zones/{tenant.zone['id']}"), 409, "zone_in_use")
    assert tenant.manager.delete(f"/v1/rules/{tenant.rule['id']}").status_code == 204
    assert tenant.manager.delete(f"/v1/zones/{tenant.zone['id']}").status_code == 204


def test_rules_read_back_as_they_were_written(tenant: Tenant) -> None:
    """Attributes, order, endpoint and API type are the client's own."""
    attributes = [
        {"name": "endpointType", "value": "private"},
        {"name": "networkZoneId", "value": tenant.zone["id"]},
    ]
    spelled = SMTP_API_TYPE.replace("notifications:", "notifications-dev:")
    body = tenant.rule_body(
        contexts=[{"attributes": attributes}],
        operations={"api_types": [{"api_type_id": spelled}]},
        enforcement_mode="report",
        description="d",
    )
    made = tenant.manager.made("/v1/rules", body)
    found = tenant.reader.get(f"/v1/rules/{made['id']}").json()
    assert {name: found[name] for name in body} == body
    listed = tenant.reader.get("/v1/rules", params={"account_id": tenant.id, "enforcement_mode": "report"}).json()
    assert [rule["id"] for rule in listed["rules"]] == [made["id"]]


def test_allowed_ips_come_from_the_rules(tenant: Tenant) -> None:
    """No rule, no address; each enabled rule restricts."""
    assert tenant.reader.get(f"{tenant.path}/allowed_ips").json()["subnets"] == ["192.0.2.1"]
    why = f"/v1/postlane/instances/{tenant.id}/access"
    assert tenant.reader.get(why, params={"address": "192.0.2.1"}).json()["admitted"] is True
    assert tenant.reader.get(why, params={"address": "192.0.2.2"}).json()["admitted"] is False
    refused(tenant.reader.get(why, params={"address": "x"}), 400, "invalid_address")
    tenant.manager.delete(f"/v1/rules/{tenant.rule['id']}")
    empty = tenant.reader.get(f"{tenant.path}/allowed_ips").json()
    assert empty["subnets"] == []
    assert empty["updated_at"].endswith("Z")
    refused(tenant.manager.patch(f"{tenant.path}/allowed_ips", json={"subnets": []}), 405, "method_not_allowed")


def test_the_operator_decides_and_the_customer_sees_it(tenant: Tenant) -> None:
    """Every fault of the questionnaire is listed; approval shows in IBM's words; only operators decide."""
    messages = refused(
        tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS | {"contacts": [], "nature": 1}), 400
    )
    assert len(messages) == 2
    refused(tenant.operator.post(f"{tenant.own}/authorization/approve", json={}), 409, "authorization_missing")
    assert tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS).json()["status"] == "submitted"
    refused(tenant.manager.post(f"{tenant.own}/authorization/approve", json={}), 403, "not_allowed")
    refused(tenant.operator.post(f"{tenant.own}/authorization/approve", json={"messages_per_day": -1}), 400)
    quota = {
        "messages_per_second": 5, "messages_per_hour": 100, "messages_per_day": 900,
        "recipients_per_message": 3, "message_bytes": 100_000,
    }  # fmt: skip
    read = tenant.operator.get(f"{tenant.own}/authorization").json()["submitted_at"]
    other = {"submitted_at": "2026-01-01T00:00:00Z", "reason": "no"}
    refused(tenant.operator.post(f"{tenant.own}/authorization/approve", json=other), 409, "changed_meanwhile")
    refused(tenant.operator.post(f"{tenant.own}/authorization/reject", json=other), 409, "changed_meanwhile")
    said = quota | {"reason": "ok", "submitted_at": read}
    approved = tenant.operator.post(f"{tenant.own}/authorization/approve", json=said).json()
    assert (approved["status"], approved["lane"]) == ("approved", "transactional")
    assert {name: approved[name] for name in quota} == quota
    assert tenant.reader.get(tenant.path).json()["config"]["en_authorization"] == {"verification": "SUCCESSFUL"}
    refused(tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS), 409, "authorization_approved")
    refused(tenant.operator.post(f"{tenant.own}/authorization/reject", json={"reason": " "}), 400, "reason_missing")
    assert tenant.operator.post(f"{tenant.own}/authorization/reject", json={"reason": "no"}).json()["reason"] == "no"
    assert "no" in tenant.reader.get(tenant.own).json()["overview"]["missing"][-1]


def test_an_operators_suspension_is_in_the_directory(world: World, tenant: Tenant) -> None:
    """It works with the verifier down, shows what the customer reads, and ends."""
    refused(tenant.manager.post(f"{tenant.own}/suspend", json={"reason": "x"}), 403)
    assert tenant.operator.post(f"{tenant.own}/suspend", json={"reason": "abuse"}).status_code == 200
    assert f"suspension.{tenant.configuration}" in world.records()
    assert "abuse" in tenant.reader.get(tenant.own).json()["overview"]["missing"][0]
    assert tenant.operator.post(f"{tenant.own}/resume").status_code == 200
    assert f"suspension.{tenant.configuration}" not in world.records()
    refused(tenant.operator.post(f"{tenant.own}/resume"), 404)


def test_without_a_verifier_the_answer_says_so(tenant: Tenant) -> None:
    """No verifier runs here: a check cannot be made, but what is not DNS is answered."""
    answer = tenant.manager.patch(f"{tenant.path}/verify", params={"type": "spf"})
    assert "verifier does not answer" in refused(answer, 503, "service_unavailable")[0]
    answer = tenant.manager.patch(f"{tenant.path}/verify", params={"type": "en_authorization"})
    assert answer.json() == {"status": [{"type": "en_authorization", "verification": "PENDING"}]}
    refused(tenant.manager.patch(f"{tenant.path}/verify", params={"type": "spf,mx"}), 400, "invalid_type")
    refused(tenant.manager.patch(f"{tenant.path}/verify"), 400)
    refused(tenant.reader.get("/v1/postlane/messages/01M83DTVQCZ5404GDKGHSXBK3451B8"), 503)


def test_only_operators_make_instances_and_operator_keys(tenant: Tenant) -> None:
    """A manager sees one instance, makes keys of it, and no others."""
    refused(tenant.manager.post("/v1/postlane/instances", json={"name": "x"}), 403)
    refused(tenant.manager.post("/v1/postlane/keys", json={"role": "operator"}), 403)
    assert [i["id"] for i in tenant.manager.get("/v1/postlane/instances").json()["instances"]] == [tenant.id]
    made = tenant.manager.made("/v1/postlane/keys", {"role": "reader"})
    assert made["instance"] == tenant.id
    listed = tenant.manager.get("/v1/postlane/keys").json()["keys"]
    assert {key["instance"] for key in listed} == {tenant.id}
    assert all("api_key" not in key for key in listed)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Basic eDp5", "Bearer pl_aaaaaaaaaaaa_" + "b" * 40])
def test_without_a_good_key_nothing_is_answered(world: World, tenant: Tenant, header: str | None) -> None:
    """401 in IBM's shape, for every operation."""
    headers = {} if header is None else {"Authorization": header}
    with httpx.Client(base_url=world.control.url, headers=headers, trust_env=False, timeout=60) as client:
        for path in (tenant.path, "/v1/zones?account_id=x", "/v1/postlane/self", "/v1/operations"):
            refused(client.get(path), 401, "not_authenticated")


def test_a_revoked_key_ends_with_its_tokens_on_every_replica(world: World, tenant: Tenant) -> None:
    """A token made from a key is good everywhere, until the key is revoked."""
    made = tenant.manager.made("/v1/postlane/keys", {"role": "manager"})
    form = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": made["api_key"]}
    token = httpx.post(f"{world.control.url}/identity/token", data=form, trust_env=False, timeout=60).json()
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 3600
    with world.other.client(token["access_token"]) as elsewhere:
        eventually("it is known elsewhere", lambda: elsewhere.get(tenant.path).status_code == 200)
        assert tenant.manager.delete(f"/v1/postlane/keys/{made['id']}").status_code == 204
        eventually("it is refused elsewhere", lambda: elsewhere.get(tenant.path).status_code == 401)
    refused_token = httpx.post(f"{world.control.url}/identity/token", data=form, trust_env=False, timeout=60)
    assert (refused_token.status_code, refused_token.json()["errorCode"]) == (400, "BXNIM0415E")


def test_bodies_are_judged_strictly(tenant: Tenant) -> None:
    """Wrong type of content, malformed JSON, wrong types, missing fields: each is named, nothing is a 500."""
    path = f"/v1/instances/{tenant.id}/smtp/config"
    refused(tenant.manager.post(path, content=b'{"name":"x"}', headers={"Content-Type": "text/plain"}), 415)
    refused(tenant.manager.post(path, content=b'{"name":"x"}'), 415)
    as_json = {"Content-Type": "application/json"}
    for content in (b"{", b"[]", b'"x"', b"null", b"\xff", b'{"name": null, "domain": "x.example"}', b"[" * 100_000):
        refused(tenant.manager.post(path, content=content, headers=as_json), 400)
    assert "domain" in refused(tenant.manager.post(path, json={"name": "x"}), 400)[0]
    refused(tenant.manager.post(path, content=b" " * 2_000_000, headers=as_json), 413, "request_too_large")
    chunks = iter([b" " * 1_000_000, b" " * 1_000_000])  # no Content-Length to judge by
    assert "1048576" in refused(tenant.manager.post(path, content=chunks, headers=as_json), 413, "request_too_large")[0]
    for answered in (tenant.manager.put(path), tenant.manager.options(path), tenant.manager.put(f"{path}/")):
        assert answered.headers.get_list("allow") == ["GET, OPTIONS, POST"]
    assert tenant.manager.post(f"{path}/x%2Fy").headers["allow"] == "DELETE, GET, OPTIONS, PATCH"
    refused(tenant.manager.post(path, content=b"x", headers=as_json | {"Content-Encoding": "gzip"}), 415)
    for query in ("limit=0", "limit=101", "limit=x", "offset=-1", "search=" + "x" * 101):
        refused(tenant.manager.get(f"{path}?{query}"), 400)
    refused(tenant.manager.get("/v1/zones", params={"account_id": "this_is_an_invalid_id"}), 400, "invalid_account_id")
    for nothing in ("/nothing/here", "/v1/postlane/nothing"):  # beside the document the framework has a page of its own
        refused(tenant.manager.get(nothing), 404, "not_found")


def test_an_encoded_slash_stays_inside_its_segment(tenant: Tenant) -> None:
    """The raw path is split before it is decoded."""
    head, tail = tenant.path.split("/smtp/")
    assert tenant.manager.get(f"{head}%2Fsmtp/{tail}").status_code == 404
    refused(tenant.manager.get(f"{tenant.path}/users/a%2Fb"), 404, "user_not_found")
    refused(tenant.manager.get(f"{tenant.path}%2Fusers"), 404, "configuration_not_found")
    refused(tenant.manager.get(f"{tenant.path}/users/%00%F0%9F%92%A9*.>"), 404, "user_not_found")


def test_lists_have_pages(tenant: Tenant) -> None:
    """Pages of two through three configurations, by the links alone."""
    for n in range(2):
        tenant.manager.configuration(tenant.id, f"p{n}.{tenant.domain}")
    path, found = f"/v1/instances/{tenant.id}/smtp/config?limit=2", []
    while path:
        page = tenant.reader.get(path).json()
        assert page["total_count"] == 3
        found += [each["domain"] for each in page["smtp_configurations"]]
        path = page.get("next", {}).get("href", "")
    assert found == [tenant.domain, f"p0.{tenant.domain}", f"p1.{tenant.domain}"]
    beyond = tenant.reader.get(f"/v1/instances/{tenant.id}/smtp/config?offset=3").json()
    assert (beyond["smtp_configurations"], "next" in beyond) == ([], False)
    found = tenant.reader.get(f"/v1/instances/{tenant.id}/smtp/config?search=P1").json()["smtp_configurations"]
    assert [each["domain"] for each in found] == [f"p1.{tenant.domain}"]


def test_every_change_is_in_the_audit_log_without_secrets(world: World, tenant: Tenant) -> None:
    """Who, what, before and after; no hash, no password, and nothing of other tenants."""
    tenant.manager.patch(tenant.path, json={"description": "later"})
    records = tenant.reader.get("/v1/postlane/audit").json()["records"]
    events = [msgspec.json.decode(json.dumps(record), type=DirectoryChanged) for record in records]
    assert (events[0].action, events[0].key) == ("change", f"configuration.{tenant.configuration}")
    assert records[0]["before"]["description"] == ""
    assert records[0]["after"]["description"] == "later"
    assert {record["instance"] for record in records} == {tenant.id}
    assert {record["key"].split(".")[0] for record in records} >= {"instance", "configuration", "user", "zone", "rule"}
    first = tenant.reader.get("/v1/postlane/audit?limit=2").json()
    second = tenant.reader.get(f"/v1/postlane/audit?limit=2&before={first['older']}").json()
    assert first["records"] + second["records"] == records[:4]
    refused(tenant.reader.get("/v1/postlane/audit?before=0"), 400, "invalid_before")
    text = json.dumps(records)
    assert "argon2" not in text
    assert tenant.user["password"] not in text
    log = world.control.log.read_text()
    assert tenant.user["password"] not in log
    assert world.key not in log


def test_callers_have_an_allowance_each(bus_server: BusServer, tmp_path: Path) -> None:
    """Beyond it 429 with the time to wait; another key is not touched; strangers are counted by address."""
    control = Control(
        tmp_path,
        bus_server,
        requests_per_second="0.01",
        requests_at_once="3",
        strangers_per_second="0.01",
        strangers_at_once="2",
    )
    keys = [asyncio.run(add_operator_key(control.environment, None, "tests")) for _ in range(2)]
    control.start()
    first, second, stranger = (control.client(key) for key in (*keys, "wrong"))
    statuses = [first.get("/v1/postlane/self") for _ in range(4)]
    assert [answer.status_code for answer in statuses] == [200, 200, 200, 429]
    refused(statuses[-1], 429, "too_many_requests")
    assert 0 < int(statuses[-1].headers["retry-after"]) <= 100
    assert second.get("/v1/postlane/self").status_code == 200
    assert [stranger.get("/v1/postlane/self").status_code for _ in range(3)] == [401, 401, 429]
    form = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": "wrong"}
    assert httpx.post(f"{control.url}/identity/token", data=form, trust_env=False, timeout=60).status_code == 429
    for client in (first, second, stranger):
        client.close()
    assert control.stop() == 0


def test_an_instance_has_a_number_of_keys(bus_server: BusServer, tmp_path: Path) -> None:
    """Each has an allowance of requests, so a tenant must not make them without end; a revoked one makes room."""
    control = Control(tmp_path, bus_server, keys_per_instance="2")
    key = asyncio.run(add_operator_key(control.environment, None, "tests"))
    control.start()
    with control.client(key) as operator:
        instances = [operator.post("/v1/postlane/instances", json={"name": "n"}).json()["id"] for _ in range(2)]
        wishes = [{"role": "manager", "instance": instance} for instance in instances]
        made = [operator.post("/v1/postlane/keys", json=wishes[0]).json() for _ in range(2)]
        refused(operator.post("/v1/postlane/keys", json=wishes[0]), 409, "too_many_keys")
        assert operator.post("/v1/postlane/keys", json=wishes[1]).status_code == 201
        operator.delete(f"/v1/postlane/keys/{made[0]['id']}").raise_for_status()
        assert operator.post("/v1/postlane/keys", json=wishes[0]).status_code == 201
    assert control.stop() == 0


def test_correlation_ids_are_echoed(tenant: Tenant) -> None:
    """A client's own ID comes back; without one there is one."""
    assert (
        tenant.reader.get(tenant.path, headers={"X-Correlation-Id": "mine-1"}).headers["x-correlation-id"] == "mine-1"
    )
    assert tenant.reader.get(tenant.path, headers={"Transaction-Id": "mine-2"}).headers["x-correlation-id"] == "mine-2"
    assert len(tenant.reader.get(tenant.path).headers["x-correlation-id"]) == 36


def test_while_the_bus_is_away_reads_answer_and_writes_say_so(bus_server: BusServer, tmp_path: Path) -> None:
    """The replica goes on answering; a write is 503, and works again when the bus is back."""
    control = Control(tmp_path, bus_server)
    key = asyncio.run(add_operator_key(control.environment, None, "tests"))
    control.start()
    api = control.client(key)
    instance = api.instance()
    bus_server.kill()
    try:
        assert api.get(f"/v1/postlane/instances/{instance}").status_code == 200
        refused(api.post("/v1/postlane/instances", json={"name": "x"}), 503, "service_unavailable")
        assert api.get("/readyz").status_code == 503
    finally:
        bus_server.start()
    eventually("it is ready again", lambda: api.get("/readyz").status_code == 200)
    assert api.post("/v1/postlane/instances", json={"name": "x"}).status_code == 201
    api.close()
    assert control.stop() == 0


def test_records_are_told_without_a_verifier(world: World) -> None:
    """Nobody answers for DNS: the records to publish are told all the same, and that nobody has looked."""
    tenant = world.tenant()
    advice = tenant.reader.get(f"{tenant.own}/records").json()
    assert advice["looked"] == "never"
    assert [(each["kind"], each["state"]) for each in advice["records"]] == [
        ("dkim", "unknown"), ("spf", "unknown"), ("dmarc", "advised"),
    ]  # fmt: skip
    assert "verifier does not answer" in advice["notes"][0]
    assert tenant.reader.get(f"{tenant.own}/records", params={"look": "last"}).json()["notes"] == []
