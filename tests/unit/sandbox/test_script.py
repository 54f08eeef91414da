"""Scripts in the names of recipients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.core.script import ACCEPT, script_of
from shared.mail.reply import Reply


@pytest.mark.parametrize(
    ("address", "act", "code", "enhanced"),
    [
        ("bounce@x.example", "bounce", 550, "5.1.1"),
        ("bounce+552-5.2.2@x.example", "bounce", 552, "5.2.2"),
        ("BOUNCE+450-4.2.1@x.example", "bounce", 450, "4.2.1"),
        ("defer+2x@x.example", "defer", 451, "4.7.1"),
        ("defer+2x+450-4.2.1@x.example", "defer", 450, "4.2.1"),
        ("greylist@x.example", "greylist", 450, "4.7.1"),
        ("reject-data@x.example", "reject-data", 554, "5.7.1"),
        ("reject-data+452-4.3.1@x.example", "reject-data", 452, "4.3.1"),
    ],
)
def test_a_script_names_its_reply(address: str, act: str, code: int, enhanced: str) -> None:
    """The act and the reply are read from the local part, in any case."""
    script = script_of(address)
    assert isinstance(script.reply, Reply)
    assert (script.act, script.reply.code, script.reply.enhanced) == (act, code, enhanced)


def test_times_and_seconds_are_read() -> None:
    """How often to defer and how long to wait; once and one second if nothing is said."""
    assert script_of("defer+12x@x.example").times == 12
    assert script_of("defer@x.example").times == 1
    assert script_of("slow+5s@x.example").seconds == 5
    assert script_of("slow@x.example").seconds == 1


@pytest.mark.parametrize("address", ["delivered@x.example", "ann+bounce@x.example", "bouncer@x.example", "@", ""])
def test_anything_else_is_accepted(address: str) -> None:
    """Only the first word of the local part is a script."""
    assert script_of(address) == ACCEPT


@given(st.text(max_size=40))
def test_no_address_is_too_strange(text: str) -> None:
    """Every text has a script, and a reply is always a refusal."""
    script = script_of(text)
    assert script.reply is None or 400 <= script.reply.code <= 599
