"""`postlane queue`: messages on the mail path."""

from typing import Annotated

import typer

from services.command.admin.client import Client, InstanceOption
from services.command.admin.output import Form, Output, Yes, confirm, fields, rows, say

app = typer.Typer(help="The queue: messages that are not finished.", no_args_is_help=True)

QueueIds = Annotated[list[str], typer.Argument(metavar="QUEUE_ID…", help="one or more queue IDs")]
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
def hold(queue_ids: QueueIds, reason: Because = "", output: Output = Form.table) -> None:
    """Keep messages from being delivered until they are released."""
    _act(queue_ids, "hold", reason, output)


@app.command()
def release(queue_ids: QueueIds, reason: Because = "", output: Output = Form.table) -> None:
    """Let held messages go on."""
    _act(queue_ids, "release", reason, output)


@app.command()
def retry(queue_ids: QueueIds, reason: Because = "", output: Output = Form.table) -> None:
    """Try deferred messages now."""
    _act(queue_ids, "retry", reason, output)


@app.command()
def drop(queue_ids: QueueIds, reason: Because = "", yes: Yes = False, output: Output = Form.table) -> None:
    """Give messages up; they are never delivered."""
    confirm(f"Give up {len(queue_ids)} message(s) for good?", yes)
    _act(queue_ids, "drop", reason, output)


def _act(queue_ids: list[str], action: str, reason: str, output: Form) -> None:
    with Client() as client:
        for queue_id in queue_ids:
            acted = client.call("POST", f"/v1/postlane/queue/{queue_id}", json={"action": action, "reason": reason})
            if output is Form.json:
                fields({"queue_id": queue_id} | acted, output)
            else:
                say(acted["sentence"])
