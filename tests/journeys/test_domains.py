"""Sender domains on the whole system: delegated keys, rotation with two keys live, a second signature."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import Message

import httpx
import pytest

from services.command.customer import ANSWERS
from services.command.workspace import Workspace
from shared.runtime.sealing import new_master_key
from tests.system import System, eventually
from tests.tenants import Tenant

ZONE = "dkim.relay.example"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give the module a system whose operator has a zone for delegated keys."""
    settings = {"POSTLANE_CONTROL_DKIM_ZONE": ZONE, "POSTLANE_CONTROL_DKIM_FINISH_SECONDS": "0.2"}
    running = System(tmp_path_factory.mktemp("domains"), **settings).start()
    yield running
    assert running.stop() == 0


def signatures(tenant: Tenant, marker: str) -> int:
    """Send a message; return how many signatures it has, good or not."""
    tenant.send(marker)
    return len(message_from_bytes(tenant.arrived(marker)).get_all("DKIM-Signature", []))


def selectors(tenant: Tenant, marker: str) -> list[str]:
    """Send a message; return the selectors of its signatures, each of them good."""
    tenant.send(marker)
    return [tags["s"] for tags in tenant.signatures(tenant.arrived(marker))]


def test_a_key_is_rotated_while_mail_flows(relay: System) -> None:
    """The next key signs once it is in DNS and not before; finishing is refused until then; no signature ever fails."""
    tenant = Tenant(relay, "rotating.example").ready()
    state = tenant.made(tenant.own + "/dkim", method="GET")
    old = state["selector"]
    assert selectors(tenant, "before") == [old]

    said = relay.postlane("domain", "dkim", "rotate", tenant.domain, "--instance", tenant.instance).stdout
    new = tenant.made(tenant.own + "/dkim", method="GET")["next_selector"]
    assert f"{new}._domainkey.rotating.example" in said
    assert selectors(tenant, "unpublished") == [old]
    finish = ("domain", "dkim", "finish", tenant.domain, "--instance", tenant.instance)
    refused = relay.postlane(*finish, check=False)
    assert refused.returncode == 6
    assert "must be in DNS before the old one is given up" in refused.stderr
    tenant.publish("dkim-next")
    eventually("the next key is seen", lambda: tenant.made(tenant.own + "/dkim", method="GET")["next_seen"])
    eventually("it signs", lambda: selectors(tenant, f"next-{len(relay.arrived())}") == [new])
    tenant.remove(f"{old}._domainkey.rotating.example")  # too early, but nothing is signed with it any more
    tenant.made(tenant.ibm + "/verify?type=dkim,spf", method="PATCH")
    assert tenant.overview()["state"] == "verified"
    relay.postlane(*finish)

    after = tenant.made(tenant.own + "/dkim", method="GET")
    assert (after["selector"], after["retired_selector"]) == (new, old)
    assert selectors(tenant, "after") == [new]
    tenant.made(tenant.ibm + "/verify?type=dkim,spf", method="PATCH")
    assert tenant.overview()["state"] == "verified"


def test_a_delegated_key_is_rotated_without_the_customer(relay: System) -> None:
    """Two CNAMEs once; then only the operator's zone changes, and the rotation finishes by itself."""
    tenant = Tenant(relay, "delegated.example", delegate=True)
    tenant.publish()
    pending = tenant.made(tenant.ibm + "/verify?type=dkim", method="PATCH")
    assert pending["status"][0]["verification"] == "PENDING"
    assert "operator has not published the key" in tenant.overview()["missing"][0]

    def serve_zone() -> list[str]:
        """Publish what `postlane domain zone` prints, as the operator's name server would."""
        lines = relay.postlane("domain", "zone").stdout.splitlines()
        records = [line.split(" ", 4) for line in lines if not line.startswith(";")]
        for name, _ttl, _in, kind, value in records:
            tenant.set(name.rstrip("."), kind, value.replace('" "', "").strip('"'))
        return [name.split(".")[0] for name, *_ in records]

    serve_zone()
    records = tenant.made(tenant.own + "/records", method="GET")["records"]
    assert {each["kind"]: each["state"] for each in records if "dkim" in each["kind"]} == {
        "dkim": "fine", "dkim-spare": "fine",
    }  # fmt: skip
    tenant.ready()
    first = tenant.made(tenant.own + "/dkim", method="GET")
    assert selectors(tenant, "delegated") == [first["selector"]]

    relay.postlane("domain", "dkim", "rotate", tenant.domain, "--finish-when-seen", "--instance", tenant.instance)
    assert len(serve_zone()) == 2
    eventually(
        "the rotation finishes",
        lambda: tenant.made(tenant.own + "/dkim", method="GET").get("retired_selector") == first["selector"],
    )
    after = tenant.made(tenant.own + "/dkim", method="GET")
    eventually("it signs", lambda: selectors(tenant, f"mine-{len(relay.arrived())}") == [after["selector"]])
    assert after["selector"] != first["selector"]
    early = relay.postlane("domain", "dkim", "rotate", tenant.domain, "--instance", tenant.instance, check=False)
    assert early.returncode == 6
    assert "stays published until" in early.stderr


