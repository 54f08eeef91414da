"""The console's sessions: who gets in, what the browser keeps, who may act, what another tenant sees."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.browser import Browser
from tests.control_process import Control
from tests.control_world import ANSWERS, Tenant, World

COOKIE = "postlane-console"


def browser(world: World, key: str = "") -> Browser:
    """Return a browser, signed in if there is a key."""
    made = Browser(world.control.url)
    if key:
        made.sign_in(key)
    return made


def key_of(client: httpx.Client) -> str:
    """Return the key that a client of the API shows."""
    return client.headers["Authorization"].removeprefix("Bearer ")


def pages(tenant: Tenant) -> list[str]:
    """Return every page about a tenant."""
    own = f"/console/tenants/{tenant.id}"
    domain = f"{own}/domains/{tenant.configuration}"
    of_domain = [f"{domain}/{each}" for each in ("suppressions", "preferences", "signing-keys")]
    return [
        own,
        domain,
        *of_domain,
        *(f"{own}/{each}" for each in ("access", "messages", "audit", "keys", "takeovers")),
    ]


def acts(tenant: Tenant) -> list[tuple[str, dict[str, str]]]:
    """Return every act on a tenant."""
    own = f"/console/tenants/{tenant.id}"
    domain = f"{own}/domains/{tenant.configuration}"
    user = f"{domain}/users/{tenant.user['id']}"
    return [
        (f"{own}/domains", {"domain": "taken.example"}),
        (f"{own}/access", {"name": "x", "addresses": "192.0.2.1"}),
        (f"{own}/access", {"zone": tenant.zone["id"], "addresses": "192.0.2.77"}),
        (f"{domain}/authorization", {}),
        (f"{domain}/approve", {}),
        (f"{domain}/reject", {"reason": "x"}),
        (f"{domain}/suspend", {"reason": "x"}),
        (f"{domain}/resume", {}),
        (f"{domain}/users", {"description": "x"}),
        (f"{user}/rotate", {"days": "0"}),
        (f"{user}/remove", {"sure": "yes"}),
        (f"{user}/passwords/x/revoke", {}),
        (f"{domain}/remove", {"sure": "yes"}),
        (f"{own}/keys", {"role": "manager"}),
        (f"{own}/keys/{key_of(tenant.manager).split('_')[1]}/revoke", {"sure": "yes"}),
        (f"{domain}/suppressions", {"address": "a@b.example", "act": "add"}),
        (f"{domain}/preferences", {"hold_cap": "1"}),
        (f"{domain}/preferences/confirmation", {}),
        (f"{domain}/signing-keys/rotate", {}),
        (f"{domain}/signing-keys/finish", {"sure": "yes"}),
        (f"{domain}/signing-keys/cancel", {"sure": "yes"}),
        (f"{domain}/signing-keys/ed25519", {}),
        (f"{domain}/signing-keys/ed25519/remove", {"sure": "yes"}),
        (f"{own}/access/rules/{tenant.rule['id']}/remove", {"sure": "yes", "enforced": "1"}),
        (f"{own}/access/zones/{tenant.zone['id']}/remove", {"sure": "yes"}),
        (f"{own}/takeovers", {"domain": "wanted.example"}),
        (f"{own}/takeovers/x/complete", {"sure": "yes"}),
        (f"{own}/takeovers/x/drop", {"sure": "yes"}),
    ]


def test_a_session_is_a_token_and_never_the_key(world: World) -> None:
    """The cookie is for the console alone, not for scripts or other sites; the key is nowhere."""
    tenant = world.tenant()
    key = key_of(tenant.manager)
    visitor = browser(world)
    visitor.open("/console/sign-in")
    form = {"key": key, "next": ""}
    answer = visitor.client.post(
        "/console/sign-in", data=form, headers={"Origin": world.control.url}, follow_redirects=False
    )
    (cookie,) = answer.headers.get_list("set-cookie")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/console", "max-age=3600"} <= attributes
    assert "secure" not in attributes  # this control is reached without TLS
    assert key not in str(answer.headers) + answer.text
    secret = key.rpartition("_")[2]
    for page in pages(tenant):
        assert secret not in visitor.open(page, 503 if page.endswith("/messages") else 200)  # no tracker runs here


def test_over_tls_the_cookie_stays_on_tls(tmp_path: Path, world: World) -> None:
    """Where the public URL is of https, a browser must not send the cookie in clear."""
    (tmp_path / "master-key").write_bytes((world.directory / "master-key").read_bytes())
    control = Control(tmp_path, world.bus, public_url="https://relay.example")
    control.start()
    try:
        form = {"key": world.key}

        def sign_in(origin: str, **headers: str) -> httpx.Response:
            given = {"Origin": origin} | headers
            where = f"{control.url}/console/sign-in"
            return httpx.post(where, data=form, headers=given, trust_env=False, timeout=60)

        assert "; secure" in sign_in("https://relay.example").headers["set-cookie"].lower()  # a proxy told another Host
        assert sign_in("https://other.example", Host="other.example").status_code == 303
        assert sign_in("http://relay.example", Host="relay.example").status_code == 403  # in clear, so not ours
    finally:
        assert control.stop() == 0


def test_a_wrong_key_opens_nothing(world: World) -> None:
    """It is said so, and no cookie is set."""
    visitor = browser(world)
    visitor.open("/console/sign-in")
    visitor.submit("/sign-in", status=403, key="pl_wrong_key")
    assert "That is no key" in visitor.page
    assert not visitor.client.cookies
    visitor.client.cookies.set(COOKIE, "forged", path="/console")
    visitor.open("/console/tenants")
    assert visitor.where.endswith("/sign-in?next=/console/tenants")


def test_a_session_ends_with_its_key_and_when_it_is_ended(world: World) -> None:
    """A revoked key, or signing out, leads back to the first page; what was wanted follows signing in."""
    tenant = world.tenant()
    made = world.operator.made("/v1/postlane/keys", {"role": "manager", "instance": tenant.id})
    visitor = browser(world, made["api_key"])
    visitor.open(pages(tenant)[1])
    assert world.operator.delete(f"/v1/postlane/keys/{made['id']}").is_success
    visitor.open(pages(tenant)[1])
    assert "API key" in visitor.page
    visitor.submit("/sign-in", key=key_of(tenant.manager))
    assert visitor.where.endswith(pages(tenant)[1])
    visitor.submit("/sign-out")
    visitor.open("/console")
    assert "API key" in visitor.page


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example/", "//evil.example/", "/console//evil.example", "/console/\\evil.example", "/v1/rules"],
)
def test_signing_in_leads_nowhere_else(world: World, wanted: str) -> None:
    """Whatever the address of the first page says."""
    visitor = browser(world)
    visitor.client.follow_redirects = False
    visitor.open(f"/console/sign-in?next={wanted}")
    form = {"key": world.key, "next": wanted}
    answer = visitor.client.post("/console/sign-in", data=form, headers={"Origin": world.control.url})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "{own}"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_no_other_site_may_act(world: World, headers: dict[str, str]) -> None:
    """A form of another site is refused although the browser sends the cookie; our own is the control."""
    tenant = world.tenant()
    visitor = browser(world, key_of(tenant.manager))
    given = {name: value.format(own=world.control.url) for name, value in headers.items()}
    users = f"{pages(tenant)[1]}/users"
    for where in (users, "/console/sign-in", "/console/sign-out"):
        answer = visitor.client.post(where, data={"description": "evil"}, headers=given)
        assert (answer.status_code, "nothing was done" in answer.text) == (403, True)
    listed = tenant.manager.get(f"{tenant.path}/users").json()
    assert listed["total_count"] == 1
    answer = visitor.client.post(users, data={"description": "ours"}, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200
    assert tenant.manager.get(f"{tenant.path}/users").json()["total_count"] == 2


def test_no_act_at_all_is_taken_from_another_site(world: World) -> None:
    """Whatever it is about, and whoever is signed in."""
    tenant = world.tenant()
    visitor = browser(world, world.key)
    before = world.records()
    for where, form in acts(tenant):
        answer = visitor.client.post(where, data=form, headers={"Origin": "https://evil.example"})
        assert (answer.status_code, "nothing was done" in answer.text) == (403, True), where
    assert world.records() == before


def test_another_tenant_sees_and_changes_nothing(world: World) -> None:
    """Every page and act answers as for what does not exist, and the directory stays as it is."""
    mine, other = world.tenant(), world.tenant()
    visitor = browser(world, key_of(other.manager))
    before = world.records()
    for page in pages(mine):
        assert mine.domain not in visitor.open(page, 404)
    for where, form in acts(mine):
        answer = visitor.client.post(where, data=form, headers={"Origin": world.control.url})
        assert answer.status_code == 404, where
        assert mine.domain not in answer.text
    assert world.records() == before
    mixed = f"/console/tenants/{other.id}/domains/{mine.configuration}"  # its own instance, another's domain
    visitor.open(mixed, 404)


def test_a_reader_only_reads(world: World) -> None:
    """Pages have no forms that would change something, and acts are refused."""
    tenant = world.tenant()
    visitor = browser(world, key_of(tenant.reader))
    for page in pages(tenant):
        status, signing_out = (503, 0) if page.endswith("/messages") else (200, 1)
        assert visitor.open(page, status).count('method="post"') == signing_out, page
    before = world.records()
    for where, form in acts(tenant):
        answer = visitor.client.post(where, data=form, headers={"Origin": world.control.url})
        assert answer.status_code in (400, 403, 409), where
    assert world.records() == before


def test_a_manager_decides_nothing(world: World) -> None:
    """What is an operator's has no form on a manager's pages, and is refused."""
    tenant = world.tenant()
    visitor = browser(world, key_of(tenant.manager))
    text = visitor.open(pages(tenant)[1])
    assert "Suspend sending" not in text
    assert "Suspend sending" in browser(world, world.key).open(pages(tenant)[1])
    for act in ("approve", "reject", "suspend", "resume"):
        where = f"{pages(tenant)[1]}/{act}"
        answer = visitor.client.post(where, data={"reason": "x"}, headers={"Origin": world.control.url})
        assert answer.status_code == 403, act
    visitor.open("/console/health", 403)


def test_answers_that_came_later_are_not_decided_on(world: World) -> None:
    """An operator approves the answers on the page; others came in while they were read."""
    tenant = world.tenant()
    tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS)
    operator = browser(world, world.key)
    operator.open(pages(tenant)[1])
    tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS | {"nature": "marketing"})
    operator.submit("/approve", status=409)
    assert "other answers were handed in" in operator.page
    operator.open(pages(tenant)[1])
    operator.submit("/approve")
    assert "The decision is made" in operator.page
    assert tenant.reader.get(f"{tenant.own}/authorization").json()["lane"] == "marketing"


def test_what_another_operator_decided_meanwhile_stays(world: World) -> None:
    """The page still offers to reject what was just approved: pressed, it would withdraw that."""
    tenant = world.tenant()
    tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS)
    one, other = browser(world, world.key), browser(world, world.key)
    one.open(pages(tenant)[1])
    other.open(pages(tenant)[1])
    one.submit("/approve")
    other.submit("/reject", status=409, reason="too vague")
    assert tenant.reader.get(f"{tenant.own}/authorization").json()["status"] == "approved"
    other.open(pages(tenant)[1])
    other.submit("/reject", reason="too vague")
    assert tenant.reader.get(f"{tenant.own}/authorization").json()["status"] == "rejected"


def test_a_second_rule_is_not_made_behind_the_first(world: World) -> None:
    """Each rule must let an address in, so that a second one would shut out whom the first lets in."""
    tenant = world.tenant()
    visitor = browser(world, key_of(tenant.manager))
    access = f"/console/tenants/{tenant.id}/access"
    form = {"name": "second", "addresses": "198.51.100.1"}
    answer = visitor.client.post(access, data=form, headers={"Origin": world.control.url})
    assert (answer.status_code, "there is a rule meanwhile" in answer.text) == (409, True)
    visitor.open(access)
    visitor.submit("/access", nth=1, addresses="198.51.100.1, 2001:db8::/32")
    assert "192.0.2.1, 198.51.100.1, 2001:db8::/32" in visitor.page
    assert len(tenant.manager.get("/v1/rules", params={"account_id": tenant.id}).json()["rules"]) == 1


def test_keys_are_shown_once_and_revoked(world: World) -> None:
    """A manager makes a key for a reader, who is signed out when it is revoked; another tenant's is not found."""
    tenant, other = world.tenant(), world.tenant()
    visitor = browser(world, key_of(tenant.manager))
    keys = f"/console/tenants/{tenant.id}/keys"
    visitor.open(keys)
    assert "yours" in visitor.page
    visitor.submit("/keys", role="reader", description="help <desk>")
    (made,) = re.findall(r"Copy it now: <code>(pl_.*?)<", visitor.page)
    assert "help &lt;desk&gt;" in visitor.page
    assert made not in visitor.open(keys)
    reader = browser(world, made)
    assert tenant.domain in reader.open(pages(tenant)[0])
    where = f"{keys}/{made.split('_')[1]}/revoke"
    own = {"Origin": world.control.url}
    assert visitor.client.post(where, data={}, headers=own).status_code == 400
    assert tenant.domain in reader.open(pages(tenant)[0])
    foreign = f"{keys}/{key_of(other.manager).split('_')[1]}/revoke"
    operator = browser(world, world.key)
    assert operator.client.post(foreign, data={"sure": "yes"}, headers=own).status_code == 404
    assert other.manager.get("/v1/postlane/self").is_success
    assert "That key has ended." in visitor.client.post(where, data={"sure": "yes"}, headers=own).text
    assert "API key" in reader.open(pages(tenant)[0])


