"""The verbs of `postlane sandbox dns`: the command mounts this application."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from services.sandbox import commands
from services.sandbox.core.lookup import FAULT_SYNTAX
from services.sandbox.zones import ZoneFault

UNKNOWN, INVALID = 4, 7
"""Exit statuses of what is not there and of what cannot be used, as everywhere in the command."""

app = typer.Typer(help="The sandbox: pretended DNS and a mail exchanger.", no_args_is_help=True)
dns_app = typer.Typer(
    help="Records the sandbox's name server answers with; changes count at once.", no_args_is_help=True
)
app.add_typer(dns_app, name="dns")


def _unnamed() -> Path:
    raise typer.BadParameter(
        "no sandbox is known here: start `postlane up --sandbox`, or name its directory with --directory"
    )


Directory = Annotated[
    Path,
    typer.Option(
        "--directory",
        envvar="POSTLANE_SANDBOX_DIRECTORY",
        help="the sandbox's directory; default: that of `postlane up` on this machine",
        default_factory=_unnamed,
        show_default=False,
    ),
]


@dns_app.command("set", epilog=f"To pretend a fault: TYPE is FAULT, VALUE is {FAULT_SYNTAX}")
def set_(
    directory: Directory,
    name: Annotated[str, typer.Argument(help="domain name; *.name for a wildcard")],
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="A, AAAA, MX, TXT, CNAME, NS, SOA … or FAULT")],
    values: Annotated[list[str], typer.Argument(metavar="VALUE…", help="one record each, for example '10 mx.example'")],
    ttl: Annotated[int | None, typer.Option(help="seconds", min=0)] = None,
) -> None:
    """Replace the records of a name and type."""
    try:
        commands.set_record(directory, name, kind, tuple(values), ttl)
    except ZoneFault as fault:
        typer.echo(f"not set: {fault}", err=True)
        raise typer.Exit(INVALID) from fault


@dns_app.command()
def load(
    directory: Directory,
    file: Annotated[
        Path, typer.Argument(help="zone file with full names, as `postlane domain records -o zone` prints")
    ],
) -> None:
    """Publish the records of a zone file; `-` reads standard input."""
    try:
        count = commands.load_zone_file(directory, sys.stdin.read() if str(file) == "-" else file.read_text())
    except (OSError, UnicodeDecodeError, ZoneFault) as fault:
        typer.echo(f"not loaded: {fault}", err=True)
        raise typer.Exit(INVALID) from fault
    typer.echo(f"{count} record{'' if count == 1 else 's'} published")


@dns_app.command("rm")
def remove(
    directory: Directory,
    name: Annotated[str, typer.Argument(help="domain name")],
    kind: Annotated[str, typer.Argument(metavar="[TYPE]", help="only records of this type")] = "",
) -> None:
    """Remove a name's records."""
    try:
        removed = commands.remove(directory, name, kind)
    except ZoneFault as fault:
        typer.echo(f"not removed: {fault}", err=True)
        raise typer.Exit(INVALID) from fault
    if not removed:
        typer.echo(f"{name} has no such records; `postlane sandbox dns ls` shows what there is", err=True)
        raise typer.Exit(UNKNOWN)


@dns_app.command("ls")
def list_(
    directory: Directory,
    beneath: Annotated[str, typer.Argument(help="only this name and what lies beneath it")] = "",
    output: Annotated[
        Literal["table", "json"], typer.Option("--output", "-o", help="table, or json: one object per line")
    ] = "table",
) -> None:
    """List the records."""
    try:
        records = commands.list_records(directory, beneath)
    except ZoneFault as fault:
        typer.echo(str(fault), err=True)
        raise typer.Exit(INVALID) from fault
    if not records and output == "table":
        typer.echo("there is no such record" if beneath else "there is no record yet", err=True)
    for record in records:
        if output == "json":
            shown = {"name": record.name, "type": record.type, "values": record.values, "ttl": record.ttl_seconds}
            typer.echo(json.dumps(shown))
        else:
            for value in record.values:
                typer.echo(f"{record.name:40} {record.type:6} {value}")
