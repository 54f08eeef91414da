"""The web console, used as a browser uses it: a tenant from nothing to a message that is followed."""

import re
import smtplib
from pathlib import Path

from services.sandbox import commands
from tests.browser import Browser
from tests.system import System, eventually

ANSWERS = {
    "website": "https://shop.example/",
    "list_source": "Customers who ordered",
    "bounces_and_complaints": "Removed at once",
    "unsubscribe": "In the account",
    "quota_rationale": "Ten orders an hour",
    "list_cleaning": "Weekly",
    "reply_to": "bounces@console.example",
    "contacts": "ops@console.example",
    "only_to_requesters": "yes",
    "unsubscribe_link": "yes",
}
DOMAIN = "console.example"


def published(system: System, where: str, kind: str = "") -> None:
    """Publish in the sandbox's DNS what the page of a domain asks for, or its record of one kind."""
    instance, configuration = where.split("/tenants/")[1].split("/domains/")
    zones = Path(system.ready["sandbox"]["directory"])
    own = f"/v1/postlane/instances/{instance}/configurations/{configuration}/records"
    for record in system.api("GET", own).json()["records"]:
        if record["kind"] == kind if kind else record["required"]:
            commands.set_record(zones, record["name"], record["type"], (record["value"],))
    commands.set_record(zones, DOMAIN, "A", ("127.0.0.1",))


def test_from_nothing_to_a_followed_message(system: System) -> None:
    """An operator makes a tenant and decides, a manager does the rest; each step is a form of a page."""
    operator = Browser(system.ready["http"])
    assert "Tenants" in operator.sign_in(system.ready["operator"]["api_key"])
    operator.submit("/tenants", name="Console <b>& sons</b>")
    assert "Console &lt;b&gt;&amp; sons&lt;/b&gt;" in operator.page
    instance = operator.where.split("/tenants/")[1].partition("?")[0]
    key = system.api("POST", "/v1/postlane/keys", json={"role": "manager", "instance": instance}).json()["api_key"]

    manager = Browser(system.ready["http"])
    assert "There is none yet. Name the domain" in manager.sign_in(key)
    manager.submit("/domains", domain=DOMAIN)
    assert "No mail is taken" in manager.page
    domain = manager.where.partition("?")[0]
    published(system, domain)
    manager.submit("/check")
    assert "DNS was looked at just now" in manager.page
    manager.submit("/authorization", {**ANSWERS, "website": "nonsense"}, status=400)
    assert "website" in manager.page
    manager.submit("/authorization", ANSWERS)
    assert "an operator decides" in manager.page

    operator.open("/console/waiting")
    assert DOMAIN in operator.page
    operator.open(domain)
    operator.submit("/approve", messages_per_hour="100", reason="fine")
    assert "100 messages an hour" in operator.page
    manager.open(domain)
    assert "Mail is taken" in manager.page
    manager.submit("/users", description="web shop")
    username, password = (
        manager.page.split(f"<dt>{what}</dt><dd><code>")[1].split("<")[0] for what in ("User name", "Password")
    )
    manager.open(domain)
    assert password not in manager.page
    assert "web shop" in manager.page

    manager.open(f"{domain}/preferences")
    manager.submit("/preferences", html_policy="warn", lifetime_seconds="7200")
    assert "It is changed" in manager.page
    manager.open(f"{domain}/signing-keys")
    manager.submit("/rotate")
    published(system, domain, "dkim-next")
    eventually("the next key is seen", lambda: "the rotation may be finished" in manager.open(f"{domain}/signing-keys"))
    manager.submit("/finish", sure="yes")
    assert "The old key is retired" in manager.page

    manager.open(domain.partition("/domains")[0] + "/access")
    assert "nobody reaches SMTP" in manager.page
    manager.submit("/access", nth=1, name="here", addresses="127.0.0.1")
    assert "enabled" in manager.page
    manager.submit("/access", nth=1, addresses="192.0.2.0/24 192.0.2.1-192.0.2.9")
    assert "127.0.0.1, 192.0.2.0/24, 192.0.2.1-192.0.2.9" in manager.page
    manager.submit("/access", nth=0, address="127.0.0.1")
    assert "It gets in." in manager.page

    session = smtplib.SMTP()

    def may_send() -> bool:
        nonlocal session
        session.close()  # one that was refused often is closed by the server
        session = smtplib.SMTP("127.0.0.1", system.ready["smtp"]["port"], timeout=30)
        session.starttls(context=system.trust())
        try:
            session.login(username, password)
        except smtplib.SMTPAuthenticationError:
            return False
        return session.mail(f"app@{DOMAIN}")[0] == 250

    eventually("the user may send", may_send)
    session.rcpt("defer+99x@inbox.example")
    mail = f"From: app@{DOMAIN}\r\nTo: defer+99x@inbox.example\r\nSubject: <i>order</i> \u202e\r\n\r\nx\r\n"
    queue_id = session.data(mail.encode())[1].decode().split()[-1]
    session.quit()
    eventually("the message is known", lambda: system.status(queue_id) != "")
    manager.open("/console/tenants/" + instance + "/messages")
    assert queue_id in manager.page
    assert "&lt;i&gt;order&lt;/i&gt; \ufffd" in manager.page
    manager.open(domain)
    (of_domain,) = re.findall(r'href="(/console/tenants/[^"]*/messages\?configuration=[^"]*)"', manager.page)
    assert queue_id in manager.open(of_domain)
    manager.submit("/messages", status=200, nth=0, sender=f"app@{DOMAIN}")
    assert queue_id in manager.page
    assert "No message matches" in manager.open(of_domain.partition("configuration=")[0] + "configuration=another")
    manager.submit("/find", what=queue_id)
    assert manager.where.endswith(queue_id)
    eventually("it was tried", lambda: "451 4.7.1" in manager.open(manager.where))
    manager.submit(queue_id, nth=0, act="hold", reason="look first")
    eventually("it is held", lambda: "look first" in manager.open(f"/console/messages/{queue_id}"))
    manager.submit(queue_id, status=400, nth=1, act="drop")
    manager.open(f"/console/messages/{queue_id}")
    manager.submit(queue_id, nth=1, act="drop", sure="yes", reason="never mind")
    eventually("it is dropped", lambda: "never mind" in manager.open(f"/console/messages/{queue_id}"))
    assert "Act on it" not in manager.page  # the timeline and the state are of one moment
    manager.open("/console/tenants/" + instance + "/audit")
    assert "suppression" not in manager.page
    assert "queue drop" in manager.page

    manager.open("/console/tenants/" + instance + "/access")
    (rule,) = re.findall(r'action="([^"]+/rules/[^"]+/remove)"', manager.page)
    manager.submit(rule, sure="yes")
    assert "There is none, so nobody reaches SMTP." in manager.page

    def shut_out() -> bool:
        with smtplib.SMTP("127.0.0.1", system.ready["smtp"]["port"], timeout=30) as another:
            another.starttls(context=system.trust())
            try:
                another.login(username, password)
            except smtplib.SMTPAuthenticationError:
                return True
            return False

    eventually("the user is shut out", shut_out)

    operator.open("/console/tenants")
    operator.submit("/tenants", name="the owner of the domain")
    owner = operator.where.partition("?")[0]
    operator.open(f"{owner}/takeovers")
    operator.submit("/takeovers", domain=DOMAIN)
    (name, value) = re.findall(r"<code>(_postlane-challenge[^<]+)</code></td><td><code>([^<]+)</code>", operator.page)[
        0
    ]
    commands.set_record(Path(system.ready["sandbox"]["directory"]), name, "TXT", (value,))
    operator.submit("/complete", sure="yes")
    assert "The domain is yours" in operator.page
    assert "claimed by somebody else" in manager.open(domain)


