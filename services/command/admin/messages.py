"""`postlane track`, `why`, `search`, `refused`: what became of messages."""

import json
import sys
import time
from typing import Annotated, Any

import typer

from services.command.admin.client import Client, InstanceOption
from services.command.admin.exits import DONE, NEGATIVE, OF_STATUS, OPEN, UNKNOWN, failure
from services.command.admin.output import Form, Output, fields, moment, rows, say, table
from shared.mail.ids import parse_queue_id, parse_reference

QueueId = Annotated[str, typer.Argument(metavar="QUEUE_ID", help="as in the server's 250 reply")]
HEARD_OF_SECONDS = 5.0
"""How long a message may be unknown: the tracker learns of it a moment after the client's 250."""
PAUSE_SECONDS = 0.2
FINISHED_WELL = ("delivered", "captured")
FINISHED_BADLY = ("bounced", "expired", "suppressed", "dropped")


def mount(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(track)
    app.command()(why)
    app.command()(search)
    app.command()(refused)


def exit_status(status: str) -> int:
    """Return the exit status that says how a message fares."""
    return DONE if status in FINISHED_WELL else NEGATIVE if status in FINISHED_BADLY else OPEN


def track(
    queue_id: QueueId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="show what happens until it is finished")] = False,
    timeout: Annotated[float, typer.Option(help="seconds to follow at most; 0: until it is finished")] = 0,
    output: Output = Form.table,
) -> None:
    """Show what became of a message. Status 0: delivered or captured, 1: bounced, expired or dropped, 2: open."""
    with Client() as client:
        found = _described(client, queue_id)
        if not follow:
            _show(found, output)
            raise typer.Exit(exit_status(found["status"]))
        raise typer.Exit(_follow(client, found, timeout, output))


def _described(client: Client, queue_id: str) -> dict[str, Any]:
    if parse_queue_id(queue_id) is None:
        raise failure(
            UNKNOWN, f"{queue_id} is not a queue ID: it has 30 letters and digits, as in the server's 250 reply"
        )
    until, told = time.monotonic() + HEARD_OF_SECONDS, False
    while True:
        answer = client.answer("GET", f"/v1/postlane/messages/{queue_id}")
        if answer.status_code != 404 or time.monotonic() > until or "message_not_found" not in answer.text:
            break
        if not told and sys.stderr.isatty():  # a person waits; a program reads one line
            say("not known yet, waiting a few seconds ...", Form.json)
            told = True
        time.sleep(PAUSE_SECONDS)  # a verb waits for nothing else; Ctrl-C ends it
    if answer.status_code == 404:
        raise failure(UNKNOWN, f"no message with the queue ID {queue_id} is known to this key; is it complete?")
    if answer.is_error:
        raise failure(OF_STATUS.get(answer.status_code, 3), answer.json()["errors"][0]["message"])
    found: dict[str, Any] = answer.json()
    return found


def _show(found: dict[str, Any], output: Form) -> None:
    if output is Form.json:
        fields(found, output)
        return
    names = ["queue_id", "status", "why", "sender", "subject", "message_id", "size", "accepted_at", "next_attempt_at"]
    fields(found, output, names)
    typer.echo("")
    table(
        ["recipient", "status", "attempts", "last reply"],
        [[r["address"], r["status"], str(r.get("attempts", 0)), _reply(r.get("last"))] for r in found["recipients"]],
    )
    typer.echo("")
    for entry in found["timeline"]:
        typer.echo(f"{moment(entry['at'])}  {entry['sentence']}")


def _reply(last: dict[str, Any] | None) -> str:
    if not last:
        return "-"
    words = [str(last["code"]) if last.get("code") else "", last.get("enhanced", ""), last.get("text", "")]
    return " ".join(word for word in words if word)


def _follow(client: Client, found: dict[str, Any], timeout: float, output: Form) -> int:
    until = time.monotonic() + timeout if timeout else None
    status = str(found["status"])
    for line in client.lines(f"/v1/postlane/messages/{found['queue_id']}/events"):
        if line.startswith("data:") and (text := line.removeprefix("data:").strip()):
            event = json.loads(text)
            status = event.get("status", status)
            if output is Form.json:
                typer.echo(json.dumps(event, ensure_ascii=False))
            else:
                typer.echo(_told(event))
        if until is not None and time.monotonic() > until:
            say(f"still {status} after {timeout:.0f} s", Form.json)
            break
    return exit_status(status)


def _told(event: dict[str, Any]) -> str:
    kind = str(event["type"]).split(".")[1]
    if kind == "accepted":
        text = f"accepted from {event['sender'] or '<>'} for {', '.join(event['recipients'])}"
    else:
        states = ", ".join(f"{r['address']} {r['status']}" for r in event["recipients"])
        text = f"{event['status']}: {event.get('explanation') or states}"
    return f"{moment(event['at'])}  {text}"


def why(queue_id: QueueId, output: Output = Form.table) -> None:
    """Say in one sentence why a message is where it is."""
    with Client() as client:
        found = _described(client, queue_id)
        if output is Form.json:
            fields({name: found[name] for name in ("queue_id", "status", "why")}, output)
        else:
            say(found["why"])


def search(
    recipient: Annotated[str, typer.Option(help="address of a recipient")] = "",
    sender: Annotated[str, typer.Option(help="address of the sender")] = "",
    message_id: Annotated[str, typer.Option(help="Message-ID")] = "",
    status: Annotated[
        str, typer.Option(help="queued, held, deferred, delivered, bounced, expired, suppressed, dropped or captured")
    ] = "",
    domain: Annotated[str, typer.Option(help="sender domain, or ID of its configuration")] = "",
    since: Annotated[str, typer.Option(help="from this time on, for example 2026-11-01T00:00:00Z")] = "",
    until: Annotated[str, typer.Option(help="up to this time")] = "",
    limit: Annotated[int, typer.Option(help="messages at most", min=1, max=500)] = 50,
    offset: Annotated[int, typer.Option(help="messages to skip", min=0)] = 0,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Search messages, newest first."""
    with Client() as client:
        where = client.instance(instance) if instance or domain else ""
        configuration = client.configuration(where, domain)["id"] if domain else ""
        found = client.get(
            "/v1/postlane/messages",
            recipient=recipient,
            sender=sender,
            message_id=message_id,
            status=status,
            configuration=configuration,
            instance=where,
            since=since,
            until=until,
            limit=limit,
            offset=offset,
        )
        columns = ["queue_id", "status", "accepted_at", "sender", "recipients", "subject"]
        rows(found["messages"], columns, output, "no message matches")
        if found["total"] > offset + len(found["messages"]):
            say(f"{found['total']} match; the next: --offset {offset + len(found['messages'])}", Form.json)


def refused(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="R-… as in the server's reply")],
    output: Output = Form.table,
) -> None:
    """Explain why a submission was refused, and what to do."""
    if parse_reference(reference) is None:
        raise failure(
            UNKNOWN, f"{reference} is not the reference of a refusal: it looks like R-01AB23CD45, in the server's reply"
        )
    with Client() as client:
        found = client.get(f"/v1/postlane/refusals/{reference}")
        if output is Form.json:
            fields(found, output)
            return
        say(found["sentence"])
        names = ["at", "code", "enhanced", "reply", "reason", "phase", "client_address", "username", "sender"]
        fields(found["event"], output, [*names, "recipients"])
