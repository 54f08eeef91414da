"""Addresses, replies and identifiers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contract import subjects
from shared.contract.subjects import Place
from shared.mail import ids, reply
from shared.mail.address import Address, Fault, mask, normalise_domain, parse_address


@pytest.mark.parametrize(
    "text",
    [
        "a@b.example",
        "x%evil@ok.example",
        "x!y@ok.example",
        '"a b"@y.example',
        '"a@b"@y.example',
        "ü@y.example",
        "a+b@xn--bcher-kva.example",
    ],
)
def test_valid_addresses_keep_what_was_written(text: str) -> None:
    """A valid mailbox is kept octet for octet."""
    parsed = parse_address(text)

    assert isinstance(parsed, Address)
    assert parsed.written == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("postmaster", "name@domain"),
        ("@h1,@h2:x@y.example", "source routes"),
        ("x@[127.0.0.1]", "literals"),
        ("x@localhost", "qualified"),
        ("x@y.example:2525", "malformed"),
        ("x@y..example", "malformed"),
        ("x@y.example.", "malformed"),
        ("x y@z.example", "malformed"),
        ("x(c)@y.example", "malformed"),
        (".x@y.example", "malformed"),
        ("a\x00b@y.example", "control"),
        ("a\rb@y.example", "control"),
        ("a\x85b@y.example", "control"),
        ('"a\x9b31mb"@y.example', "control"),
        ("a\u2028b@y.example", "control"),
        ("a" * 65 + "@y.example", "64 octets"),
        ("a@" + "b" * 64 + ".example", "malformed"),
        ("a@1.2.3.4", "number"),
        ("@y.example", "source routes"),
        ("a@", "empty"),
    ],
)
def test_invalid_addresses_say_why(text: str, reason: str) -> None:
    """A text that is no mailbox is a fault with a reason."""
    parsed = parse_address(text)

    assert isinstance(parsed, Fault)
    assert reason in parsed.reason


def test_an_address_without_end_is_not_remembered() -> None:
    """Thousands of them, each another, must not stay in memory."""
    before = normalise_domain.cache_info().currsize
    found = parse_address("a@" + "b " * 100_000)
    assert isinstance(found, Fault)
    assert "254 octets" in found.reason
    assert normalise_domain.cache_info().currsize == before


def test_domains_compare_in_lower_case_a_labels() -> None:
    """U-label, A-label and case are one domain."""
    assert normalise_domain("BÜCHER.example") == normalise_domain("xn--bcher-kva.EXAMPLE") == "xn--bcher-kva.example"


@given(st.text())
def test_parsing_any_text_is_an_answer(text: str) -> None:
    """No text makes the parser raise."""
    assert isinstance(parse_address(text), Address | Fault)


def test_masking_hides_every_second_character() -> None:
    """Masked addresses look as the product's logs show them."""
    assert mask("greatmind@x.org") == "g*e*t*i*d@x.org"


def test_queue_ids_sort_by_time_and_are_recognised() -> None:
    """A queue ID is 30 characters, ordered by its time, and read back in any case and with a suffix."""
    early, late = ids.new_queue_id(1_000, b"\xff" * 13), ids.new_queue_id(1_001, b"\x00" * 13)

    assert len(early) == 30
    assert early < late
    assert ids.queue_id_time_ms(late) == 1_001
    assert ids.parse_queue_id(f" {late.lower()}.2 ") == late
    assert ids.parse_queue_id(late[:-1]) is None
    with pytest.raises(ValueError, match="octets"):
        ids.new_queue_id(0, b"short")


def test_references_are_recognised() -> None:
    """A reference is read back in any case."""
    made = ids.new_reference(b"1234567")
    assert ids.parse_reference(made.lower()) == made
    assert ids.parse_reference("R-1") is None


@given(st.text(max_size=600))
def test_a_reply_is_one_printable_line(text: str) -> None:
    """Whatever is filled in, a reply is one line of printable ASCII within the limit."""
    line = str(reply.SENDER_NOT_ALLOWED.with_(domain=text).referring("R-0123456789"))

    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= 510


@given(st.text(min_size=1))
def test_a_token_is_safe_and_unique(text: str) -> None:
    """An encoded token can hold nothing that means something in a subject."""
    encoded = subjects.token(text)

    assert subjects.checked(encoded) == encoded
    assert not set(encoded) & set(".*> @\r\n")


def test_a_place_is_read_back_from_each_of_its_subjects() -> None:
    """Subject and place are two forms of one thing."""
    place = Place(3, "marketing", 12, "c-1", "Q1")

    for subject in (place.ready, place.later, place.held, place.due):
        assert subjects.parse_place(subject) == place
    assert subjects.parse_place(place.quarantine) is None
    assert subjects.parse_place("postlane.status.i.c.q") is None


def test_a_pattern_fits_the_subjects_of_its_places_and_no_others() -> None:
    """What is asked for by hand, a configuration or a queue ID, is found where it lies."""
    place = Place(3, "marketing", 12, "c-1", "Q1")
    lying = {
        "ready": place.ready, "later": place.later, "held": place.held, "due": place.due, "quarantine": place.quarantine
    }  # fmt: skip

    def fitting(*asked: str, **more: str) -> set[str]:
        stream, wanted = subjects.pattern(3, *asked, **more)
        expression = re.compile(re.escape(wanted).replace(r"\*", "[^.]+"))
        found = {where for where, subject in lying.items() if expression.fullmatch(subject)}
        assert stream == (place.mail_stream if found & {"ready", "quarantine"} else place.retry_stream)
        return found

    assert fitting() == {"later", "held", "due"}
    assert [fitting(where) for where in lying] == [{where} for where in lying]
    assert [fitting(where, queue_id="Q1") for where in lying] == [{where} for where in lying]
    assert fitting("held", "c-1") == {"held"}
    assert fitting("held", "c-2") == set()
    assert fitting(queue_id="Q2") == set()
    with pytest.raises(ValueError, match="not a token"):
        subjects.pattern(3, "held", ">")
