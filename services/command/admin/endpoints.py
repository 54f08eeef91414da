"""`postlane endpoints`: where applications send to."""

from services.command.admin.client import Client
from services.command.admin.output import Form, Output, rows


def show(output: Output = Form.table) -> None:
    """Show regions, public and private endpoints, and the addresses mail leaves from."""
    with Client() as client:
        found = client.get("/v1/postlane/endpoints")["endpoints"]
        columns = ["region", "public", "private", "outgoing"]
        rows(found, columns, output, "no endpoint is configured: the operator sets POSTLANE_CONTROL_ENDPOINTS")
