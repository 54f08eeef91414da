"""The questionnaire handed in, and what the operator decides: approve, reject, suspend, resume."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from services.command.admin import questionnaire
from services.command.admin.client import Client, InstanceOption, path_of
from services.command.admin.exits import INVALID, failure
from services.command.admin.output import Form, Output, fields, say

Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")]
Read = Annotated[
    str, typer.Option(metavar="TIME", help="submitted_at of the answers you read; later ones are not decided on")
]
Because = Annotated[str, typer.Option("--reason", help="why; the customer reads it")]


def authorize(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")] = "",
    from_file: Annotated[Path | None, typer.Option("--from-file", help="TOML file with the answers")] = None,
    evidence: Annotated[
        list[Path] | None, typer.Option("--evidence", help="a small text file as evidence; may be repeated")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="print a file to fill in")] = False,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Hand in the questionnaire, from a file or question by question; an operator decides on it."""
    if example:
        typer.echo(questionnaire.EXAMPLE, nl=False)
        return
    if not domain or (from_file is None and not questionnaire.is_terminal()):
        raise failure(INVALID, "name a domain and --from-file answers.toml; --example prints such a file")
    answers = questionnaire.read(from_file) if from_file else questionnaire.asked()
    answers = questionnaire.with_evidence(answers, evidence or [])
    with Client() as client:
        where = client.instance(instance)
        found = client.configuration(where, domain)
        handed_in = client.call("PUT", path_of(where, found["id"]) + "/authorization", json=answers)
        if output is Form.json:
            fields(handed_in, output)
        else:
            say(f"handed in for {found['domain']}; next an operator decides: postlane domain approve {found['domain']}")


def approve(
    domain: Name,
    per_second: Annotated[int, typer.Option(help="messages per second; 0 is unlimited", min=0)] = 0,
    per_hour: Annotated[int, typer.Option("--per-hour", "--rate", help="messages per hour", min=0)] = 0,
    per_day: Annotated[int, typer.Option(help="messages per day", min=0)] = 0,
    recipients: Annotated[int, typer.Option(help="recipients per message; 0: as everybody", min=0)] = 0,
    message_bytes: Annotated[int, typer.Option(help="octets of a message; 0: as everybody", min=0)] = 0,
    lane: Annotated[
        Literal["transactional", "marketing"] | None, typer.Option(help="kind of mail; default: as the customer says")
    ] = None,
    reason: Because = "",
    submitted: Read = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Approve sending, with these limits instead of those of before. Operators only."""
    wish: dict[str, Any] = (
        {
            "messages_per_second": per_second,
            "messages_per_hour": per_hour,
            "messages_per_day": per_day,
            "recipients_per_message": recipients,
            "message_bytes": message_bytes,
            "reason": reason,
        }
        | ({"lane": lane} if lane else {})
        | _read(submitted)
    )
    limits = [f"{count} {what}" for count, what in (
        (per_second, "messages a second"), (per_hour, "messages an hour"), (per_day, "messages a day"),
        (recipients, "recipients a message"), (message_bytes, "octets a message"),
    ) if count]  # fmt: skip
    sentence = f"sending is approved, {'at most ' + ', '.join(limits) if limits else 'without limits of its own'}, for"
    _decide(domain, "authorization/approve", wish, instance, output, sentence)


def reject(
    domain: Name,
    reason: Annotated[str, typer.Option("--reason", help="why; the customer reads it")],
    submitted: Read = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Reject, or withdraw an approval. Operators only."""
    wish = {"reason": reason} | _read(submitted)
    _decide(domain, "authorization/reject", wish, instance, output, "sending is not approved for")


def suspend(
    domain: Name,
    reason: Annotated[str, typer.Option("--reason", help="why; the customer reads it")],
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Suspend sending at once, whatever DNS says. Operators only."""
    _decide(domain, "suspend", {"reason": reason}, instance, output, "sending is suspended for")


def resume(domain: Name, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """End an operator's suspension. Operators only."""
    _decide(domain, "resume", None, instance, output, "the suspension has ended for")


def _read(submitted: str) -> dict[str, str]:
    return {"submitted_at": submitted} if submitted else {}


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
