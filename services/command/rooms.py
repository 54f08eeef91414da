"""The children of `postlane up`: each room's command and environment, from workspace and ports."""

import os
import sys
from pathlib import Path

import msgspec

from services.command.ports import Ports
from services.command.supervisor import Child
from services.command.workspace import Workspace

ROOMS = ("ingress", "verifier", "delivery", "tracker", "control")
NATS_SERVER = "nats-server"
LOOPBACK = "127.0.0.1"
SANDBOX_SPF = "spf.postlane.example"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `up`: where things are and on which ports."""

    ports: Ports
    health: dict[str, int]
    """Port of each child's health page."""
    sandbox: bool
    nats_server: Path
    log_level: str = "INFO"


def nats_child(workspace: Workspace, plan: Plan) -> Child:
    """Return the embedded nats-server."""
    config = workspace.root / "nats" / "nats.conf"
    return Child(
        name=NATS_SERVER,
        command=(str(plan.nats_server), "-c", str(config)),
        environment={"PATH": os.environ.get("PATH", ""), "HOME": str(workspace.root)},
        log_file=workspace.log_file(NATS_SERVER),
        pid_file=workspace.pid_file(NATS_SERVER),
    )


def room_child(name: str, workspace: Workspace, plan: Plan) -> Child:
    """Return a room. What the caller's environment says about its settings wins over what is set here."""
    return Child(
        name=name,
        command=(sys.executable, "-m", "services", "serve", name),
        environment=environment_of(name, workspace, plan),
        log_file=workspace.log_file(name),
        pid_file=workspace.pid_file(name),
    )


def environment_of(name: str, workspace: Workspace, plan: Plan) -> dict[str, str]:
    """Return the whole environment of a room's process."""
    made = {
        "POSTLANE_HEALTH_LISTEN": f"{LOOPBACK}:{plan.health[name]}",
        "POSTLANE_HEALTH_LOG_LEVEL": plan.log_level,
    }
    if name != "sandbox":
        made |= {
            "POSTLANE_BUS_URL": f"nats://{LOOPBACK}:{plan.ports.nats}",
            "POSTLANE_BUS_USER": name,
            "POSTLANE_BUS_PASSWORD_FILE": str(workspace.secret_file(f"bus-{name}")),
        }
    made |= {f"POSTLANE_{name.upper()}_{key}": value for key, value in _own(name, workspace, plan).items()}
    if plan.sandbox:
        pretended = _sandboxed(name, plan.ports).items()
        made |= {f"POSTLANE_{name.upper()}_{key}": value for key, value in pretended}
    # A child gets the shell's basics and the settings that concern it, never another room's secrets.
    concerning = ("POSTLANE_BUS_", "POSTLANE_TOPOLOGY_", "POSTLANE_HEALTH_LOG", f"POSTLANE_{name.upper()}_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("POSTLANE_")}
    overriding = {key: value for key, value in os.environ.items() if key.startswith(concerning)}
    return inherited | made | overriding


def _own(name: str, workspace: Workspace, plan: Plan) -> dict[str, str]:
    ports = plan.ports
    match name:
        case "ingress":
            return {
                "PUBLIC_LISTEN": f"{LOOPBACK}:{ports.smtp}",
                "PRIVATE_LISTEN": f"{LOOPBACK}:{ports.private_smtp}",
                "PUBLIC_TLS_LISTEN": f"{LOOPBACK}:{ports.smtps}",
                "TLS_CERTIFICATE_FILE": str(workspace.certificate_file),
                "TLS_KEY_FILE": str(workspace.key_file),
                "HOST_NAME": "localhost",
            }
        case "delivery":
            return {"MASTER_KEY_FILE": str(workspace.secret_file("master-key"))}
        case "tracker":
            return {"DATABASE_URL": f"sqlite:///{workspace.root / 'tracker' / 'tracker.sqlite'}"}
        case "control":
            public, private, tls = (f"{LOOPBACK}:{port}" for port in (ports.smtp, ports.private_smtp, ports.smtps))
            return {
                "LISTEN": f"{LOOPBACK}:{ports.http}",
                "ENDPOINTS": f"local;{public};{private};;{tls};",
                "MASTER_KEY_FILE": str(workspace.secret_file("master-key")),
            }
        case "sandbox":
            return {
                "DNS_LISTEN": f"{LOOPBACK}:{ports.dns}",
                "MX_LISTEN": f"{LOOPBACK}:{ports.mx}",
                "DIRECTORY": str(workspace.root / "sandbox"),
            }
        case _:
            return {}


def _sandboxed(name: str, ports: Ports) -> dict[str, str]:
    """Return what points a room at the pretend DNS and exchanger: ordinary settings, nothing else."""
    resolver = f"{LOOPBACK}:{ports.dns}"
    match name:
        case "verifier":
            return {
                "RESOLVERS": resolver,
                "EGRESS_ADDRESSES": "192.0.2.25",
                "PENDING_SECONDS": "2",
                "VERIFIED_SECONDS": "3",
                "DEGRADED_SECONDS": "1",
                "FIRST_CHECK_SPREAD_SECONDS": "0",
                "GRACE_SECONDS": "2",
                "FAILURES_TO_SUSPEND": "3",
                "DNS_CACHE_SECONDS": "1",
                "DOMAIN_MUST_EXIST": "false",  # pretended domains need no more than their records
            }
        case "delivery":
            return {
                "RESOLVERS": resolver,
                "MX_PORT": str(ports.mx),
                "ALLOWED_NETWORKS": "127.0.0.0/8",
                "RETRY_WAITS_SECONDS": "2,4,8,15,30,60",
                "BREAKER_PAUSE_SECONDS": "2",
                "BREAKER_LONGEST_PAUSE_SECONDS": "10",
                "RELEASE_SPREAD_SECONDS": "1",
                "RECONCILE_SECONDS": "5",
                "EHLO_NAME": "relay.postlane.example",
                "NOTICE_SENDER": "postlane@demo.example",
            }
        case "tracker":
            return {"AUDIT_SECONDS": "5", "AUDIT_GRACE_SECONDS": "15"}
        case "control":
            return {"SPF_INCLUDE": SANDBOX_SPF}
        case _:
            return {}
