"""What a verb prints: an aligned table for people, one JSON object per line for programs."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from services.command.admin.exits import INVALID


class Form(StrEnum):
    """How to print."""

    table = "table"
    json = "json"


_NUMBER = re.compile(r"\d+|-")
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)")

Output = Annotated[Form, typer.Option("--output", "-o", help="table, or json: one object per line")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="do not ask")]


def rows(items: Iterable[Mapping[str, Any]], columns: Sequence[str], form: Form, empty: str = "") -> None:
    """Print a list; in a table only the named columns, in JSON everything. `empty` is said when there is nothing."""
    if form is Form.json:
        for item in items:
            typer.echo(json.dumps(item, ensure_ascii=False))
        return
    cells = [[_cell(item.get(column)) for column in columns] for item in items]
    if not cells:
        typer.echo(empty or "nothing", err=True)
        return
    table([column.replace("_", " ") for column in columns], cells)


def table(heads: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; the last one is as long as it is."""
    widths = [max(len(head), *(len(row[n]) for row in cells)) for n, head in enumerate(heads)]
    # Numbers stand with their units one below the other.
    columns = [[row[n] for row in cells] for n in range(len(heads))]
    numbers = [all(map(_NUMBER.fullmatch, column)) and any(map(str.isdigit, column)) for column in columns]
    typer.echo(typer.style(_line([head.upper() for head in heads], widths, numbers), bold=sys.stdout.isatty()))
    for row in cells:
        typer.echo(_line(row, widths, numbers))


def _line(row: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> str:
    columns = zip(row, widths, numbers, strict=True)
    return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in columns).rstrip()


def moment(text: str) -> str:
    """Return a time of the API as people are shown it: to the second, in UTC."""
    found = _MOMENT.fullmatch(text)
    return f"{found[1]} {found[2]}Z" if found else text


def fields(item: Mapping[str, Any], form: Form, names: Sequence[str] = ()) -> None:
    """Print one object: in a table one line per field, in JSON all of it on one line."""
    if form is Form.json:
        typer.echo(json.dumps(item, ensure_ascii=False))
        return
    shown = [name for name in names or item if item.get(name) not in (None, "", [])]
    width = max((len(name) for name in shown), default=0) + 2
    for name in shown:
        typer.echo(f"{name.replace('_', ' '):{width}}{_cell(item[name])}")


def say(sentence: str, form: Form = Form.table) -> None:
    """Say something to a person; a program that reads JSON is not disturbed."""
    typer.echo(sentence, err=form is Form.json)


def confirm(question: str, yes: bool) -> None:
    """Ask before something is destroyed; without a terminal only `--yes` will do."""
    if yes:
        return
    if not sys.stdin.isatty():
        typer.echo(f"postlane: {question} Nothing was done; add --yes to do it.", err=True)
        raise typer.Exit(INVALID)
    if not typer.confirm(question):
        raise typer.Exit(1)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_cell(item) for item in value) or "-"
    return moment(str(value))
