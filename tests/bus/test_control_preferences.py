"""How mail of a domain is treated, as the management API sets it."""

from shared.contract.records import Configuration
from tests.control_world import World


def test_policies_are_set_read_back_and_kept_in_the_directory(world: World) -> None:
    """What is left out stays; a word that is none is refused; the spam filter's consequences are the operator's."""
    tenant = world.tenant()
    before = tenant.manager.request("GET", tenant.own).json()
    assert [before[name] for name in ("repeats", "html_policy", "unsubscribe_policy", "spam_policy")] == [
        "header", "off", "off", "off",
    ]  # fmt: skip
    wish = {"repeats": "content", "html_policy": "warn", "unsubscribe_policy": "refuse"}
    answer = tenant.manager.request("PATCH", tenant.own, json=wish)
    assert answer.status_code == 200
    kept = world.records()[f"configuration.{tenant.configuration}"]
    assert isinstance(kept, Configuration)
    assert (kept.repeats, kept.html_policy, kept.unsubscribe_policy, kept.spam_policy) == (
        "content", "warn", "refuse", "off",
    )  # fmt: skip
    assert answer.json()["when_suspended"] == before["when_suspended"]
    assert tenant.manager.request("PATCH", tenant.own, json={"html_policy": "scold"}).status_code == 400
    assert tenant.manager.request("PATCH", tenant.own, json={"spam_policy": "off"}).status_code == 403
    assert world.operator.request("PATCH", tenant.own, json={"spam_policy": "warn"}).json()["spam_policy"] == "warn"


def test_delivery_is_chosen(world: World) -> None:
    """At most once is the tenant's choice, outgoing addresses are the operator's; both are kept in the directory."""
    tenant = world.tenant()
    answer = tenant.manager.request("PATCH", tenant.own, json={"at_most_once": True})
    assert (answer.status_code, answer.json()["at_most_once"]) == (200, True)
    assert tenant.manager.request("PATCH", tenant.own, json={"egress_pool": "bulk"}).status_code == 403
    assert world.operator.request("PATCH", tenant.own, json={"egress_pool": "a=b"}).status_code == 400
    assert world.operator.request("PATCH", tenant.own, json={"egress_pool": "bulk"}).json()["egress_pool"] == "bulk"
    kept = world.records()[f"configuration.{tenant.configuration}"]
    assert isinstance(kept, Configuration)
    assert (kept.at_most_once, kept.egress_pool) == (True, "bulk")
