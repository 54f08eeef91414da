"""What a customer sets for the submission of a domain, and what a client and a reader of the timeline notice of it."""

from collections.abc import Iterator

import pytest

from tests.system import System, eventually, queue_id_of


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give the module a running system with the sandbox."""
    running = System(tmp_path_factory.mktemp("submission")).start()
    yield running
    assert running.stop() == 0


def send(system: System, mail: bytes) -> tuple[int, str]:
    """Send one message to an address that takes everything."""
    session = system.login()
    try:
        session.mail(f"app@{system.tenant['domain']}")
        session.rcpt("delivered@inbox.example")
        code, text = session.data(mail)
    finally:
        session.quit()
    return code, text.decode()


def html(system: System, marker: str) -> bytes:
    """Return a message whose HTML lacks an end."""
    plain = system.message("delivered@inbox.example", marker, "<p>Hello</p>\r\n<div>open").decode()
    return plain.replace("\r\n\r\n", "\r\nContent-Type: text/html; charset=utf-8\r\n\r\n", 1).encode()


def test_a_content_policy_warns_and_then_refuses(system: System) -> None:
    """`domain set` changes it, the timeline of `track` has the remark, and the refusal names the place."""
    domain = system.tenant["domain"]
    finding = "HTML is not well-formed (part 1, line 2): <div> is not closed where it must be"
    assert "html policy" in system.postlane("domain", "set", domain, "--html", "warn").stdout

    def remarked() -> bool:
        code, text = send(system, html(system, "flawed"))
        assert code == 250
        queue_id = queue_id_of(text)
        eventually("it is tracked", lambda: system.status(queue_id) != "")
        return f"remarks: {finding}" in system.postlane("track", queue_id, check=False).stdout

    eventually("the policy has arrived", remarked)
    system.postlane("domain", "set", domain, "--html", "refuse")
    eventually("mail is refused", lambda: send(system, html(system, "flawed"))[0] == 554)
    assert f"5.7.1 Refused by the content policy: {finding} (ref R-" in send(system, html(system, "flawed"))[1]
    system.postlane("domain", "set", domain, "--html", "off")


def test_a_repeated_message_is_delivered_once(system: System) -> None:
    """The same queue ID and one message in the mailbox, also after it was delivered; without the key there are two."""
    mail = system.message("delivered@inbox.example", "repeated")
    named = mail.replace(b"Subject:", b"Idempotency-Key: order-4711\r\nSubject:", 1)
    code, first = send(system, named)
    assert code == 250
    eventually("it is delivered", lambda: system.status(queue_id_of(first)) == "delivered")
    assert send(system, named) == (250, first)
    code, other = send(system, mail)
    assert code == 250
    assert queue_id_of(other) != queue_id_of(first)
    eventually("the other one is delivered", lambda: system.status(queue_id_of(other)) == "delivered")
    assert len([each for each in system.arrived() if b"Subject: repeated" in each]) == 2
