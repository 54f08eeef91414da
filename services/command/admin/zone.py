"""`postlane zone`: named sets of networks."""

from typing import Annotated, Any

import typer

from services.command.admin.client import Client, InstanceOption
from services.command.admin.exits import UNKNOWN, failure
from services.command.admin.output import Form, Output, Yes, confirm, rows, say

app = typer.Typer(help="Zones: named sets of networks that rules let in.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="name of the zone")],
    addresses: Annotated[list[str], typer.Argument(metavar="ADDRESS…", help="address, first-last or subnet")],
    exclude: Annotated[list[str] | None, typer.Option(help="address, range or subnet that is not part of it")] = None,
    description: Annotated[str, typer.Option(help="description")] = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Make a zone."""
    with Client() as client:
        account = client.instance(instance)
        wish = {
            "name": name,
            "account_id": account,
            "description": description,
            "addresses": [entry(text) for text in addresses],
            "excluded": [entry(text) for text in exclude or []],
        }
        made = client.call("POST", "/v1/zones", json=wish)
        rows([shown(made)], ["name", "addresses", "excluded", "id"], output)
        say(f"let it in:  postlane rule add --zone {name!r}", Form.json)


@app.command("ls")
def list_(instance: InstanceOption = "", output: Output = Form.table) -> None:
    """List the zones of an instance."""
    with Client() as client:
        found = [shown(client.get(f"/v1/zones/{each['id']}")) for each in zones(client, client.instance(instance))]
        rows(found, ["name", "addresses", "excluded", "id"], output, "no zone yet: postlane zone add NAME 192.0.2.0/24")


@app.command("rm")
def remove(
    zone: Annotated[str, typer.Argument(help="name or ID")], yes: Yes = False, instance: InstanceOption = ""
) -> None:
    """Remove a zone that no rule names."""
    with Client() as client:
        found = find(zones(client, client.instance(instance)), zone)
        confirm(f"Remove zone {found['name']}?", yes)
        client.call("DELETE", f"/v1/zones/{found['id']}")
        say(f"removed {found['name']}", Form.json)


def entry(text: str) -> dict[str, str]:
    """Return an address, a range or a subnet as the API writes it."""
    kind = "subnet" if "/" in text else "ipRange" if "-" in text else "ipAddress"
    return {"type": kind, "value": text}


def shown(zone: dict[str, Any]) -> dict[str, Any]:
    """Return a zone with its addresses as plain texts."""
    return zone | {name: [each["value"] for each in zone[name]] for name in ("addresses", "excluded")}


def zones(client: Client, account: str) -> list[dict[str, Any]]:
    """Return the zones of an instance."""
    found: list[dict[str, Any]] = client.get("/v1/zones", account_id=account)["zones"]
    return found


def find(known: list[dict[str, Any]], named: str) -> dict[str, Any]:
    """Return the zone of a name or ID."""
    for each in known:
        if named in (each["name"], each["id"]):
            return each
    raise failure(UNKNOWN, f"there is no zone {named!r} in this instance; `postlane zone ls` shows those there are")
