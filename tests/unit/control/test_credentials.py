"""Credentials from randomness, API keys, and tokens."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.core import credentials, tokens
from services.control.core.tokens import Claims

KEY = tokens.signing_key(b"m" * 32)
CLAIMS = Claims(iss="postlane", sub="abc", iat=1000, exp=2000)


@given(st.binary(min_size=24, max_size=24), st.binary(min_size=40, max_size=40))
def test_generated_credentials_have_their_form(name: bytes, secret: bytes) -> None:
    """Usernames match IBM's pattern; passwords have 32 letters and digits."""
    assert re.fullmatch(r"[a-z0-9]{18}\d{2}", credentials.new_username(name))
    assert credentials.is_username(credentials.new_username(name))
    assert re.fullmatch(r"[A-Za-z0-9]{32}", credentials.new_password(secret))


@given(st.binary(min_size=52, max_size=52))
def test_an_api_key_reads_back(randomness: bytes) -> None:
    """What is shown is what is recognised."""
    key = credentials.new_api_key(randomness)
    assert credentials.parse_api_key(key.text) == key
    assert key.secret not in key.hash


@pytest.mark.parametrize("text", ["", "pl_", "pl_abc_def", "xx_" + "a" * 12 + "_" + "b" * 40, "pl_" + "é" * 12 + "_x"])
def test_other_texts_are_no_api_keys(text: str) -> None:
    """Malformed keys are recognised as such without a look-up."""
    assert credentials.parse_api_key(text) is None


def test_a_token_is_good_until_it_ends() -> None:
    """Not after its time, not under another key or issuer."""
    token = tokens.sign(CLAIMS, KEY)
    assert tokens.read(token, KEY, 1999, "postlane") == CLAIMS
    assert tokens.read(token, KEY, 2000, "postlane") is None
    assert tokens.read(token, KEY, 900, "postlane") is None
    assert tokens.read(token, tokens.signing_key(b"n" * 32), 1500, "postlane") is None
    assert tokens.read(token, KEY, 1500, "other") is None


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_token_changed_anywhere_is_refused(index: int) -> None:
    """Header, claims and signature are all protected; the algorithm cannot be chosen by the client."""
    parts = tokens.sign(CLAIMS, KEY).split(".")
    parts[index] = ("A" if parts[index][0] != "A" else "B") + parts[index][1:]
    assert tokens.read(".".join(parts), KEY, 1500, "postlane") is None


@given(st.text())
def test_any_text_is_read_as_a_token_without_an_exception(text: str) -> None:
    """Garbage is not a token."""
    assert tokens.read(text, KEY, 1500, "postlane") is None


@given(st.text(alphabet="AQIDabc-_=", max_size=40), st.text(alphabet="AQIDabc-_=", max_size=40))
def test_any_parts_are_read_as_a_token_without_an_exception(body: str, signature: str) -> None:
    """Neither is something of the right form."""
    assert tokens.read(f"{body}.{body}.{signature}", KEY, 1500, "postlane") is None
