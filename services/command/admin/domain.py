"""`postlane domain`: configurations, from the records to publish to the operator's decision."""

import time
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from services.command.admin import dkim, preferences, takeover
from services.command.admin.client import Client, InstanceOption, ibm_path_of, path_of
from services.command.admin.exits import DONE, INVALID, NEGATIVE, failure
from services.command.admin.output import Form, Output, Yes, confirm, fields, rows, say
from services.command.admin.records import Provider, RecordsForm, print_advice, print_changes

app = typer.Typer(help="Sender domains: records, verification, authorization.", no_args_is_help=True)

app.add_typer(dkim.app, name="dkim")
app.command("zone")(dkim.zone)
app.command("set")(preferences.set_)
app.command("takeover")(takeover.takeover)

Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")]
Because = Annotated[str, typer.Option("--reason", help="why; the customer reads it")]
VERIFY_PAUSE_SECONDS = 3.0
LONGEST_PAUSE_SECONDS = 30.0
PROPAGATION = "A change in DNS may take up to 72 hours to be seen everywhere; the names and values must be exact."
EXAMPLE = """\
# Answers to the authorization questionnaire. Hand it in with
#   postlane domain authorize DOMAIN --from-file answers.toml
nature = "transactional"            # or "marketing"
website = "https://www.example.com/"
list_source = ""              # how do you obtain your list of recipients?
bounces_and_complaints = ""   # how do you manage bounced mail and complaints?
unsubscribe = ""              # how can recipients unsubscribe?
quota_rationale = ""          # how did you determine the sending rate you ask for?
list_cleaning = ""            # how and how often do you clean the list?
contacts = ["postmaster@example.com"]   # one to four, for account-related communications
reply_to = "bounces@example.com"        # receives information on rejected or bounced mail
only_to_requesters = false    # true: mail goes only to people who asked for it
unsubscribe_link = false      # true: the mail has an unsubscribe link
html_validation = ""          # if you send HTML: how do you validate it?
evidence = []                 # links, if you have any
"""


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
            lacking = "; ".join(found["missing"])
            if lacking != said:
                say(f"{found['domain']}: {lacking}", Form.json)
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
            time.sleep(min(pause, left))
            pause = min(pause * 1.2, LONGEST_PAUSE_SECONDS)


@app.command()
def authorize(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")] = "",
    from_file: Annotated[Path | None, typer.Option("--from-file", help="TOML file with the answers")] = None,
    example: Annotated[bool, typer.Option("--example", help="print a file to fill in")] = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Hand in the questionnaire; an operator decides on it."""
    if example:
        typer.echo(EXAMPLE, nl=False)
        return
    if from_file is None or not domain:
        raise failure(INVALID, "name a domain and --from-file answers.toml; --example prints such a file")
    try:
        answers = tomllib.loads(from_file.read_text())
    except OSError as fault:
        raise failure(INVALID, f"cannot read {from_file}: {fault.strerror}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise failure(INVALID, f"{from_file} is not TOML: {fault}") from fault
    with Client() as client:
        where = client.instance(instance)
        found = client.configuration(where, domain)
        handed_in = client.call("PUT", path_of(where, found["id"]) + "/authorization", json=answers)
        if output is Form.json:
            fields(handed_in, output)
        else:
            say(f"handed in for {found['domain']}; next an operator decides: postlane domain approve {found['domain']}")


@app.command()
def approve(
    domain: Name,
    per_second: Annotated[int, typer.Option(help="messages per second; 0 is unlimited", min=0)] = 0,
    per_hour: Annotated[int, typer.Option("--per-hour", "--rate", help="messages per hour", min=0)] = 0,
    per_day: Annotated[int, typer.Option(help="messages per day", min=0)] = 0,
    recipients: Annotated[int, typer.Option(help="recipients per message; 0: as everybody", min=0)] = 0,
    message_bytes: Annotated[int, typer.Option(help="octets of a message; 0: as everybody", min=0)] = 0,
    lane: Annotated[str, typer.Option(help="transactional or marketing; default: as the customer says")] = "",
    reason: Because = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Approve sending. Operators only."""
    wish: dict[str, Any] = {
        "messages_per_second": per_second,
        "messages_per_hour": per_hour,
        "messages_per_day": per_day,
        "recipients_per_message": recipients,
        "message_bytes": message_bytes,
        "reason": reason,
    } | ({"lane": lane} if lane else {})
    _decide(domain, "authorization/approve", wish, instance, output, "sending is approved for")


@app.command()
def reject(
    domain: Name,
    reason: Annotated[str, typer.Option("--reason", help="why; the customer reads it")],
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Reject, or withdraw an approval. Operators only."""
    _decide(domain, "authorization/reject", {"reason": reason}, instance, output, "sending is not approved for")


@app.command()
def suspend(
    domain: Name,
    reason: Annotated[str, typer.Option("--reason", help="why; the customer reads it")],
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Suspend sending at once, whatever DNS says. Operators only."""
    _decide(domain, "suspend", {"reason": reason}, instance, output, "sending is suspended for")


@app.command()
def resume(domain: Name, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """End an operator's suspension. Operators only."""
    _decide(domain, "resume", None, instance, output, "the suspension has ended for")


def _decide(
    domain: str, verb: str, wish: dict[str, Any] | None, instance: str, output: Form, sentence: str
) -> None:  # fmt: skip
    with Client() as client:
        where = client.instance(instance)
        found = client.configuration(where, domain)
        options: dict[str, Any] = {} if wish is None else {"json": wish}
        decided = client.call("POST", f"{path_of(where, found['id'])}/{verb}", **options)
        if output is Form.json:
            fields(decided, output)
        else:
            say(f"{sentence} {found['domain']}")


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
        fields(detail["overview"], output, [*names, "created_at"])
        fields(detail, output, ["description", "when_suspended", "reply_to", "reply_to_confirmed_at"])
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
        ]
        columns = ["domain", "state", "authorization", "sending", "users", "id"]
        rows(found, columns, output, "no domain yet: postlane domain add DOMAIN")


@app.command("rm")
def remove(domain: Name, yes: Yes = False, instance: InstanceOption = "") -> None:
    """Remove a domain with its users and its key."""
    with Client() as client:
        where = client.instance(instance)
        found = client.configuration(where, domain)
        confirm(f"Remove {found['domain']} with {found['users']} user(s)? Its mail ends, its DKIM key is lost.", yes)
        client.call("DELETE", ibm_path_of(where, found["id"]))
        say(f"removed {found['domain']}", Form.json)
