"""The console given what is odd and legal: names in any octets, numbers that are none, paths that lead up."""

import http.client
from pathlib import Path

import httpx
import pytest

from tests.browser import Browser
from tests.control_process import Control
from tests.control_world import ANSWERS, Tenant, World

FORM = {
    **{name: value for name, value in ANSWERS.items() if isinstance(value, str)},
    "contacts": "a@acme.example\nb@acme.example",
    "only_to_requesters": "yes",
    "unsubscribe_link": "yes",
}


def browser(world: World, client: httpx.Client) -> Browser:
    """Return a browser signed in with the key that a client of the API shows."""
    made = Browser(world.control.url)
    made.sign_in(client.headers["Authorization"].removeprefix("Bearer "))
    return made


def own(tenant: Tenant) -> str:
    """Return the page of a tenant."""
    return f"/console/tenants/{tenant.id}"


def domain(tenant: Tenant) -> str:
    """Return the page of its domain."""
    return f"{own(tenant)}/domains/{tenant.configuration}"


def test_no_path_leads_up_to_something_else(world: World) -> None:
    """Dots for a user's ID do not remove the domain that has the user, nor for any other ID."""
    tenant = world.tenant()
    visitor = browser(world, tenant.manager)
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.client.cookies.items())
    kind = "application/x-www-form-urlencoded"
    headers = {"Origin": world.control.url, "Cookie": cookie, "Content-Type": kind}
    before = world.records()
    for dots in (".", "..", "%2e", "%2e%2e", "%252e%252e"):
        raw = http.client.HTTPConnection("127.0.0.1", world.control.port, timeout=60)  # others walk up themselves
        raw.request("POST", f"{domain(tenant)}/users/{dots}/remove", "sure=yes", headers)
        assert raw.getresponse().status == 404, dots
        raw.close()
    for where in (f"{own(tenant)}/domains/%2e%2e", "/console/messages/%2e%2e", "/console/find?what=.."):
        visitor.open(where, 404)
    assert world.records() == before


@pytest.mark.parametrize("agent", [b"M\xfcller/1.0", b"\xff", b""])
def test_a_browser_may_have_any_name(world: World, agent: bytes) -> None:
    """Header fields are octets, not ASCII."""
    visitor = browser(world, world.operator)
    assert visitor.client.get("/console/tenants", headers={b"User-Agent": agent}).status_code == 200


def test_a_cookie_of_any_octets_signs_nobody_in(world: World) -> None:
    """It leads to the first page, as any forged one."""
    for value in (b"\xe9", b"a%0d%0ab", b'"'):
        answer = httpx.get(
            f"{world.control.url}/console/tenants",
            headers={b"Cookie": b"postlane-console=" + value},
            trust_env=False,
            timeout=60,
        )
        assert (answer.status_code, answer.headers["location"][:17]) == (303, "/console/sign-in?")


@pytest.mark.parametrize("origin", ["http://[", "://", "http://", "", "null", "http:"])
def test_an_origin_that_is_none_is_foreign(world: World, origin: str) -> None:
    """Also where the request names no host."""
    visitor = browser(world, world.operator)
    for host in ({}, {"Host": ""}):
        answer = visitor.client.post("/console/tenants", data={"name": "x"}, headers={"Origin": origin} | host)
        assert answer.status_code == 403, host


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", "x", str(2**70)])
def test_numbers_that_are_none(world: World, number: str) -> None:
    """Where a list begins they count as the beginning; for days they are refused."""
    tenant = world.tenant()
    visitor = browser(world, tenant.manager)
    visitor.open(f"{domain(tenant)}/suppressions?offset={number}")
    assert visitor.client.get(f"{own(tenant)}/messages?offset={number}").status_code == 503  # no tracker runs here
    visitor.open(domain(tenant))
    visitor.submit("/rotate", status=400, days=number)
    assert "for how many days" in visitor.page
    visitor.open(domain(tenant))
    visitor.submit("/rotate", status=400, days="366")
    assert "0 to 365" in visitor.page


def test_answers_are_read_in_the_lines_they_were_written_in(world: World) -> None:
    """Line breaks stay, what turns the direction of writing or controls a terminal goes, in evidence too."""
    tenant = world.tenant()
    odd = {"list_source": "first\r\nsecond\nthird", "evidence": ["turned\u202e\x1bfourth\nfifth"]}
    assert tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS | odd).is_success
    page = browser(world, world.operator).open(domain(tenant)).partition("Hand in answers")[0]
    assert "first\nsecond\nthird" in page
    assert "turned\ufffd\ufffdfourth\nfifth" in page


