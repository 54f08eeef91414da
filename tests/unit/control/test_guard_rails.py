"""Guard rails of users: one form for patterns and networks, every fault listed."""

import pytest

from services.control.core.guard_rails import GuardRails, checked, network, pattern


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("*", "*@*"),
        ("client.example", "*@client.example"),
        ("Orders-*@Shop.Example", "Orders-*@shop.example"),
        ("*@*.münchen.example", "*@*.xn--mnchen-3ya.example"),
        ('"a b"@client.example', None),
        ("a@b@client.example", None),
        ("@client.example", None),
        ("a@.example", None),
        ("*a*b*c*d*@client.example", None),
        ("", None),
        ("a" * 250 + "@b.example", None),
    ],
)
def test_a_pattern_has_one_form(written: str, kept: str | None) -> None:
    """The domain is kept in lower-case A-labels; what can match nothing is refused."""
    if kept is None:
        with pytest.raises(ValueError, match=r"pattern|domain|stars"):
            pattern(written)
    else:
        assert pattern(written) == kept


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        (" 192.0.2.0/24 ", "192.0.2.0/24"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("192.0.2.1/24", None),
        ("office", None),
        ("fe80::%1/64", None),
    ],
)
def test_a_network_has_one_form(written: str, kept: str | None) -> None:
    """IPv4 addresses mapped into IPv6 are IPv4 addresses; host bits are a fault that names what was meant."""
    if kept is None:
        with pytest.raises(ValueError, match=r"did you mean 192\.0\.2\.0/24|is not a network|has a scope"):
            network(written)
    else:
        assert network(written) == kept


def test_every_fault_is_listed() -> None:
    """One answer names everything that is wrong, with the entry."""
    wish = GuardRails(
        senders=("a@rival.example", "a@shop.example", "*"), networks=("x",), staging="redirect", redirect_to="nobody"
    )
    _, faults = checked(wish, "shop.example")
    assert [fault.field for fault in faults] == ["senders[0]", "networks[0]", "redirect_to"]
    _, faults = checked(GuardRails(staging="redirect"), "shop.example")
    assert [fault.code for fault in faults] == ["redirect_to_missing"]
    _, faults = checked(GuardRails(staging="allow-list", recipients=("a@b.example",) * 1001), "shop.example")
    assert [fault.code for fault in faults] == ["too_many_entries", "staging_allowed_missing"]


def test_sound_limits_are_kept_once() -> None:
    """Doubled entries are one entry."""
    wish = GuardRails(recipients=("client.example", "*@Client.Example"), messages_per_hour=5)
    assert checked(wish, "shop.example") == (GuardRails(recipients=("*@client.example",), messages_per_hour=5), ())
