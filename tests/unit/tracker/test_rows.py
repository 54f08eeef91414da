"""The form in which texts are kept and searched for."""

from services.tracker.core.rows import address_key, clean


def test_addresses_are_compared_without_case_and_in_a_labels() -> None:
    """A search finds an address however it was written."""
    assert address_key("Ann@BÜCHER.example") == ("ann@xn--bcher-kva.example", "xn--bcher-kva.example")
    assert address_key('"a@b"@X.example')[1] == "x.example"
    assert address_key("") == ("", "")
    assert address_key("postmaster") == ("postmaster", "")


def test_nul_is_replaced() -> None:
    """One of the databases cannot keep it."""
    assert clean("a\0b") == "a\ufffdb"
