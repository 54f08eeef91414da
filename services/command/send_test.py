"""`postlane send-test`: one message over SMTP with the profile's credentials, for hosts without swaks."""

import smtplib
import ssl
from collections.abc import Mapping

from shared.contract.errors import PostlaneError

TIMEOUT_SECONDS = 30.0
NEEDED = ("smtp", "username", "password", "domain")


class NotSent(PostlaneError):
    """The message was not accepted; the text has the server's own words."""


class NotReached(NotSent):
    """There was no server to talk to, or none that is trusted."""


def send(profile: Mapping[str, str], recipient: str, subject: str) -> str:
    """Submit a message over STARTTLS with AUTH and return the server's final reply.

    Errors: `NotSent` if the profile has no tenant, or with the step that failed and the reply; `NotReached`.
    """
    missing = [name for name in NEEDED if name not in profile]
    if missing:
        raise NotSent(
            f"the profile has no {', '.join(missing)}: start `postlane up --sandbox`, or name --server, --from and "
            "--username, with the password in POSTLANE_SMTP_PASSWORD"
        )
    host, _, port = profile["smtp"].rpartition(":")
    if not host or not port.isdecimal():
        raise NotSent(f"{profile['smtp']!r} names no port: write host:port, for example 127.0.0.1:2587")
    try:
        trust = ssl.create_default_context(cafile=profile.get("ca_file") or None)
    except OSError as fault:
        raise NotSent(f"the CA file {profile['ca_file']} cannot be used: {fault}") from fault
    sender = profile.get("from") or f"app@{profile['domain']}"
    try:
        with smtplib.SMTP(host.strip("[]"), int(port), timeout=TIMEOUT_SECONDS) as session:
            session.starttls(context=trust)
            session.login(profile["username"], profile["password"])
            for code, reply in (session.mail(sender), session.rcpt(recipient)):
                _accepted(code, reply)
            code, reply = session.data(
                f"From: Postlane test <{sender}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\n\r\n"
                "This is a test message.\r\n"
            )
            _accepted(code, reply)
            return f"{code} {reply.decode(errors='replace')}"
    except smtplib.SMTPResponseException as fault:
        text = fault.smtp_error.decode(errors="replace") if isinstance(fault.smtp_error, bytes) else fault.smtp_error
        raise NotSent(f"{profile['smtp']} answered {fault.smtp_code} {text}") from fault
    except (OSError, smtplib.SMTPException) as fault:
        raise NotReached(f"{profile['smtp']} cannot be used: {fault}") from fault


def _accepted(code: int, reply: bytes) -> None:
    if not 200 <= code < 300:
        raise NotSent(f"the server answered {code} {reply.decode(errors='replace')}")
