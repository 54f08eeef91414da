"""A reader follows mail without learning whom a tenant writes to; a manager sees whom."""

from datetime import UTC, datetime, timedelta

import httpx

from tests.system import System, eventually

RECIPIENT = "bounce+550-5.1.3@inbox.example"
CONFIGURATION = "/v1/postlane/instances/{instance_id}/configurations/{configuration_id}"
MASKED = "b*u*c*+*5*-*.*.*@inbox.example"


def test_readers_see_masked_addresses_everywhere(system: System) -> None:
    """Messages, events, bounces, refusals, suppressions, audit; an exact address can still be searched for."""
    tenant = system.tenant
    queue_id = system.send(RECIPIENT, "masked")
    eventually("bounced", lambda: system.status(queue_id) == "bounced")
    added = system.api("POST", f"{CONFIGURATION.format(**tenant)}/suppressions", json={"address": "ann@gone.example"})
    assert added.is_success, added.text
    session = system.login()
    _, text = session.mail("somebody@foreign.example")
    session.close()
    reference = text.decode().rpartition("ref ")[2].strip(")]. ")
    eventually("the refusal is known", lambda: system.api("GET", f"/v1/postlane/refusals/{reference}").is_success)
    now = datetime.now(UTC)
    window = {
        "gte": f"{now - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}",
        "lte": f"{now + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
    }
    asked = [
        (
            f"{CONFIGURATION.format(**tenant)}/suppressions",
            {"search": "gone"},
            ("ann@gone.example", "a*n@gone.example"),
        ),
        ("/v1/postlane/audit", {"key": "suppression"}, ("ann@gone.example", "a*n@gone.example")),
        (f"/v1/postlane/messages/{queue_id}", {}, (RECIPIENT, MASKED)),
        (f"/v1/postlane/messages/{queue_id}/events", {}, (RECIPIENT, MASKED)),
        ("/v1/postlane/messages", {"recipient": RECIPIENT}, (RECIPIENT, MASKED)),
        (f"/v1/postlane/refusals/{reference}", {}, ("somebody@foreign.example", "s*m*b*d*@foreign.example")),
        (
            f"/v1/instances/{tenant['instance_id']}/metrics/bounce",
            window | {"smtp_config_id": tenant["configuration_id"], "email_to": RECIPIENT},
            (RECIPIENT, MASKED),
        ),
    ]
    wish = {"role": "reader", "instance": tenant["instance_id"]}
    reader = system.api("POST", "/v1/postlane/keys", json=wish).json()["api_key"]
    for path, query, (whole, hidden) in asked:
        seen = {}
        for role, key in (("reader", reader), ("manager", tenant["api_key"])):
            bearer = {"Authorization": f"Bearer {key}"}
            answer = httpx.get(system.ready["http"] + path, params=query, headers=bearer, trust_env=False, timeout=30)
            assert answer.status_code == 200, (path, answer.text)
            seen[role] = answer.text
        assert whole in seen["manager"], path
        assert whole not in seen["reader"], (path, seen["reader"])
        assert hidden in seen["reader"], (path, seen["reader"])
