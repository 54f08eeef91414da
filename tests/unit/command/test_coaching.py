"""What the coach of a first connection says, and that every client's settings are complete."""

from string import Template

import pytest

from services.command.admin.client_settings import APPLICATIONS
from services.command.admin.coaching import Expected, step
from services.command.admin.library_settings import LIBRARIES

EXPECTED = Expected("right", "demo.example", "587", "465")
PLACES = dict.fromkeys(("host", "port", "tls_port", "username", "password", "sender", "domain"), "")
SEEN = {"type": "client.seen.v1", "client_address": "10.1.2.3", "endpoint": "public"}
REFUSED = {"type": "submission.refused.v1", "client_address": "10.1.2.3", "enhanced": "5.7.1", "reply": "No."}


@pytest.mark.parametrize("name", sorted(APPLICATIONS | LIBRARIES))
def test_the_settings_of_every_client_are_complete(name: str) -> None:
    """Host, port, user, sender and (but for those that ask for it) password are in the text, and nothing unknown."""
    text = (APPLICATIONS | LIBRARIES)[name].text
    Template(text).substitute(PLACES)
    used = set(Template(text).get_identifiers())
    wanted = {"host", "port", "username", "password"} - ({"password"} if name == "powershell" else set())
    assert wanted <= used
    assert used & {"sender", "domain"}


@pytest.mark.parametrize(
    ("event", "sentence", "advice"),
    [
        (
            {**SEEN, "stage": "logged-in", "username": "right", "tls": "TLSv1.3 X"},
            "10.1.2.3 connected to the public endpoint, TLS ok (TLSv1.3 X), AUTH ok",
            "",
        ),
        ({**SEEN, "stage": "logged-in", "username": "other", "tls": "T"}, "as other", "not right"),
        ({**SEEN, "stage": "left", "detail": "tls: alert unknown ca"}, "TLS failed", "trust the certificate"),
        ({**SEEN, "stage": "left", "detail": "tls: wrong version number"}, "TLS failed", "port 465"),
        ({**SEEN, "stage": "left", "detail": "command"}, "without a word", "port 587 speaks clear text"),
        ({**SEEN, "stage": "left", "client_name": "ci"}, "(ci) connected, said EHLO", "STARTTLS on"),
        ({**SEEN, "stage": "left", "client_name": "ci", "tls": "T"}, "without AUTH", "authentication on"),
        ({**REFUSED, "code": 535, "username": "wrong", "reason": "no such user"}, "AUTH failed", "expected is right"),
        ({**REFUSED, "code": 535, "username": "right", "reason": "wrong password"}, "AUTH failed", "wrong password"),
        (
            {**REFUSED, "code": 535, "username": "right", "reason": "the password is right, but no rule"},
            "AUTH failed",
            "postlane rule explain --address 10.1.2.3",
        ),
        (
            {**REFUSED, "code": 550, "phase": "mail", "sender": "jira@old.example", "reason": "x"},
            "10.1.2.3: From is jira@old.example: not in your domain",
            "an address of demo.example",
        ),
        ({**REFUSED, "code": 550, "phase": "data", "reason": "why"}, "550 5.7.1 No.", "because why"),
    ],
)
def test_each_thing_that_happens_is_told_with_what_to_do(event: dict[str, object], sentence: str, advice: str) -> None:
    """One sentence on what happened, and one on what to change."""
    found = step(event, EXPECTED)
    assert found is not None
    assert sentence in found.sentence
    assert advice in found.advice
    assert not found.queue_id


def test_an_accepted_message_is_the_end_and_other_events_are_passed_over() -> None:
    """The queue ID is handed on; an event of a later version's kind is no reason to stop."""
    accepted = {"type": "message.accepted.v1", "queue_id": "01X", "sender": "a@demo.example", "recipients": ["b@c.d"]}
    found = step(accepted, EXPECTED)
    assert found is not None
    assert found.queue_id == "01X"
    assert step({"type": "something.new.v1"}, EXPECTED) is None
