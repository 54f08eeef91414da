"""`postlane domain takeover`: proving that a domain is one's own although another instance has it."""

from typing import Annotated, Any

import typer

from services.command.admin.client import Client, InstanceOption
from services.command.admin.exits import UNKNOWN, failure
from services.command.admin.output import Form, Output, fields, moment, rows, say


def takeover(
    domain: Annotated[str, typer.Argument(help="the sender domain; empty: list what is open")] = "",
    complete: Annotated[bool, typer.Option("--complete", help="the record is published: have it looked up")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="give it up")] = False,
    delegate: Annotated[
        bool, typer.Option("--delegate", help="with --complete: CNAMEs into the operator's zone instead of the key")
    ] = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Take over a domain that another instance has, by a record that only its owner can publish.

    The other configuration is then suspended. Status 6 while the record is not found.
    """
    with Client() as client:
        path = f"/v1/postlane/instances/{client.instance(instance)}/takeovers"
        if not domain:
            listed = client.get(path)["takeovers"]
            rows(listed, ["domain", "name", "value", "until"], output, "no takeover is open")
            return
        if not complete and not drop:
            _show(client.call("POST", path, json={"domain": domain}), output)
            return
        wanted = domain.lower().rstrip(".")
        found = next((each for each in client.get(path)["takeovers"] if wanted in (each["domain"], each["id"])), None)
        if found is None:
            raise failure(UNKNOWN, f"no takeover of {domain} is open: begin with  postlane domain takeover {domain}")
        if drop:
            client.call("DELETE", f"{path}/{found['id']}")
            say(f"{found['domain']}: the takeover is given up", Form.json)
            return
        made = client.call("POST", f"{path}/{found['id']}/complete", json={"delegate": delegate})
        if output is Form.json:
            fields(made, output)
            return
        say(
            f"{made['domain']} is yours now, as configuration {made['id']}; the one that had it is suspended.\n"
            f"Publish its records:  postlane domain records {made['domain']}"
        )


def _show(challenge: dict[str, Any], output: Form) -> None:
    if output is Form.json:
        fields(challenge, output)
        return
    say(
        f"publish this record in the DNS of {challenge['domain']}, until {moment(challenge['until'])}:\n\n"
        f"  {challenge['name']}  TXT  {challenge['value']}\n\n"
        f"then:  postlane domain takeover {challenge['domain']} --complete"
    )
