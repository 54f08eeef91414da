"""`postlane captured`: staged messages that were kept instead of sent."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from services.command.admin.client import Client, InstanceOption
from services.command.admin.exits import OF_STATUS, UNREACHABLE, failure
from services.command.admin.output import Form, Output, fields, rows, say

app = typer.Typer(help="Staged messages that were kept instead of sent.", no_args_is_help=True)

QueueId = Annotated[str, typer.Argument(metavar="QUEUE_ID", help="as `postlane captured ls` shows it")]
COLUMNS = ("queue_id", "at", "sender", "size", "recipients")


@app.command("ls")
def list_(
    domain: Annotated[str, typer.Option(help="sender domain, or ID of its configuration")] = "",
    limit: Annotated[int, typer.Option(help="messages at most", min=1, max=200)] = 50,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """List kept messages, newest first; they are kept for 72 hours."""
    with Client() as client:
        owner = client.instance(instance)
        configuration = client.configuration(owner, domain)["id"] if domain else ""
        found = client.get(_path(owner), configuration=configuration, limit=limit)
        rows(found["messages"], COLUMNS, output, "nothing was captured; see `postlane user limit --staging`")
        if found["total"] > len(found["messages"]):
            say(f"{found['total']} in all", Form.json)


@app.command()
def show(queue_id: QueueId, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Show who a message was for, and how it begins."""
    with Client() as client:
        found = client.get(f"{_path(client.instance(instance))}/{queue_id}")
    if output is Form.json:
        fields(found, output)
        return
    fields(found["message"], output, COLUMNS)
    # What a terminal would obey is shown, not sent to it: the mail is a stranger's.
    text = found["text"].replace("\r\n", "\n")
    typer.echo("\n" + "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text))
    if found["cut"]:
        say(f"… cut; the whole of it: postlane captured eml {queue_id}", Form.json)


@app.command()
def eml(
    queue_id: QueueId,
    file: Annotated[Path | None, typer.Option("--file", help="where to write it; default: standard output")] = None,
    instance: InstanceOption = "",
) -> None:
    """Write a message as it would have been sent, signatures included."""
    with Client() as client:
        answer = client.answer("GET", f"{_path(client.instance(instance))}/{queue_id}/eml")
    if answer.is_error:
        reason = answer.json()["errors"][0]["message"]
        raise failure(OF_STATUS.get(answer.status_code, UNREACHABLE), str(reason))
    if file is None:
        sys.stdout.buffer.write(answer.content)
    else:
        file.write_bytes(answer.content)
        say(f"{len(answer.content)} octets written to {file}", Form.json)


def _path(instance: str) -> str:
    return f"/v1/postlane/instances/{instance}/captured"
