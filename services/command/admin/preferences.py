"""`postlane domain set`: how mail of a domain is treated."""

from typing import Annotated, Literal

import typer

from services.command.admin.client import Client, InstanceOption, path_of
from services.command.admin.exits import INVALID, failure
from services.command.admin.output import Form, Output, fields, say

Repeats = Literal["off", "header", "content"]
Policy = Literal["off", "warn", "refuse"]
SHOWN = (
    "when_suspended", "hold_cap", "lifetime_seconds", "reply_to", "attachments_allowed", "repeats", "html_policy",
    "unsubscribe_policy", "spam_policy", "at_most_once", "egress_pool",
)  # fmt: skip


def set_(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")],
    reply_to: Annotated[
        str | None, typer.Option(help="where reports on undeliverable mail go; empty: to the sender")
    ] = None,
    repeats: Annotated[
        Repeats | None,
        typer.Option(help="repeated submissions that get the first queue ID: none, with Idempotency-Key, or all alike"),
    ] = None,
    html_policy: Annotated[Policy | None, typer.Option("--html", help="HTML that is not well-formed")] = None,
    unsubscribe_policy: Annotated[
        Policy | None, typer.Option("--unsubscribe", help="marketing mail without a way to unsubscribe")
    ] = None,
    spam_policy: Annotated[
        Policy | None, typer.Option("--spam", help="what the spam filter takes for spam. Operators only")
    ] = None,
    attachments_allowed: Annotated[
        bool | None, typer.Option("--attachments/--no-attachments", help="allow attachments. Operators only")
    ] = None,
    when_suspended: Annotated[
        Literal["hold", "refuse"] | None, typer.Option(help="new mail while DNS suspends sending")
    ] = None,
    hold_cap: Annotated[int | None, typer.Option(help="most messages held while suspended", min=0)] = None,
    lifetime_seconds: Annotated[int | None, typer.Option(help="how long delivery is tried", min=60)] = None,
    at_most_once: Annotated[
        bool | None,
        typer.Option("--at-most-once/--at-least-once", help="a message whose reply was lost: given up, or sent again"),
    ] = None,
    egress_pool: Annotated[
        str | None, typer.Option(help="pool of outgoing addresses; empty: all. Operators only")
    ] = None,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Change how mail of a domain is treated; without options, show it."""
    given = {
        "reply_to": reply_to,
        "repeats": repeats,
        "html_policy": html_policy,
        "unsubscribe_policy": unsubscribe_policy,
        "spam_policy": spam_policy,
        "attachments_allowed": attachments_allowed,
        "when_suspended": when_suspended,
        "hold_cap": hold_cap,
        "lifetime_seconds": lifetime_seconds,
        "at_most_once": at_most_once,
        "egress_pool": egress_pool,
    }
    wish = {name: value for name, value in given.items() if value is not None}
    if not domain:
        raise failure(INVALID, "name a domain")
    with Client() as client:
        where = client.instance(instance)
        path = path_of(where, client.configuration(where, domain)["id"])
        detail = client.call("PATCH", path, json=wish) if wish else client.get(path)
        fields(detail, output, () if output is Form.json else [name for name in SHOWN if name in detail])
        if wish:
            say("ingress takes it up within a second", Form.json)
