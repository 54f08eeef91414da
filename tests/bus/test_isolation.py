"""Every operation of the API × every kind of key, generated from the OpenAPI document.

An operation that is added is covered by itself, or fails here with what this table still has to be told of it.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from shared.mail.ids import RANDOM_BYTES, new_queue_id
from tests.control_process import Api
from tests.control_world import ANSWERS, Tenant, World

OPEN = {"make_token"}
"""Needs no key."""
OF_NOBODY = {
    "list_operations", "list_serviceref_targets", "get_serviceref_target", "list_endpoints", "get_self",
    "get_dkim_zone", "list_instances", "create_instance", "list_keys", "examine",
}  # fmt: skip
"""About no tenant's object; what lists show and who may call is tested in test_control."""
OF_OTHER_ROOMS = {"get_message", "follow_message", "act_on_queue", "get_refusal"}
"""Decided by tracker and delivery, which do not run here: tests/journeys/test_isolation.py."""

Body = Callable[[Tenant], Any]
NEEDED: dict[str, Body] = {
    "create_configuration": lambda of: {"name": "x", "domain": "x.example"},
    "update_configuration": lambda of: {"name": "x"},
    "create_user": lambda of: {},
    "update_user": lambda of: {"description": "x"},
    "create_zone": lambda of: of.zone_body("x"),
    "replace_zone": lambda of: of.zone_body("x"),
    "create_rule": lambda of: of.rule_body(of.zone["id"]),
    "replace_rule": lambda of: of.rule_body(of.zone["id"]),
    "set_preferences": lambda of: {"when_suspended": "refuse"},
    "submit_authorization": lambda of: ANSWERS,
    "approve": lambda of: {},
    "reject": lambda of: {"reason": "x"},
    "suspend": lambda of: {"reason": "x"},
    "rotate_key": lambda of: {},
    "set_guard_rails": lambda of: {"messages_per_hour": 5},
    "expire_password": lambda of: {"expires_at": None},
    "rotate_user": lambda of: {},
    "begin_takeover": lambda of: {"domain": "x.example"},
    "complete_takeover": lambda of: {},
    "create_key": lambda of: {"role": "reader", "instance": of.id},
    "add_suppression": lambda of: {"address": "x@y.example"},
    "import_allow_list": lambda of: {"subnets": ["192.0.2.0/24"]},
}
"""A body for each operation that takes one; new ones are named by a failing test."""
QUERIES: dict[str, str] = {
    "verify_configuration": "type=en_authorization",
    "get_metrics": "gte=2026-01-01T00:00:00Z&lte=2026-01-02T00:00:00Z&smtp_config_id={configuration_id}",
    "get_bounce_metrics": "gte=2026-01-01T00:00:00Z&lte=2026-01-02T00:00:00Z&smtp_config_id={configuration_id}",
    "list_zones": "account_id={instance_id}",
    "list_rules": "account_id={instance_id}",
    "list_audit": "instance={instance_id}",
    "list_queue": "configuration={configuration_id}",
    "shape_queue": "configuration={configuration_id}",
    "remove_suppression": "address=x@y.example",
    "search_messages": "instance={instance_id}",
    "explain_access": "address=192.0.2.1",
    "watch_clients": "seconds=1",
}
OF_CASE = ("0123456789abcdef", "0123456789ABCDEF")
MAY_BE_AWAY = 503
"""No verifier, tracker or delivery runs here."""


