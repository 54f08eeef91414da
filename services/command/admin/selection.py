"""Which messages a queue operation is about: named by queue ID, or selected among those that are not finished."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import typer

from services.command.admin.client import Client
from services.command.admin.exits import INVALID, failure

PAGE = 500
OPEN = ("queued", "deferred", "held")

QueueIds = Annotated[list[str] | None, typer.Argument(metavar="[QUEUE_ID…]", help="queue IDs; or select by options")]
Domain = Annotated[str, typer.Option(help="select: of this sender domain, or ID of its configuration")]
Sender = Annotated[str, typer.Option(help="select: from this address, or @domain")]
Recipient = Annotated[str, typer.Option(help="select: to this address, or @domain")]
Status = Annotated[str, typer.Option(help=f"select: {', '.join(OPEN)}; default: all of them")]
Lane = Annotated[str, typer.Option(help="select: transactional or marketing")]
OlderThan = Annotated[str, typer.Option(help="select: accepted longer ago than this: 90s, 30m, 2h or 3d")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="only list the messages, do nothing")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a verb that acts on messages."""

    queue_ids: list[str] | None
    domain: str = ""
    sender: str = ""
    recipient: str = ""
    status: str = ""
    lane: str = ""
    older_than: str = ""
    among: tuple[str, ...] = OPEN
    """Statuses the verb can do something about."""

    @property
    def selects(self) -> bool:
        """Whether messages are selected rather than named."""
        return bool(self.domain or self.sender or self.recipient or self.status or self.lane or self.older_than)


def age(text: str) -> timedelta:
    """Return the length of a time such as `90s`, `30m`, `2h` or `3d`; otherwise the verb ends with status 7."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdecimal():
        raise failure(INVALID, f"{text!r} is not a length of time; write 90s, 30m, 2h or 3d")
    return timedelta(seconds=int(number) * _UNITS[unit])


def messages(client: Client, instance: str, selection: Selection) -> Iterator[dict[str, Any]]:
    """Yield the messages meant, oldest last; those named by queue ID without looking."""
    if bool(selection.queue_ids) == selection.selects:
        raise failure(INVALID, "name queue IDs, or select messages by options such as --domain and --recipient")
    if selection.queue_ids:
        yield from ({"queue_id": queue_id} for queue_id in selection.queue_ids)
        return
    if selection.status and selection.status not in OPEN:
        raise failure(INVALID, f"only unfinished messages can be acted on: --status {', '.join(OPEN)}")
    query: dict[str, Any] = {"sender": selection.sender, "recipient": selection.recipient, "lane": selection.lane}
    if instance or selection.domain:
        query["instance"] = client.instance(instance)
    if selection.domain:
        query["configuration"] = client.configuration(query["instance"], selection.domain)["id"]
    if selection.older_than:
        query["until"] = f"{datetime.now(UTC) - age(selection.older_than):%Y-%m-%dT%H:%M:%SZ}"
    for status in [selection.status] if selection.status else selection.among:
        yield from _found(client, query | {"status": status})


def _found(client: Client, query: dict[str, Any]) -> list[dict[str, Any]]:
    """Read all pages before anything is done to the first message: acting on it would move the pages."""
    found: list[dict[str, Any]] = []
    total = 1
    while len(found) < total:
        page = client.get("/v1/postlane/messages", **query, limit=PAGE, offset=len(found) or "")
        total = page["total"]
        if not page["messages"]:
            break
        found += page["messages"]
    return found
