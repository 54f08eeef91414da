"""`postlane suppression`: recipients a domain no longer sends to."""

from typing import Annotated

import typer

from services.command.admin.client import Client, InstanceOption, path_of
from services.command.admin.output import Form, Output, Yes, confirm, rows, say

app = typer.Typer(help="Suppressed recipients: mailboxes that are gone, or were entered by hand.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")]
Recipient = Annotated[str, typer.Argument(metavar="ADDRESS", help="address of the recipient")]
PAGE = 100


@app.command("ls")
def list_(
    domain: Domain,
    search: Annotated[str, typer.Option(help="part of the address or of the reason")] = "",
    limit: Annotated[int, typer.Option(help="entries at most", min=1)] = 1000,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """List suppressed recipients, the newest first."""
    with Client() as client:
        path = _path(client, instance, domain)
        found: list[dict[str, str]] = []
        total = 1
        while len(found) < min(limit, total):
            page = client.get(path, limit=min(PAGE, limit - len(found)), offset=len(found), search=search)
            total = page["total_count"]
            if not page["suppressions"]:
                break
            found += page["suppressions"]
        rows(found, ["address", "at", "reason", "queue_id"], output, "nobody is suppressed")
        if total > len(found):
            say(f"{total} in all", Form.json)


@app.command()
def add(
    domain: Domain,
    address: Recipient,
    reason: Annotated[str, typer.Option("--reason", help="why, for whoever reads the list")] = "",
    instance: InstanceOption = "",
) -> None:
    """Send nothing more to a recipient."""
    with Client() as client:
        client.call("POST", _path(client, instance, domain), json={"address": address, "reason": reason})
        say(f"nothing more is sent to {address}", Form.json)


@app.command("rm")
def remove(domain: Domain, address: Recipient, yes: Yes = False, instance: InstanceOption = "") -> None:
    """Send to a recipient again."""
    with Client() as client:
        path = _path(client, instance, domain)
        confirm(f"Send to {address} again? If its mailbox is gone, bounces harm the sender's reputation.", yes)
        client.call("DELETE", path, params={"address": address})
        say(f"mail to {address} is tried again from now on", Form.json)


def _path(client: Client, instance: str, domain: str) -> str:
    where = client.instance(instance)
    return f"{path_of(where, client.configuration(where, domain)['id'])}/suppressions"
