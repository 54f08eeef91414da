"""`postlane endpoints`: where applications send to."""

from services.command.admin.client import Client, InstanceOption
from services.command.admin.output import Form, Output, rows, say


def show(instance: InstanceOption = "", output: Output = Form.table) -> None:
    """Show regions, their endpoints (STARTTLS, and TLS from the start), and the addresses mail leaves from.

    With an instance (named, of the profile or of the key) also whether its rules let anybody in there.
    """
    with Client() as client:
        where = client.instance(instance) if instance or client.has_instance() else ""
        answer = client.get(f"/v1/postlane/instances/{where}/endpoints" if where else "/v1/postlane/endpoints")
        found = answer["endpoints"]
        columns = ["region", "public", "public_tls", "private", "private_tls", "outgoing"]
        if output is Form.table:
            found = [{name: value or "-" for name, value in each.items()} for each in found]
        rows(found, columns, output, "no endpoint is configured: the operator sets POSTLANE_CONTROL_ENDPOINTS")
        for kind in ("public", "private") if where else ():
            if not answer[f"{kind}_open"]:
                say(f"no rule of this instance lets anybody in by the {kind} endpoints: postlane rule ls", Form.json)
