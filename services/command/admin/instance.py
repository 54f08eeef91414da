"""`postlane instance`: tenants."""

from typing import Annotated

import typer

from services.command.admin.client import Client
from services.command.admin.output import Form, Output, fields, rows

app = typer.Typer(help="Instances: the tenants.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="name of the tenant")],
    identity: Annotated[str, typer.Option("--id", help="a GUID of your choice; default: a new one")] = "",
    output: Output = Form.table,
) -> None:
    """Make an instance. Operators only."""
    with Client() as client:
        wish = {"name": name} | ({"id": identity} if identity else {})
        fields(client.call("POST", "/v1/postlane/instances", json=wish), output)


@app.command("ls")
def list_(output: Output = Form.table) -> None:
    """List the instances this key may see."""
    with Client() as client:
        found = client.get("/v1/postlane/instances")["instances"]
        rows(found, ["id", "name", "configurations", "created_at"], output, "none yet: postlane instance add NAME")
