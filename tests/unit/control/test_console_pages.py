"""What the console's pages are made of: strangers' texts without tricks, numbers, colours that can be read."""

import re

import pytest

from services.control.console.calls import Declined, path
from services.control.console.pages import STYLE, moment, page, plain, prose, subject, whole

PAPER, NIGHT = (0xFF, 0xFF, 0xFF), (0x1E, 0x1E, 0x1E)
"""What browsers paint under text, in light and in dark."""


def test_text_stays_text() -> None:
    """Nothing that turns writing or steers a terminal; lines only where lines are kept."""
    assert plain("a\u202eb\x1bc\r\nd") == "a\ufffdb\ufffdc\ufffd\ufffdd"
    assert prose("a\u202eb\r\nc\rd\ne\x85f") == "a\ufffdb\nc\nd\ne\ufffdf"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("=?utf-8?q?gr=C3=BC=C3=9Fe?=", "gr\u00fc\u00dfe"),
        ("=?utf-8?b?4oCuPGI+?=", "\ufffd<b>"),  # what was hidden from us is no less a stranger's
        ("=?utf-8?q?a=0D=0Ab?=", "a\ufffd\ufffdb"),
        ("=?utf-7?q?+2AA-?=", "=?utf-7?q?+2AA-?="),
        ("=?no-charset?q?a?=", "=?no-charset?q?a?="),
    ],
)
def test_a_subject_is_read_as_its_recipients_do(written: str, shown: str) -> None:
    """Encoded words are undone, with the same care."""
    assert subject(written, "manager") == shown


def test_no_address_comes_out_of_a_subject_for_readers() -> None:
    """They get it masked, also where the API saw only encoded words."""
    hidden = "=?utf-8?q?for_somebody=40there.example?="
    assert subject(hidden, "manager") == "for somebody@there.example"
    assert subject(hidden, "reader") == "for s*m*b*d*@there.example"


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("12", 12), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("²", None), ("٣", None),
                         ("-1", None), ("1_0", None), ("", None)]
)  # fmt: skip
def test_whole_numbers(text: str, number: int | None) -> None:
    """Of ASCII digits, and no more than 64 bits hold."""
    assert whole(text) == number


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_a_segment_never_leads_up(segment: str) -> None:
    """Nor is one left out."""
    with pytest.raises(Declined):
        path("v1", segment, "x")
    assert path("v1", "a/..?b#c%2e") == "/v1/a%2F..%3Fb%23c%252e"


def test_a_moment_that_is_none_is_escaped() -> None:
    """The API's times are shown to the second."""
    assert ">2026-11-01 10:00:00Z<" in moment("2026-11-01T10:00:00.123Z")
    assert moment("<b>") == "&lt;b&gt;"


@pytest.mark.parametrize(
    ("status", "title"), [(404, "Not found"), (503, "Not at the moment"), (400, "Not done"), (403, "Not done")]
)
def test_a_problem_says_of_which_kind_it_is(status: int, title: str) -> None:
    """Whether to look elsewhere, to wait or to correct something."""
    assert f"<h1>{title}</h1>" in page("problem", status, messages=["<why>"]).content


def test_a_search_shows_few_of_many_recipients() -> None:
    """A message to a thousand takes one line of fifty, not the page."""
    for number, more in ((3, ""), (1000, "r2 and 997 more")):
        recipients = [f"r{each}" for each in range(number)]
        line = dict.fromkeys(("accepted_at", "status", "sender", "subject", "queue_id"), "") | {
            "recipients": recipients
        }
        asked = dict.fromkeys(("recipient", "sender", "message_id", "status", "since", "until", "configuration"), "")
        text = page(
            "messages", visit=Visitor(), found={"messages": [line], "total": 1}, asked=asked, skip=0, entries=50,
            statuses=(),
        ).content  # fmt: skip
        assert "r2" in text
        assert "r3" not in text
        assert more in text


class Visitor:
    """A visit as far as a template looks at it."""

    role = "reader"
    is_operator = False
    done = ""
    tenant = {"id": "I", "name": "acme"}  # noqa: RUF012  # one for all


def luminance(colour: tuple[int, ...]) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [part / 255 for part in colour]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("name", ["dim", "good", "bad", "open", "key"])
def test_words_stand_out_from_what_is_under_them(name: str) -> None:
    """By a ratio of 4.5 at least (WCAG 2.2, 1.4.3), in light and in dark."""
    colours = re.findall(rf"--{name}: #([0-9a-f]+);", STYLE)
    assert len(colours) == 2, colours
    for colour, under in zip(colours, (PAPER, NIGHT), strict=True):
        assert len(colour) == 6, f"{colour} lets through what is under it"
        lights = sorted((luminance(tuple(bytes.fromhex(colour))), luminance(under)))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5, (name, colour)
