"""What people read: aligned columns, one form of times."""

import pytest

from services.command.admin.output import Form, fields, moment, rows


def test_texts_stand_left_and_numbers_right(capsys: pytest.CaptureFixture[str]) -> None:
    """A column of numbers has its units below each other; one without any number is text."""
    items: list[dict[str, object]] = [
        {"name": "a", "users": 5, "used": None, "list": ["x", "y"]},
        {"name": "longer", "users": 1200, "used": None, "list": []},
        {"name": "b", "users": None, "used": None, "list": ["z"]},
    ]
    rows(items, ["name", "users", "used", "list"], Form.table)
    assert capsys.readouterr().out.splitlines() == [
        "NAME    USERS  USED  LIST",
        "a           5  -     x, y",
        "longer   1200  -     -",
        "b           -  -     z",
    ]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("2026-11-23T09:00:00Z", "2026-11-23 09:00:00Z"),
        ("2026-11-23T09:00:00.123456Z", "2026-11-23 09:00:00Z"),
        ("2026-11-23T09:00:00+00:00", "2026-11-23 09:00:00Z"),
        ("2026-11-23", "2026-11-23"),
        ("at 2026-11-23T09:00:00Z", "at 2026-11-23T09:00:00Z"),
    ],
)
def test_times_are_shown_to_the_second_in_utc(written: str, shown: str) -> None:
    """Only what is a time as a whole."""
    assert moment(written) == shown


def test_programs_get_everything_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is not made nicer."""
    fields({"at": "2026-11-23T09:00:00.5Z", "n": None}, Form.json)
    assert capsys.readouterr().out == '{"at": "2026-11-23T09:00:00.5Z", "n": null}\n'