def test_suppressions_and_suspension(system: System) -> None:
    """An address is entered and taken off; an operator suspends a domain and ends it."""
    tenant = system.tenant
    domain = f"/console/tenants/{tenant['instance_id']}/domains/{tenant['configuration_id']}"
    manager, operator = Browser(system.ready["http"]), Browser(system.ready["http"])
    manager.sign_in(tenant["api_key"])
    operator.sign_in(system.ready["operator"]["api_key"])
    manager.open(f"{domain}/suppressions")
    manager.submit("/suppressions", nth=-1, address="nobody@console.example", reason="asked", act="add")
    assert "nobody@console.example" in manager.page
    manager.submit("/suppressions", nth=1, act="remove")
    assert "nobody@console.example" not in manager.page
    operator.open(domain)
    try:
        operator.submit("/suspend", reason="spam was seen")
        manager.open(domain)
        assert "spam was seen" in manager.page
        assert "No mail is taken" in manager.page
    finally:
        operator.open(domain)
        operator.submit("/resume")
    assert "Mail is taken" in manager.open(domain)
    assert "Health: " in operator.open("/console/health")


def test_a_refusal_is_found_by_its_reference(system: System) -> None:
    """The page says in a sentence what the reply did not."""
    session = system.login()
    _, text = session.mail("somebody@foreign.example")
    session.close()
    reference = text.decode().rpartition("ref ")[2].strip(")]. ")
    browser = Browser(system.ready["http"])
    browser.sign_in(system.tenant["api_key"])
    eventually("it is known", lambda: system.api("GET", f"/v1/postlane/refusals/{reference}").is_success)
    browser.submit("/find", what=reference)
    assert "foreign.example" in browser.page
    assert f'/domains/{system.tenant["configuration_id"]}"' in browser.page
    browser.submit("/find", status=404, what="R-NOTHING")