def test_a_password_is_ended_and_a_domain_removed(world: World) -> None:
    """One of two passwords; then the domain with its user, if that is meant."""
    tenant = world.tenant()
    visitor = browser(world, key_of(tenant.manager))
    domain = pages(tenant)[1]
    assert "End it now" not in visitor.open(domain)
    visitor.submit("/rotate", days="7")
    visitor.open(domain)
    visitor.submit("/revoke")
    assert "That password has ended." in visitor.page
    listed = tenant.manager.get(f"{tenant.own}/users/{tenant.user['id']}/passwords").json()["passwords"]
    assert [each["works"] for each in listed] == [True]
    visitor.submit(f"{tenant.configuration}/remove", status=400)
    visitor.open(domain)
    visitor.submit(f"{tenant.configuration}/remove", sure="yes")
    assert "It is removed." in visitor.page
    assert tenant.manager.get(tenant.path).status_code == 404


def test_what_is_said_after_an_act_is_ours(world: World) -> None:
    """An address cannot put words on a page."""
    visitor = browser(world, world.key)
    assert "It is made." in visitor.open("/console/tenants?done=made")
    assert "send your key to" not in visitor.open("/console/tenants?done=send+your+key+to")


def test_bodies_and_paths_that_fit_nothing(world: World) -> None:
    """Too large, of another kind, of no form: an error that says so, and no page is our fault."""
    visitor = browser(world, world.key)
    own = {"Origin": world.control.url}
    assert visitor.client.post("/console/tenants", data={"name": "x" * 2_000_000}, headers=own).status_code == 413
    assert visitor.client.post("/console/tenants", json=["x"], headers=own).status_code == 400
    assert visitor.client.post("/console/tenants", data={}, headers=own).status_code == 400
    assert visitor.client.put("/console/tenants", headers=own).status_code == 405
    visitor.open("/console/nowhere", 404)
    visitor.open("/console/tenants/%2e%2e%2fkeys", 404)
    visitor.open("/console/tenants/" + "x" * 500, 404)
    assert visitor.client.get("/consoles").headers["content-type"].startswith("application/json")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[Control]:
    """Give the module a control without a console, on the same bus."""
    directory = tmp_path_factory.mktemp("plain")
    (directory / "master-key").write_bytes((world.directory / "master-key").read_bytes())
    control = Control(directory, world.bus, console="false", strangers_at_once="3", strangers_per_second="0.001")
    control.start()
    yield control
    assert control.stop() == 0


def test_a_console_that_is_not_wanted_is_not_there(plain: Control) -> None:
    """The path is as unknown as any other."""
    answer = httpx.get(f"{plain.url}/console/sign-in", trust_env=False, timeout=60)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "not_found")


def test_guessing_keys_is_slowed_down(tmp_path: Path, world: World) -> None:
    """The limit for strangers holds here too, counted by the visitor's address."""
    (tmp_path / "master-key").write_bytes((world.directory / "master-key").read_bytes())
    control = Control(tmp_path, world.bus, strangers_at_once="3", strangers_per_second="0.001")
    control.start()
    try:
        codes = [
            httpx.post(
                f"{control.url}/console/sign-in",
                data={"key": "x"},
                headers={"Origin": control.url},
                trust_env=False,
                timeout=60,
            ).status_code
            for _ in range(5)
        ]
        assert codes == [403, 403, 403, 429, 429]
    finally:
        assert control.stop() == 0
