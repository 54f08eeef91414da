"""`postlane endpoints`: where applications send to."""

from services.command.admin.client import Client
from services.command.admin.output import Form, Output, rows


def show(output: Output = Form.table) -> None:
    """Show regions, their endpoints (STARTTLS, and TLS from the start), and the addresses mail leaves from."""
    with Client() as client:
        found = client.get("/v1/postlane/endpoints")["endpoints"]
        columns = ["region", "public", "public_tls", "private", "private_tls", "outgoing"]
        if output is Form.table:
            found = [{name: value or "-" for name, value in each.items()} for each in found]
        rows(found, columns, output, "no endpoint is configured: the operator sets POSTLANE_CONTROL_ENDPOINTS")
