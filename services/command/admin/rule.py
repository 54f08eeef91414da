"""`postlane rule`: which zones may reach the SMTP interface."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.command.admin.client import Client, InstanceOption, path_of
from services.command.admin.exits import DONE, INVALID, NEGATIVE, UNKNOWN, failure
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
        wish = body(account, [find(known, each)["id"] for each in zone], endpoint or (), mode, description)
        others = [r for r in client.get("/v1/rules", account_id=account)["rules"] if r["enforcement_mode"] == "enabled"]
        made = client.call("POST", "/v1/rules", json=wish)
        if others and mode == "enabled":
            say(
                f"there are {len(others) + 1} enabled rules now, and every one of them must admit an address: "
                "`postlane rule explain --address …` says whether yours still gets in",
                Form.json,
            )
        rows([made if output is Form.json else shown(made, known)], COLUMNS, output)


def body(account: str, zone_ids: Sequence[str], endpoints: Sequence[str], mode: str, text: str) -> dict[str, Any]:
    """Return a rule as the API takes it: one context, for the SMTP interface of one instance."""
    attributes = [{"name": "networkZoneId", "value": ",".join(zone_ids)}]
    if endpoints:
        attributes.append({"name": "endpointType", "value": ",".join(endpoints)})
    resource = {"accountId": account, "serviceName": SERVICE, "serviceInstance": account}
    return {
        "description": text,
        "contexts": [{"attributes": attributes}],
        "resources": [{"attributes": [{"name": name, "value": value} for name, value in resource.items()]}],
        "operations": {"api_types": [{"api_type_id": SMTP}]},
        "enforcement_mode": mode,
    }


COLUMNS = ["id", "zones", "endpoints", "enforcement_mode", "description"]


@app.command("ls")
def list_(instance: InstanceOption = "", output: Output = Form.table) -> None:
    """List the rules of an instance."""
    with Client() as client:
        account = client.instance(instance)
        found = client.get("/v1/rules", account_id=account)["rules"]
        if output is Form.table:
            known = zones(client, account)
            found = [shown(rule, known) for rule in found]
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
                names = {zone["id"]: zone["name"] for zone in zones(client, where)}
                told = [each | {"zones": [names.get(zone, zone) for zone in each["zones"]]} for each in found["rules"]]
                rows(told, ["rule", "enforcement", "admits", "zones"], output)
        listed = any(each["in_force"] for each in found["allow_lists"])
        raise typer.Exit(DONE if found["admitted"] or listed else NEGATIVE)


@app.command("import")
def import_(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")],
    address: Annotated[list[str] | None, typer.Option(help="address or network; may be repeated")] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from-file", help="file with one address or network a line")
    ] = None,
    until: Annotated[str, typer.Option(help="until when, for example 2027-05-01T00:00:00Z; default: six months")] = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Import the list of allowed addresses a domain had elsewhere, in place of the present one. Operators only.

    It admits for this domain alone, besides the rules, until its date; then only rules count.
    """
    subnets = list(address or [])
    if from_file is not None:
        try:
            lines = from_file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as fault:
            raise failure(INVALID, f"cannot read {from_file}: {fault}") from fault
        subnets += [text for line in lines if (text := line.partition("#")[0].strip())]
    elif address is None:
        raise failure(INVALID, "name a file with --from-file, or addresses with --address")
    with Client() as client:
        where = client.instance(instance)
        path = path_of(where, client.configuration(where, domain)["id"])
        wish = {"subnets": subnets} | ({"until": until} if until else {})
        fields(client.call("PUT", f"{path}/allowed_addresses", json=wish), output)
        say("these addresses admit only until then: `postlane rule migrate` turns them into a zone", Form.json)


@app.command()
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Turn imported lists of allowed addresses into zones that the rules let in. May be repeated."""
    with Client() as client:
        path = f"/v1/postlane/instances/{client.instance(instance)}/allowed_addresses/migrate"
        found = client.call("POST", path, params={"dry_run": "true" if dry_run else "false"})
        if output is Form.json:
            fields(found, output)
            return
        zones, rules = found["migration"]["zones"], found["migration"]["rules"]
        if not zones:
            say("there is no imported list, nothing to do")
            return
        verb = "would be" if dry_run else "was"
        for zone in zones:
            what = f"zone {zone['name']!r}" if zone["zone"] else f"a new zone {zone['name']!r}"
            say(f"the list of {zone['domain']} {verb} put into {what}: {', '.join(zone['addresses'])}")
        for rule in rules:
            what = (
                f"rule {rule['rule']} {verb} changed to let in" if rule["rule"] else f"a rule {verb} made that lets in"
            )
            say(f"{what} {', '.join(map(repr, rule['zones']))}")
        say("rules are for the whole instance: these addresses reach each of its domains, with a user's credentials")


@app.command()
def report(instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Show whom rules in report mode would have refused in the last week."""
    with Client() as client:
        where = client.instance(instance)
        found = client.get(f"/v1/postlane/instances/{where}/access/reports")["reports"]
        columns = ["at", "rule", "address", "endpoint", "username"]
        rows(found, columns, output, "no rule in report mode would have refused anybody in the last week")


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


def shown(rule: dict[str, Any], known: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a rule with the names of its zones, and its endpoints."""
    names = {each["id"]: each["name"] for each in known}
    values = [(a["name"], a["value"]) for context in rule["contexts"] for a in context["attributes"]]
    found = [part.strip() for name, value in values if name == "networkZoneId" for part in value.split(",")]
    endpoints = [value for name, value in values if name == "endpointType"]
    return rule | {"zones": [names.get(each, each) for each in found], "endpoints": endpoints or ["any"]}