def test_refused_answers_are_still_in_the_form(world: World) -> None:
    """Who wrote eight long answers corrects the one that was wrong; nothing is ticked that was not."""
    tenant = world.tenant()
    visitor = browser(world, tenant.manager)
    visitor.open(domain(tenant))
    long = "\n".join(f"line {number} of <an> answer" for number in range(50))
    form = {**FORM, "list_source": long, "website": "no URL", "unsubscribe_link": ""}
    visitor.submit("/authorization", form, 400)
    assert "website must be a URL" in visitor.page
    assert "unsubscribe_link must be true" in visitor.page
    assert "no URL" in visitor.page
    assert tenant.manager.get(f"{tenant.own}/authorization").status_code == 404
    assert visitor.page.count(" checked>") == 1
    ticked = {"only_to_requesters": "yes", "unsubscribe_link": "yes"}
    visitor.submit("/authorization", ticked, website="https://acme.example/")
    given = tenant.manager.get(f"{tenant.own}/authorization").json()["questionnaire"]
    assert given["list_source"].replace("\r\n", "\n") == long
    assert given["contacts"] == FORM["contacts"].split()


def test_each_way_of_a_rule_is_shown_as_it_is_enforced(world: World) -> None:
    """Contexts are alternatives: a zone that one lets in anywhere is not shown as let in at private endpoints alone."""
    tenant = world.tenant()
    second = tenant.manager.made("/v1/zones", tenant.zone_body("depot", "192.0.2.9"))
    private = {"name": "endpointType", "value": "private"}
    contexts = [
        {"attributes": [{"name": "networkZoneId", "value": f"{tenant.zone['id']} , {second['id']}"}]},
        {"attributes": [{"name": "networkZoneId", "value": second["id"]}, private]},
    ]
    tenant.manager.made("/v1/rules", tenant.rule_body(contexts=contexts))
    page = browser(world, tenant.reader).open(f"{own(tenant)}/access")
    assert "office, depot at any endpoint" in page
    assert "depot at private" in page


def test_a_rule_without_a_zone_leads_to_no_form_that_is_refused(world: World) -> None:
    """It lets nobody in, and a second rule beside it would not either."""
    tenant = world.tenant()
    assert tenant.manager.delete(f"/v1/rules/{tenant.rule['id']}").is_success
    tenant.manager.made("/v1/rules", tenant.rule_body(contexts=[]))
    page = browser(world, tenant.manager).open(f"{own(tenant)}/access")
    assert "nobody" in page
    assert "A rule is enabled that names no zone" in page
    assert 'name="addresses"' not in page


def test_a_page_of_one_tenant_changes_no_zone_of_another(world: World) -> None:
    """Although an operator may change both."""
    mine, other = world.tenant(), world.tenant()
    before = world.records()
    answer = browser(world, world.operator).client.post(
        f"{own(mine)}/access",
        data={"zone": other.zone["id"], "addresses": "198.51.100.7"},
        headers={"Origin": world.control.url},
    )
    assert answer.status_code == 404
    assert world.records() == before


def test_a_user_is_removed_only_by_who_means_it(world: World) -> None:
    """Its mail is refused from then on."""
    tenant = world.tenant()
    visitor = browser(world, tenant.manager)
    visitor.open(domain(tenant))
    visitor.submit("/remove", status=400)
    assert tenant.manager.get(f"{tenant.path}/users").json()["total_count"] == 1
    visitor.open(domain(tenant))
    visitor.submit("/remove", sure="yes")
    assert tenant.manager.get(f"{tenant.path}/users").json()["total_count"] == 0


def test_more_users_than_a_page_of_the_api_holds(tmp_path: Path, world: World) -> None:
    """All of them are shown."""
    (tmp_path / "master-key").write_bytes((world.directory / "master-key").read_bytes())
    control = Control(tmp_path, world.bus, users_per_configuration="200")
    tenant = world.tenant()
    control.start()  # only now, so that it knows the tenant
    try:
        key = tenant.manager.headers["Authorization"].removeprefix("Bearer ")
        with control.client(key) as client:
            for number in range(101):
                client.made(f"{tenant.path}/users", {"description": f"number {number}."})
        visitor = Browser(control.url)
        visitor.sign_in(key)
        page = visitor.open(domain(tenant))
        assert [number for number in range(101) if f"number {number}." not in page] == []
    finally:
        assert control.stop() == 0


def test_what_was_searched_follows_signing_in(world: World) -> None:
    """With the words that were searched for."""
    tenant = world.tenant()
    visitor = Browser(world.control.url)
    wanted = f"{domain(tenant)}/suppressions?search=a%26b%3Dc"
    visitor.open(wanted)
    visitor.submit("/sign-in", key=tenant.manager.headers["Authorization"].removeprefix("Bearer "))
    assert visitor.where.endswith(wanted)


@pytest.mark.parametrize("wanted", ["/console/../v1/rules", "/console/%2e%2e/v1/rules", "/console/%252e%252e/x"])
def test_signing_in_does_not_lead_up(world: World, wanted: str) -> None:
    """What is not a page of the console is not led to."""
    form = {"key": world.key, "next": wanted}
    answer = httpx.post(
        f"{world.control.url}/console/sign-in",
        data=form,
        headers={"Origin": world.control.url},
        trust_env=False,
        timeout=60,
    )
    assert answer.headers["location"] == "/console"
