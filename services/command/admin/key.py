"""`postlane key` and `postlane audit`: who may administer, and who changed what."""

import json
import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from services.command.admin.client import Client, InstanceOption
from services.command.admin.exits import INVALID, NEGATIVE, failure
from services.command.admin.output import Form, Output, Yes, confirm, fields, rows, say

if TYPE_CHECKING:
    from services.command.admin import OperatorKeyMaker, Resealer

BUS_PASSWORD = ("POSTLANE_BUS_PASSWORD", "POSTLANE_BUS_PASSWORD_FILE")
"""Settings of control's bus connection: where they are, an operator's key can be made without one."""


def make_app(make_operator_key: "OperatorKeyMaker | None", reseal: "Resealer | None" = None) -> typer.Typer:
    """Return the verbs of `postlane key`."""
    app = typer.Typer(help="API keys: operators, managers and readers.", no_args_is_help=True)

    @app.command()
    def add(
        operator: Annotated[bool, typer.Option("--operator", help="a key that may do everything")] = False,
        role: Annotated[Literal["manager", "reader"], typer.Option(help="role in one instance")] = "manager",
        description: Annotated[str, typer.Option(help="whose key it is")] = "",
        expires_at: Annotated[str, typer.Option(help="when it ends, for example 2027-01-01T00:00:00Z")] = "",
        instance: InstanceOption = "",
        output: Output = Form.table,
    ) -> None:
        """Make an API key; it is shown this once. On the host, with control's bus settings, also the first one."""
        if operator and make_operator_key is not None and any(os.environ.get(name) for name in BUS_PASSWORD):
            made = {"role": "operator", "description": description, "api_key": make_operator_key(description)}
        else:
            with Client() as client:
                wish = {"role": "operator" if operator else role, "description": description}
                if not operator:
                    wish["instance"] = client.instance(instance)
                if expires_at:
                    wish["expires_at"] = expires_at
                made = client.call("POST", "/v1/postlane/keys", json=wish)
        fields(made, output, ["api_key", "role", "instance", "description", "expires_at"])
        say("the key cannot be shown again", Form.json)

    @app.command("reseal")
    def reseal_() -> None:
        """Seal all signing keys with a new master key, on the host, with control's settings. Safe while all runs."""
        if reseal is None or not any(os.environ.get(name) for name in BUS_PASSWORD):
            raise failure(
                INVALID,
                "this is done on the host, with control's settings: POSTLANE_CONTROL_MASTER_KEY_FILE (the new key on "
                "its first line, the old one below) and POSTLANE_BUS_URL, _USER, _PASSWORD_FILE",
            )
        anew, already, broken = reseal()
        say(f"sealed anew: {anew}; sealed with the first key already: {already}")
        if broken:
            raise failure(NEGATIVE, f"no key of the file opens {len(broken)}: {', '.join(broken[:5])}")
        say("once every control and delivery was started with the new file, the old key may be taken out of it")

    @app.command("ls")
    def list_(output: Output = Form.table) -> None:
        """List API keys, never their secrets."""
        with Client() as client:
            columns = ["id", "role", "state", "instance", "description", "created_at", "expires_at", "last_used"]
            found = client.get("/v1/postlane/keys")["keys"]
            rows([_flat(each) for each in found] if output is Form.table else found, columns, output)

    @app.command()
    def show(
        key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="the part between the underscores")],
        output: Output = Form.table,
    ) -> None:
        """Show an API key: when, from where and by which client it was last used."""
        with Client() as client:
            found = client.get(f"/v1/postlane/keys/{key_id}")
            fields(_flat(found) if output is Form.table else found, output)

    @app.command("rm")
    def remove(
        key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="the part between the underscores")],
        yes: Yes = False,
    ) -> None:
        """Revoke an API key."""
        if key_id.startswith("pl_"):
            raise failure(INVALID, "give only the ID of the key, the part between the underscores, not its secret")
        with Client() as client:
            confirm(f"Revoke key {key_id}? Whoever uses it is locked out at once.", yes)
            client.call("DELETE", f"/v1/postlane/keys/{key_id}")
            say(f"revoked {key_id}", Form.json)

    return app


def _flat(key: dict[str, Any]) -> dict[str, Any]:
    use = key.get("last_use")
    flat = {name: value for name, value in key.items() if name != "last_use"}
    if use is None:
        return flat | {"last_used": "never"}
    return flat | {"last_used": use["at"], "address": use["address"], "client": use["client"]}


def audit(
    key: Annotated[str, typer.Option(help="only changes of keys that contain this")] = "",
    limit: Annotated[int, typer.Option(help="records at most", min=1, max=1000)] = 100,
    before: Annotated[int, typer.Option(help="go on from where another listing ended, as it says", min=0)] = 0,
    instance: InstanceOption = "",
    output: Output = Form.table,
) -> None:
    """Show who changed what, newest first."""
    with Client() as client:
        where = client.instance(instance) if instance else ""
        found: list[dict[str, Any]] = []
        older = before
        while len(found) < limit:
            wish = {"instance": where, "key": key, "limit": limit - len(found), "before": older or None}
            page = client.get("/v1/postlane/audit", **wish)
            found += page["records"]
            older = page.get("older", 0)
            if not older:
                break
        if output is Form.json:
            for each in found:
                typer.echo(json.dumps(each, ensure_ascii=False))
            return
        rows(found, ["at", "by", "action", "key"], output, "nothing was changed yet")
        if older:
            say(f"older changes:  postlane audit --before {older}", Form.json)
