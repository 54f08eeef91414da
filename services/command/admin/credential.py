"""`postlane user passwords|expire|revoke|limit|show`: passwords of a user with their last use, and guard rails."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import typer

from services.command.admin.client import Client, InstanceOption, path_of
from services.command.admin.exits import INVALID, UNKNOWN, failure
from services.command.admin.output import Form, Output, Yes, confirm, fields, moment, rows, say
from services.command.admin.user import Domain, Username, find_user

app = typer.Typer()

PasswordId = Annotated[str, typer.Argument(metavar="PASSWORD", help="ID of the password, or its beginning")]
LISTS = ("senders", "networks", "recipients", "staging_allowed")
RAILS = ["senders", "networks", "recipients", "messages_per_hour", "staging", "redirect_to", "staging_allowed"]


@app.command()
def show(domain: Domain, user: Username, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Show a user with its guard rails."""
    with Client() as client:
        _, path = _found(client, instance, domain, user)
        _print(client.get(path), output)


@app.command()
def passwords(domain: Domain, user: Username, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """List a user's passwords: when each ends, and when, from where and by whom it was last used."""
    with Client() as client:
        _, path = _found(client, instance, domain, user)
        found = client.get(f"{path}/passwords")["passwords"]
        if output is Form.table:
            found = [each | _use(each.get("last_use")) for each in found]
        rows(found, ["id", "created_at", "works", "hash", "expires_at", "last_used", "address", "banner"], output)


@app.command()
def expire(
    domain: Domain,
    user: Username,
    password: PasswordId,
    at: Annotated[str, typer.Option(help="when it ends, for example 2027-01-01T00:00:00Z")] = "",
    in_hours: Annotated[float | None, typer.Option(help="when it ends, in hours from now", min=0.01)] = None,
    never: Annotated[bool, typer.Option("--never", help="it does not end by itself")] = False,
    instance: InstanceOption = "",
) -> None:
    """Set when a password ends: sooner, or later if its client is not changed yet."""
    if [bool(at), in_hours is not None, never].count(True) != 1:
        raise failure(INVALID, "say one of --at TIME, --in-hours N and --never")
    ends = at or None
    if in_hours is not None:
        ends = (datetime.now(UTC) + timedelta(hours=in_hours)).isoformat()
    with Client() as client:
        found, path = _found(client, instance, domain, user)
        meant = _password(client, path, password)
        client.call("PATCH", f"{path}/passwords/{meant}", json={"expires_at": ends})
        when = "does not end by itself" if ends is None else f"ends at {moment(ends)}"
        say(f"password {meant} of {found['username']} {when}", Form.json)


@app.command()
def revoke(
    domain: Domain,
    user: Username,
    password: PasswordId,
    yes: Yes = False,
    instance: InstanceOption = "",
) -> None:
    """End one password of a user at once; the last one that works stays."""
    with Client() as client:
        found, path = _found(client, instance, domain, user)
        meant = _password(client, path, password)
        confirm(f"Revoke password {meant} of {found['username']}? Whoever uses it is locked out at once.", yes)
        client.call("DELETE", f"{path}/passwords/{meant}")
        say(f"revoked {meant}", Form.json)


@app.command()
def limit(
    domain: Domain,
    user: Username,
    sender: Annotated[list[str] | None, typer.Option(help="allowed sender, such as orders-*@shop.example")] = None,
    network: Annotated[list[str] | None, typer.Option(help="network the user may come from")] = None,
    recipient: Annotated[list[str] | None, typer.Option(help="allowed recipient, such as *@client.example")] = None,
    per_hour: Annotated[int | None, typer.Option(help="messages per hour; 0 lifts the limit", min=0)] = None,
    staging: Annotated[
        Literal["deliver", "capture", "redirect", "allow-list", "simulate"] | None,
        typer.Option(help="what becomes of the mail"),
    ] = None,
    redirect_to: Annotated[str | None, typer.Option(help="staging redirect: where to")] = None,
    staging_allow: Annotated[list[str] | None, typer.Option(help="staging allow-list: who really gets mail")] = None,
    lift: Annotated[
        list[str] | None, typer.Option(help=f"take a limit away: {', '.join(LISTS)}; may be repeated")
    ] = None,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Set guard rails: options that may be repeated replace the whole list; what is not named stays."""
    given = {
        "senders": sender,
        "networks": network,
        "recipients": recipient,
        "staging_allowed": staging_allow,
        "messages_per_hour": per_hour,
        "staging": staging,
        "redirect_to": redirect_to,
    }
    wish: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name in lift or []:
        if name not in LISTS:
            raise failure(INVALID, f"{name!r} cannot be lifted; use one of {', '.join(LISTS)}")
        wish[name] = []
    if not wish:
        raise failure(INVALID, "name at least one limit, or see `postlane user show`")
    with Client() as client:
        _, path = _found(client, instance, domain, user)
        _print(client.call("PATCH", path, json=wish), output)


def _found(client: Client, instance: str, domain: str, user: str) -> tuple[dict[str, Any], str]:
    where = client.instance(instance)
    configuration = client.configuration(where, domain)["id"]
    found = find_user(client, where, configuration, user, domain)
    return found, f"{path_of(where, configuration)}/users/{found['id']}"


def _password(client: Client, path: str, named: str) -> str:
    known = [str(each["id"]) for each in client.get(f"{path}/passwords")["passwords"]]
    meant = [each for each in known if each.startswith(named)]
    if len(meant) != 1:
        what = "no password" if not meant else f"{len(meant)} passwords"
        raise failure(UNKNOWN, f"there is {what} with an ID that begins with {named!r}; see `postlane user passwords`")
    return meant[0]


def _print(user: dict[str, Any], output: Form) -> None:
    if output is Form.json:
        fields(user, output)
        return
    rails = {name: value for name in RAILS if (value := user["guard_rails"][name])}
    fields({**user, **rails}, output, ["username", "domain", "description", "id", "passwords", *rails])


def _use(last: dict[str, Any] | None) -> dict[str, Any]:
    if last is None:
        return {"last_used": "never"}
    return {"last_used": last["at"], "address": last["address"], "banner": last["banner"]}
