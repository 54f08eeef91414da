"""Look-ups in authoritative data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.core.lookup import FAULT, Fault, Found, RecordSet, ZoneData, labels, parse_fault

A = RecordSet(("127.0.0.1",))
SOA = RecordSet(("ns. hostmaster. 1 1 1 1 1",))


def zone(**names: dict[str, RecordSet]) -> ZoneData:
    """Make data; `__` stands for a dot and `star` for the asterisk."""
    return ZoneData({labels(n.replace("__", ".").replace("star", "*")): sets for n, sets in names.items()})


def test_a_name_that_is_there_is_answered() -> None:
    """The record set comes with the name it belongs to."""
    answer = zone(mx__example={"A": A}).look_up(labels("mx.example"), "A")
    assert (answer.kind, answer.found) == ("data", (Found(("mx", "example"), "A", A),))


def test_no_data_is_not_no_name() -> None:
    """A name with other types has no data, and so has one that exists only because others lie beneath it."""
    data = zone(a__b__example={"A": A})
    assert data.look_up(labels("a.b.example"), "MX").kind == "nodata"
    assert data.look_up(labels("b.example"), "A").kind == "nodata"
    assert data.look_up(labels("c.example"), "A").kind == "nxdomain"


def test_negative_answers_carry_the_closest_start_of_authority() -> None:
    """The SOA of the zone that encloses the name, not of a zone above it."""
    data = zone(example={"SOA": SOA}, b__example={"SOA": SOA, "A": A})
    authority = data.look_up(labels("x.b.example"), "A").start_of_authority
    assert authority is not None
    assert authority.owner == ("b", "example")


def test_aliases_are_followed_through_the_data() -> None:
    """The answer holds each CNAME on the way; the code is that of the last name."""
    data = zone(www__example={"CNAME": RecordSet(("a.example",))}, a__example={"CNAME": RecordSet(("b.example.",))})
    answer = data.look_up(labels("www.example"), "A")
    assert answer.kind == "nxdomain"
    assert [found.type for found in answer.found] == ["CNAME", "CNAME"]
    direct = data.look_up(labels("www.example"), "CNAME")
    assert (direct.kind, len(direct.found)) == ("data", 1)


def test_a_loop_of_aliases_ends() -> None:
    """Each alias is told once."""
    data = zone(a__example={"CNAME": RecordSet(("b.example",))}, b__example={"CNAME": RecordSet(("a.example",))})
    assert len(data.look_up(labels("a.example"), "A").found) == 2


def test_a_wildcard_answers_for_names_that_do_not_exist() -> None:
    """It does not cover a name that exists, even as an empty one, nor what lies beneath such a name."""
    data = zone(star__example={"A": A}, a__b__example={"A": A})
    assert data.look_up(labels("x.example"), "A").found[0].owner == ("x", "example")
    assert data.look_up(labels("x.y.example"), "A").kind == "data"
    assert data.look_up(labels("b.example"), "A").kind == "nodata"
    assert data.look_up(labels("x.b.example"), "A").kind == "nxdomain"


@pytest.mark.parametrize(
    ("text", "name", "kind", "faulty"),
    [
        ("SERVFAIL", "d.example", "A", True),
        ("SERVFAIL", "x.d.example", "A", False),
        ("SERVFAIL *", "x.d.example", "A", True),
        ("REFUSED TXT", "d.example", "TXT", True),
        ("REFUSED TXT", "d.example", "MX", False),
        ("TIMEOUT TXT MX *", "x.d.example", "MX", True),
    ],
)
def test_faults_are_pretended_where_they_are_said(text: str, name: str, kind: str, faulty: bool) -> None:
    """A fault covers its own name or all beneath it, all types or some."""
    data = zone(d__example={FAULT: RecordSet((text,)), "A": A})
    fault = data.look_up(labels(name), kind).fault
    assert (fault is not None) == faulty


def test_a_slow_answer_is_the_true_one() -> None:
    """Slowness changes the time, not the answer."""
    answer = zone(d__example={FAULT: RecordSet(("SLOW+3",)), "A": A}).look_up(labels("d.example"), "A")
    assert (answer.kind, answer.fault) == ("data", Fault("SLOW", 3))


@pytest.mark.parametrize("text", ["", "BROKEN", "SLOW", "SLOW+x", "SERVFAIL+3", "SERVFAILTXT"])
def test_what_is_no_fault_is_told(text: str) -> None:
    """A value that would pretend nothing is not taken for a fault."""
    assert parse_fault(text) is None


def test_a_dot_inside_a_label_is_no_boundary() -> None:
    """Escapes of the presentation format are read."""
    assert labels(r"a\.b.\228.Example.") == ("a.b", "ä", "example")


@given(st.lists(st.text("ab*", min_size=1, max_size=2), max_size=4), st.sampled_from(["A", "MX", "ANY", "CNAME"]))
def test_every_question_has_an_answer(name: list[str], kind: str) -> None:
    """No name makes a look-up fail, and data is told only if there is some."""
    data = zone(star__a={"A": A}, b__a={"CNAME": RecordSet(("a.b",))}, a__b={"MX": A}, a={FAULT: RecordSet(("LAME",))})
    answer = data.look_up(tuple(name), kind)
    assert answer.kind != "data" or answer.found or kind == "ANY"
