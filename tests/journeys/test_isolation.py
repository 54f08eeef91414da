"""Messages, their events, queue operations and refusals of another tenant answer exactly like unknown ones."""

import re
import smtplib

import httpx
import pytest

from tests.system import System, eventually


def refusal_of(system: System) -> str:
    """Have a submission of the demo tenant refused; return the reference."""
    session = system.login()
    _, text = session.mail("app@foreign.example")
    session.close()
    found = re.search(r"R-\w{10}", text.decode())
    assert found
    return found[0]


def told(answer: httpx.Response, *names: str) -> tuple[int, str]:
    """Return what an answer tells, without the names asked for and the trace."""
    text = re.sub(r'"trace":"[^"]*"', "", answer.text)
    for name in names:
        text = text.replace(name, "<name>")
    return answer.status_code, text


def test_what_other_rooms_know_of_a_tenant_is_not_told_to_another(system: System) -> None:
    """A stranger's key; the operator's key is the control that there is something to find."""
    queue_id = system.send("defer+99x@inbox.example", "isolation")
    reference = refusal_of(system)
    eventually("the refusal is known", lambda: system.api("GET", f"/v1/postlane/refusals/{reference}").is_success)
    eventually("the message waits", lambda: system.status(queue_id) == "deferred")
    instance = system.api("POST", "/v1/postlane/instances", json={"name": "stranger"}).json()["id"]
    wish = {"role": "manager", "instance": instance}
    key = system.api("POST", "/v1/postlane/keys", json=wish).json()["api_key"]
    drop = {"action": "drop", "reason": "mine now"}
    asked = [
        ("GET", "/v1/postlane/messages/{}", queue_id, "0" * 30, None),
        ("GET", "/v1/postlane/messages/{}/events", queue_id, "0" * 30, None),
        ("POST", "/v1/postlane/queue/{}", queue_id, "0" * 30, drop),
        ("GET", "/v1/postlane/refusals/{}", reference, "R-0000000000", None),
    ]
    bearer = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=system.ready["http"], headers=bearer, trust_env=False, timeout=30) as stranger:
        for method, path, foreign, unknown, body in asked:
            at_foreign = stranger.request(method, path.format(foreign), json=body)
            at_unknown = stranger.request(method, path.format(unknown), json=body)
            assert at_foreign.status_code == 404, at_foreign.text
            assert told(at_foreign, foreign) == told(at_unknown, unknown)
        assert stranger.get("/v1/postlane/messages", params={"limit": 500}).json()["total"] == 0
    assert system.status(queue_id) == "deferred"
    eventually("it is dropped", lambda: system.api("POST", f"/v1/postlane/queue/{queue_id}", json=drop).is_success)


def test_a_users_credentials_do_not_open_the_api(system: System) -> None:
    """A password for SMTP is no key, and a key no password."""
    answer = httpx.get(
        system.ready["http"] + "/v1/postlane/self",
        headers={"Authorization": f"Bearer {system.tenant['password']}"},
        trust_env=False,
    )
    assert answer.status_code == 401
    session = smtplib.SMTP("127.0.0.1", system.ready["smtp"]["port"], timeout=30)
    session.starttls(context=system.trust())
    with pytest.raises(smtplib.SMTPAuthenticationError):
        session.login(system.tenant["username"], system.tenant["api_key"])
    session.close()
