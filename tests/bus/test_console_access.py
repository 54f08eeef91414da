"""Rules and zones are removed in the console: by who means it, with what follows said first."""

import pytest

from tests.browser import Browser
from tests.control_world import Tenant, World


def access(tenant: Tenant) -> str:
    """Return the page."""
    return f"/console/tenants/{tenant.id}/access"


def test_the_last_rule_is_removed_by_who_means_it(tenant: Tenant) -> None:
    """Nobody reaches SMTP then; its zone may go after it, and its name is free again."""
    visitor = Browser.of(tenant.manager)
    rule, zone = f"rules/{tenant.rule['id']}/remove", f"zones/{tenant.zone['id']}/remove"
    assert "Nobody reaches SMTP from then on" in visitor.open(access(tenant))
    assert zone not in visitor.page  # a rule names it
    visitor.submit(rule, status=400)
    assert "tick that you mean it" in visitor.page
    assert tenant.reader.get(f"/v1/rules/{tenant.rule['id']}").is_success
    visitor.open(access(tenant))
    visitor.submit(rule, sure="yes")
    assert "It is removed." in visitor.page
    assert "There is none, so nobody reaches SMTP." in visitor.page
    assert tenant.reader.get(f"/v1/rules/{tenant.rule['id']}").status_code == 404
    visitor.submit(zone, status=400)
    assert tenant.reader.get(f"/v1/zones/{tenant.zone['id']}").is_success
    visitor.open(access(tenant))
    visitor.submit(zone, sure="yes")
    assert tenant.reader.get(f"/v1/zones/{tenant.zone['id']}").status_code == 404
    visitor.submit("/access", nth=1, name="office", addresses="192.0.2.7")
    assert "192.0.2.7" in visitor.page


def test_a_zone_that_a_rule_names_stays(tenant: Tenant) -> None:
    """In the words of the API."""
    visitor = Browser.of(tenant.manager)
    visitor.post(f"{access(tenant)}/zones/{tenant.zone['id']}/remove", 409, sure="yes")
    assert "is referenced by one or more rules" in visitor.page
    assert tenant.reader.get(f"/v1/zones/{tenant.zone['id']}").is_success


def test_what_a_removed_rule_changes_is_said_of_each(tenant: Tenant) -> None:
    """Of several that are enabled each keeps out; one that only reports changes nothing. Descriptions are texts."""
    second = tenant.manager.made("/v1/rules", tenant.rule_body(tenant.zone["id"], description="<b>second"))
    tenant.manager.made("/v1/rules", tenant.rule_body(tenant.zone["id"], enforcement_mode="report"))
    visitor = Browser.of(tenant.manager)
    visitor.open(access(tenant))
    assert visitor.page.count("Whom only this rule keeps out gets in from then on") == 2
    assert visitor.page.count("Who gets in stays as it is") == 1
    assert "&lt;b&gt;second" in visitor.page
    visitor.submit(f"{second['id']}/remove", sure="yes")
    assert "second" not in visitor.page
    assert "Nobody reaches SMTP from then on" in visitor.page


@pytest.mark.parametrize("replaced", [False, True])
def test_a_rule_is_not_removed_for_what_is_no_longer_so(tenant: Tenant, replaced: bool) -> None:
    """The page says who gets in by other rules; one of them went meanwhile, or was replaced by another one."""
    second = tenant.manager.made("/v1/rules", tenant.rule_body(tenant.zone["id"]))
    visitor = Browser.of(tenant.manager)
    visitor.open(access(tenant))
    assert tenant.manager.delete(f"/v1/rules/{second['id']}").is_success
    if replaced:
        tenant.manager.made("/v1/rules", tenant.rule_body(tenant.zone["id"]))
    visitor.submit(f"{tenant.rule['id']}/remove", status=409, sure="yes")
    assert "have come or gone meanwhile" in visitor.page
    assert tenant.reader.get(f"/v1/rules/{tenant.rule['id']}").is_success


def test_a_page_of_one_tenant_removes_nothing_of_another(world: World) -> None:
    """Although an operator may remove both."""
    mine, other = world.tenant(), world.tenant()
    unused = other.manager.made("/v1/zones", other.zone_body("unused"))
    before = world.records()
    operator = Browser.of(world.operator)
    operator.post(f"{access(mine)}/rules/{other.rule['id']}/remove", 404, sure="yes", enforced="1")
    operator.post(f"{access(mine)}/zones/{unused['id']}/remove", 404, sure="yes")
    assert world.records() == before
    operator.post(f"{access(other)}/zones/{unused['id']}/remove", 200, sure="yes")
    assert unused["name"] not in operator.page


def test_a_reader_is_told_that_it_only_reads(tenant: Tenant) -> None:
    """By the API, and without forms."""
    reader = Browser.of(tenant.reader)
    assert "/remove" not in reader.open(access(tenant))
    reader.post(f"{access(tenant)}/rules/{tenant.rule['id']}/remove", 403, sure="yes")
    assert "this key may only read" in reader.page
    assert tenant.reader.get(f"/v1/rules/{tenant.rule['id']}").is_success
