"""A system that is up: where it is and with which credentials, told to a program or to a person."""

from pathlib import Path
from typing import Any

import msgspec

from services.command.ports import Ports
from services.command.rooms import LOOPBACK
from services.command.workspace import Tenant
from shared.bus.permissions import STATUS_USER


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A system that is up: where it is, and with which credentials."""

    workspace: Path
    ports: Ports
    operator_key: str
    status_password: str
    ca_file: Path
    tenant: Tenant | None

    @property
    def http(self) -> str:
        """Base URL of the management API."""
        return f"http://{LOOPBACK}:{self.ports.http}"

    def ready_file(self) -> dict[str, Any]:
        """Return what `--ready-file` gets."""
        found: dict[str, Any] = {
            "smtp": {"host": LOOPBACK, "port": self.ports.smtp},
            "smtps": {"host": LOOPBACK, "port": self.ports.smtps},
            "private_smtp": {"host": LOOPBACK, "port": self.ports.private_smtp},
            "http": self.http,
            "nats": f"nats://{LOOPBACK}:{self.ports.nats}",
            "nats_user": STATUS_USER,
            "nats_password": self.status_password,
            "ca_file": str(self.ca_file),
            "data": str(self.workspace),
            "operator": {"api_key": self.operator_key},
        }
        if self.tenant is not None:
            found["sandbox"] = {
                "dns": {"host": LOOPBACK, "port": self.ports.dns},
                "mx": {"host": LOOPBACK, "port": self.ports.mx},
                "maildir": str(self.workspace / "sandbox" / "Maildir"),
                "directory": str(self.workspace / "sandbox"),
            }
            found["tenant"] = msgspec.to_builtins(self.tenant)
        return found


def describe(state: Running) -> str:
    """Return what a person needs to use a system that is up."""
    ports = state.ports
    lines = [
        "Postlane is up.",
        (
            f"  SMTP    {LOOPBACK}:{ports.smtp} (STARTTLS)   {LOOPBACK}:{ports.smtps} (TLS)"
            f"   {LOOPBACK}:{ports.private_smtp} (STARTTLS, private)"
        ),
        f"  API     {state.http}   key {state.operator_key}",
        f"  console {state.http}/console   signs in with that key",
        (
            f"  NATS    nats://{STATUS_USER}:{state.status_password}@{LOOPBACK}:{ports.nats}"
            "   (subscribe to postlane.status.>)"
        ),
        f"  CA      {state.ca_file}",
        f"  data    {state.workspace}",
    ]
    if state.tenant is not None:
        tenant = state.tenant
        lines += [
            (
                f"  sandbox DNS {LOOPBACK}:{ports.dns}, exchanger {LOOPBACK}:{ports.mx},"
                f" mail in {state.workspace / 'sandbox' / 'Maildir'}"
            ),
            f"  tenant  {tenant.domain}, user {tenant.username}, password {tenant.password}",
            "",
            "Send a message:",
            (
                f"  swaks --server {LOOPBACK} --port {ports.smtp} --tls --auth LOGIN"
                f" --auth-user {tenant.username} --auth-password {tenant.password}"
                f" --from app@{tenant.domain} --to delivered@inbox.example"
            ),
            "and follow it by the queue ID of the answer:",
            "  postlane track QUEUE_ID --follow",
        ]
    lines += ["", "Ctrl-C ends it in good order."]
    return "\n".join(lines)
