"""Content policies: what is found in HTML, how unsubscribing is known, what a spam filter's word leads to."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core import policy, spam
from services.ingress.core.headers import parse_fields, split_header
from services.ingress.core.markup import flaws
from services.ingress.core.mime import MimeLimits
from services.ingress.core.policy import Finding, PolicyLimits
from services.ingress.core.refusal import Refusal
from services.ingress.core.texts import Text, texts
from shared.contract.records import Configuration, Lane
from tests.ingress_process import AT

LIMITS = PolicyLimits(2_000, ("unsubscribe", "abmelden", "opt out"), MimeLimits())
CONFIGURATION = Configuration(
    id="c", instance="i", name="n", domain="x.example", selector="s", dkim_value="", spf_value="", created_at=AT,
    updated_at=AT, html_policy="warn", unsubscribe_policy="refuse",
)  # fmt: skip


def examined(message: str, lane: Lane = "marketing", **more: object) -> list[Finding]:
    octets = message.replace("\n", "\r\n").encode()
    head = split_header(octets, 10_000)
    assert isinstance(head, tuple)
    fields = parse_fields(head[0], 100)
    assert isinstance(fields, list)
    return policy.examine(fields, octets[head[1] :], msgspec.structs.replace(CONFIGURATION, **more), lane, LIMITS)


@pytest.mark.parametrize(
    "html",
    [
        "",
        "just text",
        "<p>One<p>Two<ul><li>a<li>b</ul><table><tr><td>x<td>y</table>",
        "<!DOCTYPE html PUBLIC '-//W3C//DTD XHTML 1.0 Strict//EN' ''><html><body><br/><img src='a'/></body></html>",
        "<!--[if mso]><table><tr><td><![endif]--><div>Outlook</div><!--[if mso]></td></tr></table><![endif]-->",
        "<svg><path d='M0'/><g></svg><style>td > p { color: red }</style>",
        "<a href='?a=1&b=2'>R&D 1 < 2</a>",
        "<p>" * 2_000,
    ],
)
def test_what_is_well_formed(html: str) -> None:
    assert flaws(html, 5) == []


@pytest.mark.parametrize(
    ("html", "what", "line"),
    [
        ("<p>\n<b>x</p>", "<b> is not closed where it must be", 2),
        ("<div>\n<div>x</div>", "<div> is not closed where it must be", 1),
        ("<div></div>\n<div>", "<div> is not closed where it must be", 2),
        ("<div/>\nx", "<div> is not closed where it must be", 1),
        ("x\n</span>", "unexpected </span> end tag", 2),
        ("x\n\n<a href='x>y</a>", "unexpected end of file in tag", 3),
        ("x<!-- never ends", "unexpected end of file in comment", 1),
        ("<div>" * 300, "elements are nested deeper than 256", 0),
    ],
)
def test_what_is_not(html: str, what: str, line: int) -> None:
    first = flaws(html, 5)[0]
    assert (first.what, first.line) == (what, line)


def test_of_many_flaws_a_few_are_told() -> None:
    assert len(flaws("<b>" * 100, 5)) == 5


@given(
    st.lists(
        st.sampled_from(
            ["<p>", "</p>", "<b>", "</b>", "<td", ">", "<!--", "x", "<a href='", "</svg>", "<svg>", "&", "\0"]
        )
    )
)
def test_any_soup_is_judged(pieces: list[str]) -> None:
    assert len(flaws("".join(pieces), 5)) <= 5


HTML_PART = """From: a@x.example
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/plain

