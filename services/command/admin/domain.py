"""`postlane domain`: configurations, from the records to publish to the operator's decision."""

import time
from typing import Annotated

import typer

from services.command.admin import decisions, dkim, preferences, takeover
from services.command.admin.client import Client, InstanceOption, ibm_path_of, path_of
from services.command.admin.exits import DONE, NEGATIVE, failure
from services.command.admin.output import Form, Output, Yes, confirm, fields, rows, say
from services.command.admin.quota import sentence
from services.command.admin.records import Provider, RecordsForm, print_advice, print_changes

app = typer.Typer(help="Sender domains: records, verification, authorization.", no_args_is_help=True)

app.add_typer(dkim.app, name="dkim")
app.command("zone")(dkim.zone)
app.command("set")(preferences.set_)
app.command("takeover")(takeover.takeover)
for verb in (decisions.authorize, decisions.approve, decisions.reject, decisions.suspend, decisions.resume):
    app.command()(verb)

Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")]
VERIFY_PAUSE_SECONDS = 3.0
LONGEST_PAUSE_SECONDS = 30.0
PROPAGATION = "A change in DNS may take up to 72 hours to be seen everywhere; the names and values must be exact."


@app.command()
def add(
    domain: Annotated[str, typer.Argument(help="the sender domain")],
    name: Annotated[str, typer.Option(help="name of the configuration; default: the domain")] = "",
    description: Annotated[str, typer.Option(help="description")] = "",
    delegate: Annotated[
        bool, typer.Option("--delegate", help="publish CNAMEs into the operator's zone instead of the DKIM key")
    ] = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Make a configuration for a domain, with its DKIM key, and show the records to publish."""
    with Client() as client:
        where = client.instance(instance)
        wish = {"name": name or domain, "domain": domain, "description": description, "delegate": delegate}
        made = client.call("POST", ibm_path_of(where), json=wish)
        if output is Form.json:
            fields(made, output)
            return
        say(f"made configuration {made['id']} for {made['domain']}; publish these records in its DNS:\n")
        print_advice(client.get(path_of(where, made["id"]) + "/records", look="last"), RecordsForm.table)
        say(
            f"\nthen:  postlane domain wait {made['domain']}\n"
            f"       postlane domain authorize {made['domain']} --from-file answers.toml"
            "   (--example prints a template)"
        )


@app.command()
def records(
    domain: Name,
    output: Annotated[
        RecordsForm, typer.Option("--format", "--output", "-o", help="table, zone (for a zone file), json or terraform")
    ] = RecordsForm.table,
    provider: Annotated[Provider, typer.Option(help="terraform: whose resources, aws or cloudflare")] = Provider.aws,
    instance: InstanceOption = "",
) -> None:
    """Show the DKIM, SPF, DMARC and return-path records, and which are missing, wrong or fine right now."""
    with Client() as client:
        where = client.instance(instance)
        found = client.configuration(where, domain)
        print_advice(client.get(path_of(where, found["id"]) + "/records"), output, provider)


@app.command()
def verify(domain: Name, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Have the records checked now. Status 1 if SPF or DKIM is not in place."""
    with Client() as client:
        where = client.instance(instance)
        found = client.configuration(where, domain)
        query = {"type": "dkim,spf,en_authorization"}
        outcome = client.call("PATCH", ibm_path_of(where, found["id"]) + "/verify", params=query)["status"]
        rows(outcome, ["type", "verification"], output)
        failing = [each for each in outcome if each["type"] != "en_authorization"]
        if any(each["verification"] != "SUCCESSFUL" for each in failing):
            say(f"see what is missing: postlane domain records {found['domain']}", Form.json)
            raise typer.Exit(NEGATIVE)


@app.command()
def wait(
    domain: Name,
    timeout: Annotated[float, typer.Option(help="seconds to wait at most")] = 3600,
    sending: Annotated[bool, typer.Option("--sending", help="until it may send, approval included")] = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Wait until the records are verified, for scripts: looks again and again, and says what is missing.

    Status 1 if they are not in time. A change in DNS may take up to 72 hours to be seen everywhere.
    """
    until = time.monotonic() + timeout
    said, pause = "", VERIFY_PAUSE_SECONDS
    with Client() as client:
        where = client.instance(instance)
        identity = client.configuration(where, domain)["id"]
        while True:
            client.answer("PATCH", ibm_path_of(where, identity) + "/verify", params={"type": "dkim,spf"})
            found = client.configuration(where, identity)
            if found["sending"] or (not sending and found["state"] in ("verified", "degraded")):
                if output is Form.json:
                    fields(found, output)
                else:
                    say(f"{found['domain']} is {'ready to send' if found['sending'] else found['state']}")
                raise typer.Exit(DONE)
            lacking = "".join(f"\n  - {each}" for each in found["missing"])
            if lacking != said:
                say(f"{found['domain']} waits for:{lacking}", Form.json)
                if not said:
                    say(PROPAGATION, Form.json)
                said, pause = lacking, VERIFY_PAUSE_SECONDS
            left = until - time.monotonic()
            if left <= 0:
                raise failure(
                    NEGATIVE,
                    f"{found['domain']} is still {found['state']} after {timeout:.0f} s; it goes on being looked up, "
                    f"and its contacts are told when it has verified. See  postlane domain records {found['domain']}",
                )
            time.sleep(min(pause, left))  # a verb waits for nothing else; Ctrl-C ends it
            pause = min(pause * 1.2, LONGEST_PAUSE_SECONDS)


@app.command()
def show(
    domain: Name,
    authorities: Annotated[
        bool, typer.Option("--authorities", help="also ask each name server of the zone, which takes longer")
    ] = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Show a configuration: whether it may send, what is missing, and what changed in its DNS."""
    with Client() as client:
        where = client.instance(instance)
        path = path_of(where, client.configuration(where, domain)["id"])
        detail = client.get(path)
        advice = client.get(path + "/records", authorities="true" if authorities else "")
        if output is Form.json:
            fields(detail | {"dns": advice}, output)
            return
        names = ["domain", "id", "name", "state", "authorization", "suspended_by_operator", "sending", "users"]
        names += ["created_at", "description", "when_suspended", "reply_to", "reply_to_confirmed_at"]
        used = sentence(client.get(path + "/quota"))
        fields(detail | detail["overview"] | {"quota": used}, output, [*names, "quota"])
        for lacking in detail["overview"]["missing"]:
            typer.echo(f"missing: {lacking}")
        typer.echo("")
        print_advice(advice, RecordsForm.table)
        print_changes(advice)
        if authorities and not advice.get("authorities"):
            say("\nno name server of the zone could be asked", Form.json)


@app.command()
def confirm_reply_to(domain: Name, instance: InstanceOption = "") -> None:
    """Mail the link again by which the address for bounce reports is confirmed."""
    with Client() as client:
        where = client.instance(instance)
        found = client.configuration(where, domain)
        sent = client.call("POST", path_of(where, found["id"]) + "/reply-to/confirmation")
        say(f"{found['domain']}: a link was mailed to {sent['address']}", Form.json)


@app.command("ls")
def list_(
    everywhere: Annotated[bool, typer.Option("--all", help="of every instance this key may see")] = False,
    waiting: Annotated[
        bool, typer.Option("--waiting", help="only those whose questionnaire waits for the operator's decision")
    ] = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """List domains and whether each may send."""
    with Client() as client:
        if everywhere:
            instances = [each["id"] for each in client.get("/v1/postlane/instances")["instances"]]
        else:
            instances = [client.instance(instance)]
        found = [
            each
            for where in instances
            for each in client.get(f"/v1/postlane/instances/{where}/configurations")["configurations"]
            if not waiting or each["authorization"] == "submitted"
        ]
        columns = ["domain", "state", "authorization", "sending", "users", "id"]
        none = "nobody waits for a decision" if waiting else "no domain yet: postlane domain add DOMAIN"
        rows(found, columns, output, none)


@app.command("rm")
def remove(domain: Name, yes: Yes = False, instance: InstanceOption = "") -> None:
    """Remove a domain with its users and its key."""
    with Client() as client:
        where = client.instance(instance)
        found = client.configuration(where, domain)
        confirm(f"Remove {found['domain']} with {found['users']} user(s)? Its mail ends, its DKIM key is lost.", yes)
        client.call("DELETE", ibm_path_of(where, found["id"]))
        say(f"removed {found['domain']}", Form.json)