def test_a_second_signature_joins_once_its_key_is_seen(relay: System) -> None:
    """RSA for everybody, Ed25519 beside it; the standing does not depend on it."""
    tenant = Tenant(relay, "twice.example").ready()
    shown = relay.postlane("domain", "dkim", "add-ed25519", tenant.domain, "--instance", tenant.instance).stdout
    assert "v=DKIM1; k=ed25519; p=" in shown
    assert len(selectors(tenant, "one")) == 1
    tenant.publish("dkim-ed25519")
    tenant.made(tenant.ibm + "/verify?type=dkim,spf", method="PATCH")
    eventually("two signatures", lambda: len(selectors(tenant, f"two-{len(relay.arrived())}")) == 2)
    tenant.send("both")
    kinds = [tags["a"] for tags in tenant.signatures(tenant.arrived("both"))]
    assert sorted(kinds) == ["ed25519-sha256", "rsa-sha256"]
    second = tenant.made(tenant.own + "/dkim", method="GET")["ed25519_selector"]
    tenant.remove(f"{second}._domainkey.twice.example")
    tenant.made(tenant.ibm + "/verify?type=dkim,spf", method="PATCH")
    assert tenant.overview()["state"] == "verified"
    # Until delivery has heard that the key is gone, the second signature is there and nobody can verify it.
    eventually("one signature", lambda: signatures(tenant, f"less-{len(relay.arrived())}") == 1)
    assert len(selectors(tenant, "less")) == 1


def test_the_master_key_is_replaced_while_mail_flows(relay: System) -> None:
    """New key in front of the old, rooms restarted, seals made anew, the old key taken out: every mail is signed."""
    tenant = Tenant(relay, "sealed.example").ready()
    workspace = Workspace(relay.directory / "data")
    file = workspace.secret_file("master-key")
    old, new = file.read_text().strip(), new_master_key()
    assert len(selectors(tenant, "old-key")) == 1

    def restarted() -> None:
        for room in ("control", "delivery"):
            before = relay.pid(room)
            relay.kill(room)
            eventually(f"{room} runs again", lambda before=before, room=room: relay.pid(room) != before)  # type: ignore[misc]
        eventually("the API answers", lambda: _answers(relay))

    def resealed() -> subprocess.CompletedProcess[str]:
        environment = {
            "POSTLANE_BUS_URL": relay.ready["nats"],
            "POSTLANE_BUS_USER": "control",
            "POSTLANE_BUS_PASSWORD_FILE": str(workspace.secret_file("bus-control")),
            "POSTLANE_CONTROL_MASTER_KEY_FILE": str(file),
        }
        command = [sys.executable, "-m", "services", "key", "reseal"]
        return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)

    file.write_text(f"{new}\n{old}\n")
    restarted()
    assert len(selectors(tenant, "both-keys")) == 1
    done = resealed()
    assert done.returncode == 0, done.stderr
    assert "sealed anew: 0" not in done.stdout
    assert "sealed anew: 0;" in resealed().stdout
    file.write_text(new)
    restarted()
    assert len(selectors(tenant, "new-key")) == 1
    assert len(selectors(Tenant(relay, "sealed-after.example").ready(), "after-the-new-key")) == 1
    file.write_text(new_master_key())
    assert "no key of the file opens" in resealed().stderr  # the control: with a wrong key it does not pretend
    file.write_text(new)


