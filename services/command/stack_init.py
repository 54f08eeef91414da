"""`postlane stack-init`: the secrets, certificates and bus configuration of the container stack, made once.

Each room's volume gets only what that room may know. What exists is kept, so every start is idempotent.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shared.bus.permissions import ADMINISTRATOR, STATUS_USER, users
from shared.bus.server_config import ROUTE_PORT, Cluster, ServerPlan, write
from shared.bus.settings import Topology
from shared.runtime.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, ensure_certificates
from shared.runtime.clock import now
from shared.runtime.sealing import new_master_key

ALONE = ("nats",)
EVERYWHERE = "0.0.0.0"  # noqa: S104  # inside a container
NEED_MASTER_KEY = ("delivery", "control")
DATABASE = "postgresql+psycopg://postlane:{password}@postgres/postlane"


def initialise(root: Path, host_name: str, topology: Topology, servers: Sequence[str] = ALONE) -> list[str]:
    """Make what is missing below `root` (one directory per room's volume); return a sentence for each thing made.

    `servers`: host names of the nats-servers; each gets a configuration of that name.
    """
    told: list[str] = []
    passwords: dict[str, str] = {}
    for user in users():
        directory = root / ("admin" if user == ADMINISTRATOR else user)
        passwords[user] = _secret(directory / "bus", secrets.token_urlsafe(24), told)
    master_key = _secret(root / NEED_MASTER_KEY[0] / "master-key", new_master_key(), told)
    for room in NEED_MASTER_KEY[1:]:
        _secret(root / room / "master-key", master_key, told)
    database = _secret(root / "postgres" / "password", secrets.token_urlsafe(24), told, mode=0o644)
    _secret(root / "tracker" / "database-url", DATABASE.format(password=database), told)
    names = tuple(dict.fromkeys((host_name, "localhost", "balancer", "127.0.0.1")))
    tls = root / "ingress"
    if not (tls / KEY_FILE).exists():
        ensure_certificates(tls, names, now())
        told.append(f"made a development certificate for {', '.join(names)}")
    public = root / "public"
    for directory in (public, root / "nats"):
        directory.mkdir(parents=True, exist_ok=True)
    (public / CA_FILE).write_bytes((tls / CA_FILE).read_bytes())
    (public / CERTIFICATE_FILE).write_bytes((tls / CERTIFICATE_FILE).read_bytes())
    plan = ServerPlan(host=EVERYWHERE, port=4222, store="/data", passwords=passwords, monitor="127.0.0.1:8222")
    if len(servers) > 1:
        cluster = Cluster(
            listen=f"{EVERYWHERE}:{ROUTE_PORT}",
            servers=tuple(f"{server}:{ROUTE_PORT}" for server in servers),
            password=_secret(root / "nats" / "route", secrets.token_urlsafe(24), told),
        )
        plan = msgspec.structs.replace(plan, cluster=cluster)
    for server in servers:
        name = server if len(servers) > 1 else plan.name
        write(msgspec.structs.replace(plan, name=name), topology, root / "nats" / f"{server}.conf")
    told.append(f"the bus is configured for {', '.join(servers)}; subscribers connect as {STATUS_USER}")
    return told


def _secret(file: Path, fresh: str, told: list[str], mode: int = 0o600) -> str:
    """Return the secret of a file, writing a fresh one if there is none."""
    if file.exists():
        return file.read_text().strip()
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}")
    draft.touch(mode=mode)
    draft.write_text(fresh + "\n")
    draft.replace(file)
    told.append(f"made {file.parent.name}/{file.name}")
    return fresh
