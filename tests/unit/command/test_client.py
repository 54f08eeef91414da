"""Which object a name of the command line means."""

from typing import Any

import pytest
import typer

from services.command.admin.client import Client, instance_among

CONFIGURATIONS = [
    {"id": "c1", "domain": "old.example", "name": "shop.example"},
    {"id": "c2", "domain": "shop.example", "name": "orders"},
    {"id": "c3", "domain": "xn--bcher-kva.example", "name": "books"},
]
INSTANCES = [{"id": "i1", "name": "acme"}, {"id": "i2", "name": "acme"}, {"id": "i3", "name": "i1"}]


class Answered(Client):
    """A client of an API that knows these configurations."""

    def __init__(self) -> None:
        """Need neither key nor server."""

    def get(self, path: str, **query: Any) -> Any:
        """Answer every question with them."""
        return {"configurations": CONFIGURATIONS}


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("shop.example", "c2"),
        ("SHOP.example.", "c2"),
        ("c1", "c1"),
        ("orders", "c2"),
        ("bücher.example", "c3"),
        ("Bücher.Example", "c3"),
        ("xn--bcher-kva.example", "c3"),
    ],
)
def test_a_domain_wins_over_a_name(named: str, meant: str) -> None:
    """Names are free texts: one that reads like another domain must not have that domain's verbs."""
    assert Answered().configuration("i", named)["id"] == meant


def test_an_instance_is_never_guessed() -> None:
    """An ID wins over a name; a name that two have ends the verb."""
    assert instance_among(INSTANCES, "i1") == "i1"
    assert instance_among(INSTANCES, "i2") == "i2"
    assert instance_among(INSTANCES, "nobody") == ""
    with pytest.raises(typer.Exit):
        instance_among(INSTANCES, "acme")
