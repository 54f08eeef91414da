"""`postlane quota`: how much a domain may send, and what of it was sent."""

from typing import Annotated, Any

import typer

from services.command.admin.client import Client, InstanceOption, path_of
from services.command.admin.output import Form, Output, fields, rows


def sentence(found: dict[str, Any]) -> str:
    """Say in one line what is approved and what was sent of it; empty if nothing is limited."""
    granted = found["quota"]
    said = [
        f"{granted[field]} {words}" + (f", {found[used]} sent" if used else "")
        for field, words, used in (
            ("messages_per_second", "a second", ""),
            ("messages_per_hour", "an hour", "this_hour"),
            ("messages_per_day", "a day", "this_day"),
        )
        if granted[field]
    ]
    return f"messages: {'; '.join(said)}" if said else ""


def quota(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")],
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Show the approved quota of a domain, what was sent of it, and when it starts anew."""
    with Client() as client:
        where = client.instance(instance)
        found = client.get(path_of(where, client.configuration(where, domain)["id"]) + "/quota")
        if output is Form.json:
            fields(found, output)
            return
        granted = found["quota"]
        hour, day = granted["messages_per_hour"], granted["messages_per_day"]
        spans = [
            {"quota": "messages a second", "approved": granted["messages_per_second"] or "unlimited"},
            {
                "quota": "messages an hour",
                "approved": hour or "unlimited",
                "sent": found["this_hour"] if hour else "not counted",
                "starts_anew": found["hour_ends_at"],
            },
            {
                "quota": "messages a day",
                "approved": day or "unlimited",
                "sent": found["this_day"] if day else "not counted",
                "starts_anew": found["day_ends_at"],
            },
            {"quota": "recipients of a message", "approved": granted["recipients_per_message"] or "as everybody"},
            {"quota": "octets of a message", "approved": granted["message_bytes"] or "as everybody"},
            {"quota": "messages held while suspended", "approved": found["hold_cap"], "sent": found["held"]},
        ]
        spans += [
            {
                "quota": f"user {user['username']}, an hour",
                "approved": user["messages_per_hour"],
                "sent": user["this_hour"],
                "starts_anew": found["hour_ends_at"],
            }
            for user in found["users"]
        ]
        rows(spans, ["quota", "approved", "sent", "starts_anew"], output)
