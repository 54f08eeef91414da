"""`postlane queue`: messages on the mail path."""

from typing import Annotated

import typer

from services.command.admin.client import Client, InstanceOption
from services.command.admin.exits import CONFLICT, UNKNOWN
from services.command.admin.output import Form, Output, Yes, confirm, fields, rows, say, table
from services.command.admin.selection import (
    OPEN,
    Domain,
    DryRun,
    Lane,
    OlderThan,
    QueueIds,
    Recipient,
    Selection,
    Sender,
    Status,
    messages,
)

app = typer.Typer(help="The queue: messages that are not finished.", no_args_is_help=True)

Because = Annotated[str, typer.Option("--reason", help="why, for the message's timeline")]


@app.command("ls")
def list_(
    domain: Annotated[str, typer.Option(help="sender domain, or ID of its configuration")] = "",
    where: Annotated[str, typer.Option(help="ready, later, held or due")] = "",
    limit: Annotated[int, typer.Option(help="messages at most", min=1, max=1000)] = 100,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """List messages on the mail path; without --domain those of every tenant (operators only)."""
    with Client() as client:
        configuration = client.configuration(client.instance(instance), domain)["id"] if domain else ""
        found = client.get("/v1/postlane/queue", configuration=configuration, where=where, limit=limit)
        rows(found["entries"], ["queue_id", "domain", "where"], output, "the queue is empty")
        if found["total"] > len(found["entries"]):
            say(f"{found['total']} in all", Form.json)


@app.command()
def shape(
    domain: Annotated[str, typer.Option(help="sender domain, or ID of its configuration")] = "",
    limit: Annotated[int, typer.Option(help="destinations at most", min=1, max=500)] = 30,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Show where unfinished mail waits: recipients by destination and by minutes since they were accepted."""
    with Client() as client:
        configuration = client.configuration(client.instance(instance), domain)["id"] if domain else ""
        found = client.get("/v1/postlane/queue/shape", configuration=configuration, limit=limit)
        if output is Form.json:
            fields(found, output)
            return
        if not found["rows"]:
            say("nothing waits")
            return
        minutes = found["minutes"]
        heads = ["destination", "total", *(f"{each}" for each in minutes), f"{minutes[-1]}+"]
        cells = [[row["destination"], str(row["total"]), *map(str, row["by_age"])] for row in found["rows"]]
        table(heads, cells)
        say(f"{found['total']} recipients at {found['destinations']} destinations, by minutes they have waited")


@app.command()
def hold(
    queue_ids: QueueIds = None,
    domain: Domain = "",
    sender: Sender = "",
    recipient: Recipient = "",
    status: Status = "",
    lane: Lane = "",
    older_than: OlderThan = "",
    dry_run: DryRun = False,
    reason: Because = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Keep messages from being delivered until they are released."""
    wish = _selection(queue_ids, domain, sender, recipient, status, lane, older_than)
    _act(wish, "hold", instance, reason, dry_run, output)


@app.command()
def release(
    queue_ids: QueueIds = None,
    domain: Domain = "",
    sender: Sender = "",
    recipient: Recipient = "",
    lane: Lane = "",
    older_than: OlderThan = "",
    dry_run: DryRun = False,
    reason: Because = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Let held messages go on."""
    wish = _selection(queue_ids, domain, sender, recipient, "", lane, older_than, among=("held",))
    _act(wish, "release", instance, reason, dry_run, output)


@app.command()
def retry(
    queue_ids: QueueIds = None,
    domain: Domain = "",
    sender: Sender = "",
    recipient: Recipient = "",
    lane: Lane = "",
    older_than: OlderThan = "",
    dry_run: DryRun = False,
    reason: Because = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Try deferred messages now."""
    wish = _selection(queue_ids, domain, sender, recipient, "", lane, older_than, among=("deferred",))
    _act(wish, "retry", instance, reason, dry_run, output)


@app.command()
def drop(
    queue_ids: QueueIds = None,
    domain: Domain = "",
    sender: Sender = "",
    recipient: Recipient = "",
    status: Status = "",
    lane: Lane = "",
    older_than: OlderThan = "",
    dry_run: DryRun = False,
    reason: Because = "",
    yes: Yes = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Give messages up; they are never delivered."""
    wish = _selection(queue_ids, domain, sender, recipient, status, lane, older_than)
    _act(wish, "drop", instance, reason, dry_run, output, ask=None if yes else "Give up {count} message(s) for good?")


def _selection(
    queue_ids: list[str] | None,
    domain: str,
    sender: str,
    recipient: str,
    status: str,
    lane: str,
    older_than: str,
    among: tuple[str, ...] = OPEN,
) -> Selection:
    return Selection(
        queue_ids=queue_ids, domain=domain, sender=sender, recipient=recipient, status=status, lane=lane,
        older_than=older_than, among=among,
    )  # fmt: skip


def _act(
    wish: Selection, action: str, instance: str, reason: str, dry_run: bool, output: Form, ask: str | None = None
) -> None:
    """Act on each message; one that moved meanwhile is told and does not keep the others. Status 6 then."""
    with Client() as client:
        meant = list(messages(client, instance, wish))
        if dry_run:
            rows(meant, ["queue_id", "status", "sender", "recipients", "accepted_at"], output, "no message is meant")
            say(f"{len(meant)} messages, nothing was done", Form.json)
            return
        if not meant:
            say("no message is meant", Form.json)
            return
        if ask is not None:
            confirm(ask.format(count=len(meant)), False)
        refused = sum(not _one(client, str(message["queue_id"]), action, reason, output) for message in meant)
        if wish.selects:
            say(f"{len(meant) - refused} of {len(meant)} messages: {action}", Form.json)
        if refused:
            raise typer.Exit(CONFLICT if wish.selects else UNKNOWN)


def _one(client: Client, queue_id: str, action: str, reason: str, output: Form) -> bool:
    path, body = f"/v1/postlane/queue/{queue_id}", {"action": action, "reason": reason}
    answer = client.answer("POST", path, json=body)
    if answer.is_error and answer.status_code not in (404, 409):
        client.refused(answer)
    if answer.is_error:
        say(f"{queue_id}: {answer.json()['errors'][0]['message']}", Form.json)
        return False
    acted = answer.json()
    if output is Form.json:
        fields({"queue_id": queue_id} | acted, output)
    else:
        say(acted["sentence"])
    return True
