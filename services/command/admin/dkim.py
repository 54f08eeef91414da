"""`postlane domain dkim`: the signing keys of a domain, rotated while mail flows."""

from typing import Annotated, Any

import typer

from services.command.admin.client import Client, InstanceOption, path_of
from services.command.admin.output import Form, Output, fields, say
from services.command.admin.records import RecordsForm, print_advice, quoted

app = typer.Typer(help="Signing keys of a domain: rotation, a second key.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")]
TTL_SECONDS = 3600


@app.command()
def show(domain: Name, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Show the keys: in use, next, retired, Ed25519."""
    _act("GET", domain, "", instance, output, "")


@app.command()
def rotate(
    domain: Name,
    automatic: Annotated[
        bool, typer.Option("--finish-when-seen", help="give up the old key by itself once the next one is in DNS")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="also where an older key is still published for mail under way")
    ] = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Make the next key. It signs once it is in DNS; the old one stays good until `finish`."""
    wish = {"finish_when_seen": automatic, "force": force}
    _act("POST", domain, "/rotate", instance, output, "the next key is made; publish its record", json=wish)


@app.command()
def finish(domain: Name, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Give up the old key. Refused until the next one was seen in DNS."""
    _act("POST", domain, "/finish", instance, output, "the old key is retired; leave its record for a week, for mail "
         "that is under way")  # fmt: skip


@app.command()
def cancel(domain: Name, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Give up the next key; the one in use stays."""
    _act("POST", domain, "/cancel", instance, output, "the key in use stays; the record of the next one may go")


@app.command("add-ed25519")
def add_ed25519(domain: Name, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Make a second signing key (Ed25519), for receivers that know it."""
    _act("POST", domain, "/ed25519", instance, output, "made; mail is signed twice once it is in DNS")


@app.command("rm-ed25519")
def remove_ed25519(domain: Name, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Stop signing with the second key."""
    _act("DELETE", domain, "/ed25519", instance, output, "mail has one signature from now on; the record may go")


def _act(method: str, domain: str, verb: str, instance: str, output: Form, sentence: str, **options: Any) -> None:
    with Client() as client:
        where = client.instance(instance)
        found = client.configuration(where, domain)
        state = client.call(method, f"{path_of(where, found['id'])}/dkim{verb}", **options)
    if output is Form.json:
        fields(state, output)
        return
    if sentence:
        say(f"{state['domain']}: {sentence}\n")
    names = ["selector", "delegated_to", "next_selector", "next_seen", "finish_when_seen", "retired_selector"]
    fields(state, output, [*names, "retired_at", "ed25519_selector"])
    say("")
    print_advice(state, RecordsForm.table)


def zone(output: Output = Form.table) -> None:
    """Print the zone file of all delegated keys, for the operator's name server. Operators only."""
    with Client() as client:
        found = client.get("/v1/postlane/dkim-zone")
    if output is Form.json:
        fields(found, output)
        return
    if not found["keys"]:
        say("; no domain is delegated: postlane domain add DOMAIN --delegate")
    for key in found["keys"]:
        say(f"; {key['domain']}: {key['use']}")
        say(f"{key['name']}. {TTL_SECONDS} IN TXT {quoted(key['value'])}")
