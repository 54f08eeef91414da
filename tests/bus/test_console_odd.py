"""The console given what is odd and legal: names in any octets, numbers that are none, paths that lead up."""


import httpx
import pytest

from tests.browser import Browser
from tests.control_world import Tenant, World


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
    origin = {"Origin": world.control.url}
    before = world.records()
    for dots in (".", "..", "%2e", "%2e%2e", "%252e%252e"):
        url = httpx.URL(f"{world.control.url}/console").copy_with(
            raw_path=f"{domain(tenant)}/users/{dots}/remove".encode()
        )
        answer = visitor.client.post(url, data={"sure": "yes"}, headers=origin, follow_redirects=False)
        assert answer.status_code == 404, (dots, answer.headers)
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
            f"{world.control.url}/console/tenants", headers={b"Cookie": b"postlane-console=" + value}, trust_env=False
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