class Operation(NamedTuple):
    """One operation of the document."""

    id: str
    method: str
    path: str
    """With its query, and places for IDs."""
    takes_body: bool

    @property
    def places(self) -> list[str]:
        """The IDs it is about, in order."""
        return re.findall(r"\{(\w+)\}", self.path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Give the module two replicas of control on one bus; nobody is slowed down."""
    found = World(tmp_path_factory.mktemp("control"), strangers_at_once="10000", requests_at_once="100000")
    yield found
    found.close()


@pytest.fixture(scope="module")
def victim(world: World) -> Tenant:
    """Give a tenant that others try to reach."""
    return world.tenant()


@pytest.fixture(scope="module")
def stranger(world: World) -> Tenant:
    """Give a tenant with a good key of its own."""
    return world.tenant()


@pytest.fixture(scope="module")
def operations(world: World) -> list[Operation]:
    """Read every operation from the document that is served."""
    document = world.operator.get("/v1/postlane/openapi.json").json()
    return [
        Operation(
            each["operationId"],
            method.upper(),
            path + (f"?{QUERIES[each['operationId']]}" if each["operationId"] in QUERIES else ""),
            "requestBody" in each,
        )
        for path, methods in document["paths"].items()
        for method, each in methods.items()
        if isinstance(each, dict) and "operationId" in each
    ]


def ids(world: World, of: Tenant) -> dict[str, str]:
    """Return a tenant's ID for every place in a path."""
    user = of.user["id"]
    passwords = of.manager.get(f"{of.own}/users/{user}/passwords").json()["passwords"]
    keys = world.operator.get("/v1/postlane/keys").json()["keys"]
    takeovers = f"/v1/postlane/instances/{of.id}/takeovers"
    if not of.manager.get(takeovers).json()["takeovers"]:
        of.manager.made(takeovers, {"domain": world.tenant().domain})
    return {
        "instance_id": of.id,
        "account_id": of.id,
        "configuration_id": of.configuration,
        "user_id": user,
        "password_id": passwords[0]["id"],
        "zone_id": of.zone["id"],
        "rule_id": of.rule["id"],
        "key_id": next(key["id"] for key in keys if key.get("instance") == of.id),
        "queue_id": new_queue_id(0, secrets.token_bytes(RANDOM_BYTES)),
        "takeover_id": of.manager.get(takeovers).json()["takeovers"][0]["id"],
    }


def nobodys(identity: str) -> str:
    """Return an ID of the same form that nobody has."""
    return re.sub(r"[0-9a-zA-Z]", lambda found: secrets.choice(OF_CASE[found[0].isupper()]), identity)


def of_tenants(operations: list[Operation]) -> list[Operation]:
    """Return the operations that are about a tenant's objects."""
    return [each for each in operations if each.id not in OPEN | OF_NOBODY | OF_OTHER_ROOMS]


def body_for(operation: Operation, of: Tenant) -> Any:
    """Return the body an operation is called with; None if it takes none."""
    return NEEDED[operation.id](of) if operation.id in NEEDED else None


def lacks(operation: Operation) -> bool:
    """Whether the tenants of these tests have nothing that the operation could show."""
    return operation.id == "get_authorization" or "queue_id" in operation.places


def asked(client: httpx.Client, operation: Operation, names: dict[str, str], body: Any) -> httpx.Response:
    """Call an operation with IDs and a body."""
    headers = {"If-Match": '"1"'} if operation.id in ("replace_zone", "replace_rule") else {}
    content = body if operation.takes_body else None
    path = operation.path.format(**names)
    return client.request(operation.method, path, headers=headers, **({} if content is None else {"json": content}))


def told(answer: httpx.Response, names: dict[str, str]) -> tuple[int, str]:
    """Return all that an answer tells, without the IDs that were asked for and the trace."""
    text = answer.text
    for place, identity in sorted(names.items(), key=lambda item: -len(item[1])):
        text = text.replace(identity, f"<{place.replace('account', 'instance')}>")
    return answer.status_code, re.sub(r'"trace":"[^"]*"', "", text)


def test_the_table_knows_every_operation(operations: list[Operation]) -> None:
    """Whoever adds an operation says here whose objects it is about, unless its path does."""
    known = {"instance_id", "account_id", "configuration_id", "user_id", "password_id", "zone_id", "rule_id", "key_id"}
    known |= {"takeover_id", "queue_id"}
    names = {each.id for each in operations}
    assert len(names) == len(operations) > 70
    assert names >= OPEN | OF_NOBODY | OF_OTHER_ROOMS | NEEDED.keys() | QUERIES.keys(), "the table has what is gone"
    for each in of_tenants(operations):
        assert each.places or each.id in NEEDED, f"{each.id}: add it to OF_NOBODY, or its ID to QUERIES"
        assert set(each.places) <= known, f"{each.id}: add an ID for {set(each.places) - known} to ids()"
        assert not each.takes_body or each.id in NEEDED, f"{each.id}: add a body to NEEDED"


def test_a_foreign_object_answers_exactly_like_an_unknown_one(
    world: World, victim: Tenant, stranger: Tenant, operations: list[Operation]
) -> None:
    """Every operation × a foreign key, also with the stranger's own objects before the foreign one in the path."""
    foreign, own = ids(world, victim), ids(world, stranger)
    unknown = {place: nobodys(identity) for place, identity in foreign.items()}
    before = world.records()
    tried = 0
    for operation in of_tenants(operations):
        for kept in range(max(1, len(operation.places))):
            owned = {place: own[place] for place in operation.places[:kept]}
            bodies = [body_for(operation, victim)] if kept == 0 else []
            if operation.places:
                bodies.append(body_for(operation, stranger))
            for body in bodies:
                missing_body = json.loads(json.dumps(body))
                for place, identity in foreign.items():
                    missing_body = json.loads(json.dumps(missing_body).replace(identity, unknown[place]))
                at_foreign = asked(stranger.manager, operation, foreign | owned, body)
                at_unknown = asked(stranger.manager, operation, unknown | owned, missing_body)
                what = (operation.id, kept, at_foreign.text, at_unknown.text)
                assert at_foreign.status_code == 404, what
                assert told(at_foreign, foreign | owned) == told(at_unknown, unknown | owned), what
                assert at_foreign.headers.keys() == at_unknown.headers.keys(), what
                tried += 1
    assert world.records() == before
    assert tried > 100


def test_the_owner_is_not_refused(world: World, operations: list[Operation]) -> None:
    """The control of the test above: the same requests with the tenant's own key find what they are about."""
    tenant = world.tenant()
    names = ids(world, tenant)
    for operation in of_tenants(operations):
        if operation.method == "GET":
            answer = asked(tenant.manager, operation, names, None)
            assert answer.status_code in (200, MAY_BE_AWAY) or lacks(operation), (operation, answer.text)


def test_readers_read_and_nothing_else(world: World, victim: Tenant, operations: list[Operation]) -> None:
    """A reader's GETs answer, everything else is 403 and changes nothing."""
    names = ids(world, victim)
    before = world.records()
    for operation in of_tenants(operations):
        answer = asked(victim.reader, operation, names, body_for(operation, victim))
        if operation.method == "GET":
            assert answer.status_code in (200, MAY_BE_AWAY) or lacks(operation), (operation, answer.text)
        else:
            assert answer.status_code == 403, (operation, answer.text)
            assert answer.json()["errors"][0]["code"] == "not_allowed", operation
    assert world.records() == before


@pytest.mark.parametrize("shown", [None, "Bearer pl_aaaaaaaaaaaa_" + "b" * 40], ids=["no key", "an unknown key"])
def test_without_a_good_key_every_operation_answers_the_same(
    world: World, victim: Tenant, operations: list[Operation], shown: str | None
) -> None:
    """401 in IBM's shape, whatever is asked for."""
    names = ids(world, victim) | {"reference": "R-0000000000", "service_name": "x"}
    before = world.records()
    headers = {} if shown is None else {"Authorization": shown}
    answers = set()
    with httpx.Client(base_url=world.control.url, headers=headers, trust_env=False, timeout=30) as client:
        for operation in operations:
            if operation.id not in OPEN:
                body = body_for(operation, victim) or {}
                answers.add(told(asked(client, operation, names, body), names))
    assert len(answers) == 1, answers
    assert next(iter(answers))[0] == 401
    assert world.records() == before


def test_a_key_of_the_api_is_its_own_class(world: World) -> None:
    """The clients of this table are what they say: the operator's key reaches both tenants."""
    assert isinstance(world.operator, Api)
    assert len(world.operator.get("/v1/postlane/instances").json()["instances"]) > 1
