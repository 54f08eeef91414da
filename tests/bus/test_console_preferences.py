"""How mail of a domain is treated, in the console: what a manager chooses, what an operator does."""

from typing import Any

import pytest

from tests.browser import Browser
from tests.control_world import ANSWERS, Tenant, World


def preferences(tenant: Tenant) -> str:
    """Return the page."""
    return f"/console/tenants/{tenant.id}/domains/{tenant.configuration}/preferences"


def detail(tenant: Tenant) -> dict[str, Any]:
    """Return what the API has of the domain."""
    found: dict[str, Any] = tenant.reader.get(tenant.own).json()
    return found


def test_a_manager_changes_what_a_tenant_chooses(tenant: Tenant) -> None:
    """What is left as it was stays, and the page shows what is."""
    before = detail(tenant)
    visitor = Browser.of(tenant.manager)
    visitor.open(preferences(tenant))
    wish: dict[str, Any] = {
        "when_suspended": "refuse", "hold_cap": 7, "lifetime_seconds": 3600, "at_most_once": True, "repeats": "content",
        "html_policy": "warn", "unsubscribe_policy": "refuse",
    }  # fmt: skip
    visitor.submit("/preferences", {name: "yes" if value is True else str(value) for name, value in wish.items()})
    assert "It is changed" in visitor.page
    after = detail(tenant)
    assert {name: after[name] for name in wish} == wish
    kept = ("reply_to", "spam_policy", "attachments_allowed", "egress_pool")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert visitor.form("/preferences").fields["lifetime_seconds"] == "3600"
    assert "give it up, never twice" in Browser.of(tenant.reader).open(preferences(tenant))


def test_what_somebody_else_changed_meanwhile_stays(tenant: Tenant) -> None:
    """Only what was changed on the page is, though the form has every field."""
    visitor = Browser.of(tenant.manager)
    visitor.open(preferences(tenant))
    assert tenant.manager.patch(tenant.own, json={"html_policy": "refuse"}).is_success
    visitor.submit("/preferences", hold_cap="3")
    assert (detail(tenant)["html_policy"], detail(tenant)["hold_cap"]) == ("refuse", 3)


def test_what_an_operator_chooses_is_no_field_of_a_manager(world: World) -> None:
    """It is read there; sent all the same, the API refuses it."""
    tenant = world.tenant()
    manager, operator = Browser.of(tenant.manager), Browser.of(world.operator)
    manager.open(preferences(tenant))
    theirs = {"spam_policy": "warn", "attachments_allowed": "yes", "egress_pool": "bulk"}
    assert not theirs.keys() & manager.form("/preferences").fields.keys()
    for name, value in theirs.items():
        manager.post(preferences(tenant), 403, **{name: value})
        assert "only an operator may" in manager.page
    operator.open(preferences(tenant))
    operator.submit("/preferences", theirs)
    assert detail(tenant) == detail(tenant) | {
        "spam_policy": "warn",
        "attachments_allowed": True,
        "egress_pool": "bulk",
    }
    manager.open(preferences(tenant))
    assert "<dd>take it, with a remark</dd>" in manager.page
    assert "<dd>bulk</dd>" in manager.page


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("hold_cap", "many <i>", "&#39;many &lt;i&gt;&#39; is not a whole number"),
        ("hold_cap", "-1", "is not a whole number"),
        ("hold_cap", "1000001", "hold_cap"),
        ("lifetime_seconds", "59", "lifetime_seconds"),
        ("reply_to", "<i>nobody", "reply_to is not a mail address"),
        ("reply_to", "a b@<i>", "reply_to is not a mail address"),
        ("repeats", "<i>", "repeats"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(tenant: Tenant, name: str, text: str, said: str) -> None:
    """In the words of the API where it has some; also what was right beside it."""
    before = detail(tenant)
    visitor = Browser.of(tenant.manager)
    visitor.open(preferences(tenant))
    visitor.submit("/preferences", {name: text, "html_policy": "warn"}, 400)
    assert said in visitor.page
    assert "<i>" not in visitor.page
    assert detail(tenant) == before


def test_a_lifetime_that_was_set_does_not_go_unsaid(tenant: Tenant) -> None:
    """The API has no word for the operator's own again: an empty field is refused, not passed over."""
    visitor = Browser.of(tenant.manager)
    visitor.open(preferences(tenant))
    visitor.submit("/preferences", lifetime_seconds="600")
    visitor.submit("/preferences", status=400, lifetime_seconds="")
    assert "Seconds for which delivery is tried: &#39;&#39; is not a whole number" in visitor.page
    assert detail(tenant)["lifetime_seconds"] == 600


def test_reports_go_where_it_was_confirmed(world: World) -> None:
    """An address elsewhere waits for its link, which is mailed again if asked for; one of the domain waits for none."""
    tenant = world.tenant()
    visitor, reader = Browser.of(tenant.manager), Browser.of(tenant.reader)
    page = preferences(tenant)
    assert "They go to the sender." in visitor.open(page)
    assert "Mail the link again" not in visitor.page
    visitor.post(f"{page}/confirmation", 409)
    assert "no address for bounce reports waits" in visitor.page
    tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS)
    assert "bounces@acme.example is to get them" in visitor.open(page)
    visitor.submit("/preferences", reply_to="o&b@elsewhere.example")
    assert "o&amp;b@elsewhere.example is to get them" in visitor.page
    assert "Mail the link again" not in reader.open(page)

    def links() -> int:
        return sum(notice.recipients == ("o&b@elsewhere.example",) for notice in world.notices())

    assert links() == 1
    visitor.submit("/confirmation")
    assert "The link is mailed." in visitor.page
    assert links() == 2
    visitor.submit("/preferences", reply_to=f"bounces@{tenant.domain}")
    assert "needs no confirmation" in visitor.page
    assert "Mail the link again" not in visitor.page


def test_a_reader_reads_each_of_them(tenant: Tenant) -> None:
    """In words, and not in fields."""
    page = Browser.of(tenant.reader).open(preferences(tenant))
    assert "<select" not in page
    for words in ("hold it", "those with an Idempotency-Key", "send it again, perhaps twice", "all of them"):
        assert words in page
