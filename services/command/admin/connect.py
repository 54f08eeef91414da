"""`postlane connect`: the settings of one client for one user, then the first connection, told live."""

import json
import time
from string import Template
from typing import Annotated, Any

import typer

from services.command.admin.client import Client, InstanceOption, path_of
from services.command.admin.client_settings import APPLICATIONS
from services.command.admin.coaching import Expected, step
from services.command.admin.exits import CONFLICT, DONE, INVALID, NEGATIVE, UNKNOWN, failure
from services.command.admin.library_settings import LIBRARIES
from services.command.admin.output import Form, Output, fields, rows, say
from services.command.admin.user import list_users
from services.command.profile import read_profile
from shared.mail.address import normalise_domain

CLIENTS = APPLICATIONS | LIBRARIES
NO_PASSWORD = "THE-PASSWORD-SHOWN-ONCE"  # noqa: S105  # a place for one
LONGEST_SECONDS = 3600


def _clients_like(incomplete: str) -> list[str]:
    return [name for name in CLIENTS if name.startswith(incomplete)]


def connect(
    client_name: Annotated[
        str,
        typer.Argument(
            metavar="[CLIENT]", help=f"{', '.join(CLIENTS)}; left out: list them", autocompletion=_clients_like
        ),
    ] = "",
    domain: Annotated[str, typer.Argument(metavar="[DOMAIN]", help="needed if the instance has several")] = "",
    user: Annotated[str, typer.Option(help="username or ID; needed if the domain has several")] = "",
    sender: Annotated[str, typer.Option(help="address to send from; default: app@ the domain")] = "",
    endpoint: Annotated[str, typer.Option(help="public or private")] = "public",
    region: Annotated[str, typer.Option(help="region; default: the first")] = "",
    watch: Annotated[bool, typer.Option(help="wait for the first connection and say what becomes of it")] = True,
    timeout: Annotated[
        int, typer.Option(help="how many seconds to wait for an accepted message", min=1, max=LONGEST_SECONDS)
    ] = 300,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Print the exact settings for a client, then tell its first connection live. Status 0 once a message came in."""
    if not client_name:
        rows([{"client": name, "for": each.title} for name, each in CLIENTS.items()], ["client", "for"], output)
        return
    if client_name.lower() not in CLIENTS:
        raise failure(INVALID, f"there are no settings for {client_name!r}; there are: {', '.join(CLIENTS)}")
    with Client() as client:
        where = client.instance(instance)
        configuration = _configuration(client, where, domain)
        chosen = _user(client, where, configuration, user)
        place = _place(client, endpoint, region)
        if sender and normalise_domain(sender.rpartition("@")[2]) != configuration["domain"]:
            raise failure(INVALID, f"{sender!r} would be refused: a sender is an address of {configuration['domain']}")
        values = _values(place, chosen, configuration["domain"], sender)
        settings = CLIENTS[client_name.lower()]
        text = Template(settings.text).substitute(values)
        if output is Form.json:
            fields({"client": client_name.lower(), "title": settings.title, "text": text} | values, output)
        else:
            say(f"{settings.title}, to send for {configuration['domain']}\n\n{text}\n")
            _remarks(configuration, values)
        if watch:
            expected = Expected(chosen["username"], configuration["domain"], values["port"], values["tls_port"])
            raise typer.Exit(_coach(client, path_of(where, configuration["id"]), expected, timeout, output))


def _configuration(client: Client, instance: str, domain: str) -> dict[str, Any]:
    if domain:
        return client.configuration(instance, domain)
    known: list[dict[str, Any]] = client.get(f"/v1/postlane/instances/{instance}/configurations")["configurations"]
    if len(known) == 1:
        return known[0]
    if not known:
        raise failure(UNKNOWN, "there is no domain yet: postlane domain add DOMAIN")
    raise failure(INVALID, f"name one of the domains: {', '.join(each['domain'] for each in known[:10])}")


def _user(client: Client, instance: str, configuration: dict[str, Any], wanted: str) -> dict[str, Any]:
    domain = configuration["domain"]
    known = list_users(client, instance, configuration["id"])
    if not known:
        raise failure(CONFLICT, f"{domain} has no user yet: postlane user add {domain}")
    found = [each for each in known if wanted in ("", each["username"], each["id"])]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{each['username']} {each['description']}".strip() for each in known)
    what = f"there is no user {wanted!r}" if not found else f"there are {len(found)} users"
    raise failure(UNKNOWN, f"{what} in {domain}: name one with --user ({names})")


def _place(client: Client, kind: str, region: str) -> tuple[str, str, str]:
    """Return host, port for STARTTLS and port for TLS from the first octet ("" if there is none)."""
    if kind not in ("public", "private"):
        raise failure(INVALID, "--endpoint must be public or private")
    known = client.get("/v1/postlane/endpoints")["endpoints"]
    found = [each for each in known if region in ("", each["region"]) and each[kind]]
    if not found:
        where = f" in {region}" if region else ""
        raise failure(UNKNOWN, f"there is no {kind} endpoint{where}; see `postlane endpoints`")
    host, _, port = found[0][kind].rpartition(":")
    return host.strip("[]"), port, found[0][f"{kind}_tls"].rpartition(":")[2]


def _values(place: tuple[str, str, str], user: dict[str, Any], domain: str, sender: str) -> dict[str, str]:
    profile = read_profile()
    own = profile.get("username") == user["username"]
    return {
        "host": place[0],
        "port": place[1],
        "tls_port": place[2],
        "username": user["username"],
        "password": profile["password"] if own and "password" in profile else NO_PASSWORD,
        "sender": sender or f"app@{domain}",
        "domain": domain,
    }


def _remarks(configuration: dict[str, Any], values: dict[str, str]) -> None:
    if values["tls_port"]:
        say(f"For a client that knows only TLS from the first octet (SMTPS, SSL): port {values['tls_port']}.")
    if values["password"] == NO_PASSWORD:
        say(
            "The password was shown once, when the user was made; if it is lost: "
            f"postlane user rotate {configuration['domain']} {values['username']}"
        )
    if ca_file := read_profile().get("ca_file"):
        say(f"The certificate was made by this system itself: let the client trust {ca_file}")
    for lacking in configuration["missing"]:
        say(f"Not open yet: {lacking}")


def _coach(client: Client, path: str, expected: Expected, timeout: int, output: Form) -> int:
    until = time.monotonic() + timeout
    for line in client.lines(f"{path}/clients/events?seconds={timeout}"):
        if line.startswith("event:") and line.removeprefix("event:").strip() == "watching":
            say(f"\nWaiting for its first connection ({timeout} s; Ctrl-C ends it) …", output)
        if not line.startswith("data:"):
            continue
        event = json.loads(line.removeprefix("data:").strip() or "{}")
        found = step(event, expected)
        if found is None:
            continue
        if output is Form.json:
            fields(event, output)
        else:
            say(f"{event['at'][11:19]}  {found.sentence}")
            if found.advice:
                say(f"          {found.advice}")
        if found.queue_id:
            say(f"The client is set up. What becomes of the message: postlane track {found.queue_id} --follow", output)
            return DONE
    if time.monotonic() < until - 1:
        say("the stream of events ended early; start the command again", Form.json)
    else:
        say(f"no message was accepted within {timeout} s", Form.json)
    return NEGATIVE