Unsubscribe by telephone.
--b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>Gr=C3=BC=C3=9Fe <a href=3D"{link}">{text}</a>
<b>
--b--
"""


def test_a_finding_names_part_and_line() -> None:
    found = examined(HTML_PART.format(link="https://x.example/abmelden", text="hier"))
    assert found == [Finding("HTML is not well-formed (part 2, line 2): <b> is not closed where it must be", "warn")]
    assert policy.refusal(found) is None


@pytest.mark.parametrize(
    ("link", "text", "enough"),
    [
        ("https://x.example/u", "Unsubscribe", True),
        ("https://x.example/UNSUBSCRIBE?u=3D1", "here", True),
        ("mailto:unsubscribe@x.example", "here", True),
        ("https://x.example/u", "opt&nbsp;out", True),
        ("https://x.example/u", "here", False),
        ("#unsubscribe", "unsubscribe", False),
    ],
)
def test_a_link_to_unsubscribe(link: str, text: str, enough: bool) -> None:
    """The word must be in a link that leads somewhere; in the text beside it, it is of no use."""
    found = examined(HTML_PART.format(link=link, text=text), html_policy="off")
    assert (found == []) is enough


@pytest.mark.parametrize(
    ("message", "enough"),
    [
        ("List-Unsubscribe: <mailto:u@x.example>, <https://x.example/u>\n\nHi\n", True),
        ("List-Unsubscribe: ask us\n\nHi\n", False),
        ("Subject: x\n\nTo unsubscribe: https://x.example/u\n", True),
        ("Subject: x\n\nTo unsubscribe, call us.\n", False),
        ("Subject: x\n\nhttps://x.example/u\n", False),
        ("", False),
    ],
)
def test_a_header_or_text_to_unsubscribe(message: str, enough: bool) -> None:
    assert (examined(message) == []) is enough


def test_transactional_mail_needs_none() -> None:
    assert examined("Subject: x\n\nYour order.\n", lane="transactional") == []
    assert not policy.asks(msgspec.structs.replace(CONFIGURATION, html_policy="off"), "transactional")


def test_html_beyond_the_limit_is_said_to_be_unexamined() -> None:
    [found] = examined("Content-Type: text/html\n\n" + "x" * 2_001, unsubscribe_policy="off")
    assert found.sentence == "HTML (part 1) is longer than the 2000 that are examined"


def test_the_limit_holds_for_all_html_of_a_message() -> None:
    """A hundred parts, each below the limit, would keep a thread for minutes."""
    part = "--b\nContent-Type: text/html\n\n" + "<p>" * 300 + "{link}\n"
    link = "<a href='https://x.example/u'>unsubscribe</a>"
    message = "Content-Type: multipart/mixed; boundary=b\n\n" + part * 5 + "--b--\n"
    found = [each.sentence for each in examined(message.format(link=""), unsubscribe_policy="off")]
    assert found == ["HTML (part 3) is longer than the 2000 that are examined"]
    late = "".join(part.format(link=link if number == 3 else "") for number in range(5))
    assert examined(f"Content-Type: multipart/mixed; boundary=b\n\n{late}--b--\n", html_policy="off")
    early = "".join(part.format(link=link if number == 1 else "") for number in range(5))
    assert not examined(f"Content-Type: multipart/mixed; boundary=b\n\n{early}--b--\n", html_policy="off")


def test_parts_that_cannot_be_read_are_left_out() -> None:
    """Broken base64 and unknown charsets break nothing."""
    fields = parse_fields(b"Content-Type: text/html; charset=x-none\r\nContent-Transfer-Encoding: base64\r\n", 10)
    assert isinstance(fields, list)
    assert texts(fields, b"!", MimeLimits()) == []
    assert texts(fields, b"PGI+\r\n", MimeLimits()) == [Text("text/html", "1", "<b>")]


ANSWER = """{"action": "%s", "score": 7.25, "required_score": 15.0, "is_skipped": false,
 "symbols": {"A": {"name": "A", "score": 1.5}, "B": {"name": "B", "score": -3}, "C": {"name": "C", "score": 5}}}"""


@pytest.mark.parametrize(
    ("action", "spammy"),
    [("no action", False), ("greylist", False), ("soft reject", False), ("add header", True), ("reject", True)],
)
def test_the_filters_word(action: str, spammy: bool) -> None:
    verdict = spam.read((ANSWER % action).encode())
    assert verdict is not None
    found = spam.finding(verdict, "refuse")
    expected = Finding(f"the spam filter takes it for spam ({action}, 7.2 of 15.0: C, A)", "refuse")
    assert found == (expected if spammy else None)


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b"<html>", b"\xff", b'{"action": 1}', b"[" * 5000])
def test_what_is_no_answer(answer: bytes) -> None:
    assert spam.read(answer) is None


def test_a_silent_filter() -> None:
    """Only where spam is refused and the setting says so, mail waits for the filter."""
    assert isinstance(spam.unreachable("down", "refuse", defer=True), Refusal)
    for wanted, defer in (("refuse", False), ("warn", True), ("warn", False)):
        assert spam.unreachable("down", wanted, defer) == Finding("the spam filter did not answer: down", "warn")  # type: ignore[arg-type]
