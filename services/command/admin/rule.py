"""`postlane rule`: which zones may reach the SMTP interface."""

from typing import Annotated, Any

import typer

from services.command.admin.client import Client, InstanceOption
from services.command.admin.exits import DONE, NEGATIVE, UNKNOWN, failure
from services.command.admin.output import Form, Output, Yes, confirm, fields, rows, say
from services.command.admin.zone import find, zones

app = typer.Typer(help="Rules: without one nobody reaches an instance's SMTP interface.", no_args_is_help=True)

SERVICE = "event-notifications"
SMTP = "crn:v1:bluemix:public:event-notifications::::api-type:smtp-configuration"


@app.command()
def add(
    zone: Annotated[list[str], typer.Option(help="name or ID of a zone to let in; may be repeated")],
    endpoint: Annotated[list[str] | None, typer.Option(help="only by this endpoint: public or private")] = None,
    mode: Annotated[str, typer.Option(help="enabled, report (only log) or disabled")] = "enabled",
    description: Annotated[str, typer.Option(help="description")] = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Let zones in. Of several rules every one must admit an address, so a second rule restricts the first."""
    with Client() as client:
        account = client.instance(instance)
        known = zones(client, account)
        attributes = [{"name": "networkZoneId", "value": ",".join(find(known, each)["id"] for each in zone)}]
        if endpoint:
            attributes.append({"name": "endpointType", "value": ",".join(endpoint)})
        resource = {"accountId": account, "serviceName": SERVICE, "serviceInstance": account}
        wish = {
            "description": description,
            "contexts": [{"attributes": attributes}],
            "resources": [{"attributes": [{"name": name, "value": value} for name, value in resource.items()]}],
            "operations": {"api_types": [{"api_type_id": SMTP}]},
            "enforcement_mode": mode,
        }
        others = [r for r in client.get("/v1/rules", account_id=account)["rules"] if r["enforcement_mode"] == "enabled"]
        made = client.call("POST", "/v1/rules", json=wish)
        if others and mode == "enabled":
            say(
                f"there are {len(others) + 1} enabled rules now, and every one of them must admit an address: "
                "`postlane rule explain --address …` says whether yours still gets in",
                Form.json,
            )
        rows([made if output is Form.json else _shown(made, known)], COLUMNS, output)


COLUMNS = ["id", "zones", "endpoints", "enforcement_mode", "description"]


@app.command("ls")
def list_(instance: InstanceOption = "", output: Output = Form.table) -> None:
    """List the rules of an instance."""
    with Client() as client:
        account = client.instance(instance)
        found = client.get("/v1/rules", account_id=account)["rules"]
        if output is Form.table:
            known = zones(client, account)
            found = [_shown(rule, known) for rule in found]
        rows(found, COLUMNS, output, "no rule, so nobody reaches SMTP: postlane rule add --zone NAME")


@app.command()
def explain(
    address: Annotated[str, typer.Option(help="an IP address")],
    endpoint: Annotated[str, typer.Option(help="public or private")] = "public",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Say why an address may reach SMTP or not. Status 1 if it may not."""
    with Client() as client:
        where = client.instance(instance)
        found = client.get(f"/v1/postlane/instances/{where}/access", address=address, endpoint=endpoint)
        if output is Form.json:
            fields(found, output)
        else:
            say(found["sentence"])
            if found["rules"]:
                rows(found["rules"], ["rule", "enforcement", "admits", "zones"], output)
        raise typer.Exit(DONE if found["admitted"] else NEGATIVE)


@app.command("rm")
def remove(
    rule: Annotated[str, typer.Argument(help="ID, or its beginning")], yes: Yes = False, instance: InstanceOption = ""
) -> None:
    """Remove a rule."""
    with Client() as client:
        known = client.get("/v1/rules", account_id=client.instance(instance))["rules"]
        found = [each for each in known if each["id"].startswith(rule)]
        if len(found) != 1:
            what = "no rule" if not found else f"{len(found)} rules"
            raise failure(UNKNOWN, f"there is {what} with an ID that begins with {rule!r}; see `postlane rule ls`")
        last = " It is the last one: nobody will reach SMTP." if len(known) == 1 else ""
        confirm(f"Remove rule {found[0]['id']}?{last}", yes)
        client.call("DELETE", f"/v1/rules/{found[0]['id']}")
        say(f"removed {found[0]['id']}", Form.json)


def _shown(rule: dict[str, Any], known: list[dict[str, Any]]) -> dict[str, Any]:
    names = {each["id"]: each["name"] for each in known}
    values = [(a["name"], a["value"]) for context in rule["contexts"] for a in context["attributes"]]
    found = [part.strip() for name, value in values if name == "networkZoneId" for part in value.split(",")]
    endpoints = [value for name, value in values if name == "endpointType"]
    return rule | {"zones": [names.get(each, each) for each in found], "endpoints": endpoints or ["any"]}
