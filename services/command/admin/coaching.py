"""The first connection of a client, told step by step from what is said on the bus, with the next thing to do."""

from collections.abc import Mapping
from typing import Any

import msgspec

WRONG_LOGIN = 535


class Step(msgspec.Struct, frozen=True):
    """What happened, for a person."""

    sentence: str
    advice: str = ""
    queue_id: str = ""
    """Of an accepted message: then the client is set up."""


class Expected(msgspec.Struct, frozen=True):
    """What the client was told to use."""

    username: str
    domain: str
    starttls_port: str
    tls_port: str


def step(event: Mapping[str, Any], expected: Expected) -> Step | None:
    """Return what an event means, None for an event of a kind not known."""
    match str(event.get("type", "")).rsplit(".", 1)[0]:
        case "client.seen":
            return _logged_in(event, expected) if event.get("stage") == "logged-in" else _left(event, expected)
        case "submission.refused":
            return _refused(event, expected)
        case "message.accepted":
            return _accepted(event)
        case _:
            return None


def _who(event: Mapping[str, Any]) -> str:
    name = event.get("client_name")
    return f"{event.get('client_address') or 'a client'}" + (f" ({name})" if name else "")


def _logged_in(event: Mapping[str, Any], expected: Expected) -> Step:
    text = f"{_who(event)} connected to the {event.get('endpoint')} endpoint, TLS ok ({event.get('tls')}), AUTH ok"
    if event.get("username") == expected.username:
        return Step(text)
    return Step(f"{text} as {event.get('username')}", f"that is another user of this domain, not {expected.username}")


def _left(event: Mapping[str, Any], expected: Expected) -> Step:
    who, how = _who(event), str(event.get("detail", ""))
    if how.startswith("tls:"):
        fault = how.removeprefix("tls:").strip()
        if "alert" in fault.lower() or "certificate" in fault.lower():
            advice = "the client does not trust the certificate: give it the CA, and the host name it was made for"
        elif "wrong version" in fault.lower() or "http request" in fault.lower():
            advice = _other_port(expected)
        else:
            advice = "the client gave up TLS: it may not trust the certificate, or know no TLS 1.2"
        return Step(f"{who} connected, TLS failed: {fault}", advice)
    if event.get("tls"):
        return Step(f"{who} connected, TLS ok, and left without AUTH", "switch authentication on in the client")
    if not event.get("client_name"):
        return Step(f"{who} connected and left without a word SMTP knows", _other_port(expected))
    return Step(f"{who} connected, said EHLO, and left without STARTTLS", "switch STARTTLS on in the client")


def _other_port(expected: Expected) -> str:
    other = f"; for TLS from the first octet there is port {expected.tls_port}" if expected.tls_port else ""
    return f"port {expected.starttls_port} speaks clear text until STARTTLS{other}"


def _refused(event: Mapping[str, Any], expected: Expected) -> Step:
    who, reason = _who(event), str(event.get("reason", ""))
    reply = f"{event.get('code')} {event.get('enhanced', '')}".strip()
    told = f"{who}: {reply} {event.get('reply', '')}"
    advice = f"because {reason}" if reason else ""
    if event.get("code") == WRONG_LOGIN:
        return Step(f"{who} connected, TLS ok, AUTH failed", _login_advice(event, reason, expected))
    sender = str(event.get("sender") or "")
    domain = sender.rpartition("@")[2].lower()
    if event.get("phase") == "mail" and sender and domain != expected.domain:
        return Step(
            f"{who}: From is {sender}: not in your domain",
            f"let the client send as an address of {expected.domain}; {told.partition(': ')[2]}",
        )
    return Step(told, advice)


def _login_advice(event: Mapping[str, Any], reason: str, expected: Expected) -> str:
    username = event.get("username")
    if username and username != expected.username:
        return f"it used the username {username}, expected is {expected.username}"
    if "password is right" in reason:
        return f"{reason}; see `postlane rule explain --address {event.get('client_address')}`"
    return reason


def _accepted(event: Mapping[str, Any]) -> Step:
    recipients = ", ".join(event.get("recipients", ()))
    queue_id = str(event["queue_id"])
    findings = "; ".join(event.get("findings", ()))
    return Step(
        f"{_who(event)}: From ok ({event.get('sender') or '<>'}), message for {recipients} accepted as {queue_id}",
        findings,
        queue_id,
    )
