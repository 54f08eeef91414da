"""What must be refused is refused, with a code, a sentence and a reference that can be looked up; nothing is stored."""

import contextlib
import re
import smtplib
from collections.abc import Callable

import pytest

from tests.ledger import subjects_of
from tests.system import System, eventually


def refused(system: System, act: Callable[[], tuple[int, bytes]]) -> tuple[int, str, str]:
    """Do what must be refused; return code, text and reference of the reply."""
    code, text = act()
    words = text.decode()
    found = re.search(r"ref (R-\w+)", words)
    assert found, words
    return code, words, found[1]


def explained(system: System, reference: str) -> str:
    """Return what `postlane refused` says of a reference, waiting for the tracker."""
    said = ""

    def known() -> bool:
        nonlocal said
        result = system.postlane("refused", reference, check=False)
        said = result.stdout
        return result.returncode == 0

    eventually(f"{reference} can be looked up", known)
    return said


def secure(system: System) -> smtplib.SMTP:
    """Return a session in TLS that has not logged in."""
    session = smtplib.SMTP("127.0.0.1", system.ready["smtp"]["port"], timeout=30)
    session.starttls(context=system.trust())
    session.ehlo()
    return session


def test_a_wrong_password_is_refused_and_explained_to_the_tenant(system: System) -> None:
    """535 tells a stranger nothing; the reference tells the tenant."""
    session = secure(system)
    with pytest.raises(smtplib.SMTPAuthenticationError) as failure:
        session.login(system.tenant["username"], "wrong")
    session.close()
    text = failure.value.smtp_error
    assert isinstance(text, bytes)

    code, words, reference = refused(system, lambda: (failure.value.smtp_code, text))

    assert code == 535
    assert words.startswith("5.7.8")
    assert "password" in explained(system, reference).lower()


def test_without_tls_nothing_but_starttls_is_possible(system: System) -> None:
    """MAIL in clear is refused with 530 5.7.0."""
    session = smtplib.SMTP("127.0.0.1", system.ready["smtp"]["port"], timeout=30)
    session.ehlo()

    code, words, _ = refused(system, lambda: session.docmd("MAIL FROM:<app@demo.example>"))

    session.close()
    assert (code, words[:5]) == (530, "5.7.0")


def test_a_foreign_sender_domain_is_refused(system: System) -> None:
    """MAIL FROM of another domain: 550 5.7.1."""
    session = system.login()

    code, words, reference = refused(system, lambda: session.mail("app@foreign.example"))

    session.close()
    assert (code, words[:5]) == (550, "5.7.1")
    assert "foreign.example" in explained(system, reference)


@pytest.mark.parametrize(
    ("marker", "head", "code"),
    [
        ("foreign-from", "From: x@foreign.example\r\n", 550),
        ("attached", 'From: app@demo.example\r\nContent-Type: application/pdf; name="a.pdf"\r\n', 554),
        ("two-from", "From: app@demo.example\r\nFrom: x@foreign.example\r\n", 550),
    ],
)
def test_content_that_is_not_allowed_is_refused_and_not_stored(
    system: System, marker: str, head: str, code: int
) -> None:
    """A refusal after DATA leaves nothing behind, and the session goes on."""
    session = system.login()
    session.mail("app@demo.example")
    session.rcpt("delivered@inbox.example")

    answer, _, reference = refused(system, lambda: session.data(f"{head}Subject: {marker}\r\n\r\nx\r\n"))

    assert answer == code
    assert explained(system, reference)
    # The control: the same session is still good for a message that is allowed, which passes all that came before it.
    assert system.submit(session, "delivered@inbox.example", f"after-{marker}")[0] == 250
    session.quit()
    eventually("arrival of the allowed one", lambda: f"after-{marker}" in subjects_of(system.arrived()))
    assert marker not in subjects_of(system.arrived())


def test_a_pending_domain_and_an_uncovered_address_are_refused(system: System) -> None:
    """A domain without records, and a tenant without a rule: each is told apart for the tenant only."""
    instance = system.api("POST", "/v1/postlane/instances", json={"name": "unready"}).json()["id"]
    base = f"/v1/instances/{instance}/smtp/config"
    wish = {"name": "n", "domain": "unready.example"}
    configuration = system.api("POST", base, json=wish).json()["id"]
    user = system.api("POST", f"{base}/{configuration}/users", json={}).json()

    session = secure(system)
    with pytest.raises(smtplib.SMTPAuthenticationError) as failure:
        session.login(user["username"], user["password"])
    session.close()
    assert failure.value.smtp_code == 535, "no rule, no access"

    system.postlane("zone", "add", "here", "127.0.0.0/8", "--instance", instance)
    system.postlane("rule", "add", "--zone", "here", "--instance", instance)
    session = smtplib.SMTP()

    def logged_in() -> bool:
        nonlocal session
        session = secure(system)
        with contextlib.suppress(smtplib.SMTPAuthenticationError):
            return session.login(user["username"], user["password"])[0] == 235
        session.close()
        return False

    eventually("the rule is in force", logged_in)
    code, words, _ = refused(system, lambda: session.mail("app@unready.example"))
    session.close()
    assert (code, words[:5]) == (550, "5.7.1")
    assert "unready.example" in words