def test_contacts_read_what_happens_to_their_domain(relay: System) -> None:
    """Verified, approved, failing, suspended, resumed: a mail each, once, to both contacts; and the link works."""
    tenant = Tenant(relay, "told.example")
    contacts = ["dns@told.inbox.example", "post@told.inbox.example"]
    tenant.made(
        tenant.own + "/authorization",
        {**ANSWERS, "contacts": contacts, "reply_to": "bounces@told.inbox.example"},
        "PUT",
    )
    tenant.publish()
    eventually("verified", lambda: tenant.overview()["state"] == "verified")
    tenant.made(tenant.own + "/authorization/approve", {"reason": "welcome", "messages_per_hour": 100})
    tenant.remove(tenant.domain, "TXT")
    eventually("suspended", lambda: tenant.overview()["state"] == "suspended")
    tenant.publish("spf")
    eventually("verified again", lambda: tenant.overview()["state"] == "verified")

    def mails() -> list[Message]:
        found = [message_from_bytes(mail, policy=policy.default) for mail in relay.arrived()]
        return [mail for mail in found if "told.inbox.example" in str(mail["To"])]

    wanted = {
        "confirm where bounce reports go",
        "the DNS records are in order",
        "sending is approved",
        "DNS records are failing, sending will be suspended",
        "sending is suspended",
        "sending goes on",
    }
    eventually("six mails", lambda: {str(m["Subject"]).removeprefix("told.example: ") for m in mails()} == wanted)
    eventually("nothing waits", lambda: relay.api("GET", "/v1/postlane/queue").json()["total"] == 0)
    # Each mail has one transaction and so one copy in the Maildir, whatever the number of its recipients.
    assert len(mails()) == len(wanted)
    by_subject = {str(mail["Subject"]).removeprefix("told.example: "): mail for mail in mails()}
    told = by_subject["sending is suspended"]
    assert told["From"] == "Postlane <postlane@demo.example>"
    assert all(contact in str(told["To"]) for contact in contacts)
    text = re.sub(r"\s+", " ", str(told.get_content()))  # type: ignore[attr-defined]
    assert "There is no SPF record at told.example" in text
    assert "told.example TXT v=spf1 include:" in text

    body = str(by_subject["confirm where bounce reports go"].get_content())  # type: ignore[attr-defined]
    (link,) = re.findall(r"http://\S+/confirm/\S+", body)
    assert httpx.post(link, trust_env=False, timeout=60).is_success
    detail = tenant.made(tenant.own, method="GET")
    assert (detail["reply_to"], "reply_to_confirmed_at" in detail) == ("bounces@told.inbox.example", True)


def test_a_domain_is_taken_over_by_whoever_publishes_the_proof(relay: System) -> None:
    """The old tenant's mail is refused with the reason; the new one publishes its records and sends."""
    old = Tenant(relay, "moved.example").ready()
    old.send("of-the-old")
    new = relay.api("POST", "/v1/postlane/instances", json={"name": "the new one"}).json()["id"]
    where = ("--instance", new)
    assert "prove it" in relay.postlane("domain", "add", "moved.example", *where, check=False).stderr
    shown = relay.postlane("domain", "takeover", "moved.example", *where).stdout
    (name, value) = re.findall(r"(_postlane-challenge\S+)  TXT  (\S+)", shown)[0]
    refused = relay.postlane("domain", "takeover", "moved.example", "--complete", *where, check=False)
    assert (refused.returncode, "was not found" in refused.stderr) == (6, True)
    assert old.overview()["sending"]
    old.set(name, "TXT", value)
    assert "is yours now" in relay.postlane("domain", "takeover", "moved.example", "--complete", *where).stdout

    eventually("the old one is refused", lambda: old.submit("too-late")[0] == 550)
    assert "somebody else" in old.overview()["missing"][0]
    records = [json.loads(line) for line in relay.postlane("domain", "records", "moved.example", *where, "-o", "json")
               .stdout.splitlines()]  # fmt: skip
    assert {each["kind"]: each["state"] for each in records}["dkim"] == "missing"  # a key of its own, not the old one's
    for record in records:
        if record["kind"] == "dkim":
            old.set(record["name"], record["type"], record["value"])
    assert "verified" in relay.postlane("domain", "wait", "moved.example", "--timeout", "60", *where).stdout


def _answers(relay: System) -> bool:
    try:
        return relay.api("GET", "/v1/postlane/instances").is_success
    except httpx.HTTPError:
        return False
