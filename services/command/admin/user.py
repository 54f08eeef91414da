"""`postlane user`: SMTP credentials."""

from typing import Annotated, Any

import typer

from services.command.admin.client import Client, InstanceOption, ibm_path_of, path_of
from services.command.admin.exits import UNKNOWN, failure
from services.command.admin.output import Form, Output, Yes, confirm, fields, rows, say

app = typer.Typer(help="SMTP users: generated credentials, at most five per domain.", no_args_is_help=True)

Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="the domain, or the ID of its configuration")]
Username = Annotated[str, typer.Argument(metavar="USER", help="username or ID")]
MOST = 100


@app.command()
def add(
    domain: Domain,
    description: Annotated[str, typer.Option(help="what uses it, for example jira")] = "",
    clone: Annotated[str, typer.Option(help="username of another domain to use here too, with its password")] = "",
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Make SMTP credentials; the password is shown this once."""
    with Client() as client:
        where = client.instance(instance)
        configuration = client.configuration(where, domain)
        path = ibm_path_of(where, configuration["id"]) + "/users"
        query = {"username_to_clone": clone} if clone else {}
        made = client.call("POST", path, json={"description": description}, params=query)
        fields(made, output, ["username", "password", "domain", "description", "id"])
        if output is Form.table:
            for endpoint in client.get("/v1/postlane/endpoints")["endpoints"]:
                for kind in ("public", "private"):
                    if endpoint[kind]:
                        say(f"server ({endpoint['region']}, {kind})  {endpoint[kind]}  STARTTLS, AUTH PLAIN or LOGIN")
            if "password" in made:
                say("the password cannot be shown again")
            for lacking in configuration["missing"]:
                what = f"{lacking.rstrip('.')} (postlane domain show {domain})"
                say(f"{made['domain']} cannot send yet: {what}", Form.json)


@app.command()
def rotate(
    domain: Domain,
    user: Username,
    keep_hours: Annotated[
        float, typer.Option(help="how long the present password goes on working; 0: not at all", min=0)
    ] = 168,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Give a user a new password, shown this once; the present one goes on working for a while."""
    with Client() as client:
        where = client.instance(instance)
        configuration = client.configuration(where, domain)["id"]
        found = find_user(client, where, configuration, user, domain)
        path = f"{path_of(where, configuration)}/users/{found['id']}/rotate"
        made = client.call("POST", path, json={"keep_seconds": int(keep_hours * 3600)})
        fields(made, output, ["username", "password", "old_password_ends_at"])
        say("the password cannot be shown again", Form.json)


@app.command("ls")
def list_(domain: Domain, instance: InstanceOption = "", output: Output = Form.table) -> None:
    """List the users of a domain."""
    with Client() as client:
        where = client.instance(instance)
        found = list_users(client, where, client.configuration(where, domain)["id"])
        rows(found, ["username", "description", "created_at", "id"], output, f"no user yet: postlane user add {domain}")


@app.command("rm")
def remove(
    domain: Domain,
    user: Username,
    yes: Yes = False,
    instance: InstanceOption = "",
) -> None:
    """Remove a user; its credentials end within a second."""
    with Client() as client:
        where = client.instance(instance)
        configuration = client.configuration(where, domain)["id"]
        found = find_user(client, where, configuration, user, domain)
        confirm(f"Remove user {found['username']} of {found['domain']}?", yes)
        client.call("DELETE", f"{ibm_path_of(where, configuration)}/users/{found['id']}")
        say(f"removed {found['username']}", Form.json)


def find_user(client: Client, instance: str, configuration: str, user: str, domain: str) -> dict[str, Any]:
    """Return a user of a domain by its username or ID."""
    for each in list_users(client, instance, configuration):
        if user in (each["username"], each["id"]):
            return each
    raise failure(UNKNOWN, f"there is no user {user!r} in {domain}; see `postlane user ls {domain}`")


def list_users(client: Client, instance: str, configuration: str) -> list[dict[str, Any]]:
    """Return the users of a configuration."""
    found: list[dict[str, Any]] = client.get(ibm_path_of(instance, configuration) + "/users", limit=MOST)["users"]
    return found
