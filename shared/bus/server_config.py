"""The configuration of nats-server: durability, limits, and one user per room."""

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.bus.permissions import ADMINISTRATOR, STATUS_USER, permissions_of, users
from shared.bus.settings import Topology
from shared.contract.subjects import SYNC_PROOF

MAX_PAYLOAD_BYTES = 33 << 20
ROUTE_PORT = 6222
ROUTE_USER = "route"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The servers that keep copies of everything for one another."""

    listen: str
    """host:port where this server waits for the others."""
    servers: tuple[str, ...]
    """host:port of each of them, this one too."""
    password: str
    """What they show one another; no room knows it."""


class ServerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from one server to the next."""

    host: str
    port: int
    store: str
    """Directory of the file store, as the server sees it."""
    passwords: Mapping[str, str]
    """Password of each of `permissions.users()`."""
    monitor: str = ""
    """host:port of the HTTP monitoring endpoint; empty: none."""
    max_file_store: str = ""
    """Limit of the file store, for example 20GB; empty: three quarters of the disk, the server's default."""
    name: str = "postlane"
    cluster: Cluster | None = None


def render(plan: ServerPlan, topology: Topology) -> str:
    """Return the text of a configuration file; it holds passwords, so keep it readable by its server only."""
    lines = [
        "# Made by postlane; do not edit, it is written again at each start.",
        f"listen: {_quoted(f'{plan.host}:{plan.port}')}",
        f"server_name: {_quoted(plan.name)}",
        f"max_payload: {MAX_PAYLOAD_BYTES}",
        "max_control_line: 8192",
        "write_deadline: 10s",
        "jetstream {",
        f"  store_dir: {_quoted(plan.store)}",
        "  # Every PubAck follows an fsync: what was answered 250 survives a power cut.",
        "  sync_interval: always",
    ]
    if plan.max_file_store:
        lines.append(f"  max_file_store: {plan.max_file_store}")
    lines.append("}")
    if plan.monitor:
        lines.append(f"http: {_quoted(plan.monitor)}")
    if plan.cluster is not None:
        lines += _cluster(plan.cluster)
    lines += [
        "accounts {",
        "  SYS {",
        # The server keeps this export private to what is imported below: only the store's own settings can be read.
        '    exports: [ { service: "$SYS.REQ.SERVER.PING.JSZ", response_type: stream } ]',
        "  }",
        "  POSTLANE {",
        "    jetstream: enabled",
        f'    imports: [ {{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ" }}, to: "{SYNC_PROOF}" }} ]',
        "    users: [",
    ]
    lines += [f"      {_user(name, plan.passwords[name], topology)}" for name in users()]
    lines += ["    ]", "  }", "}", "system_account: SYS", ""]
    return "\n".join(lines)


def _cluster(cluster: Cluster) -> list[str]:
    routes = [f"nats://{ROUTE_USER}:{cluster.password}@{server}" for server in cluster.servers]
    return [
        # A server that is told to go (`nats-server --signal ldm`) hands over what it leads, then its clients.
        'lame_duck_duration: "30s"',
        'lame_duck_grace_period: "1s"',
        "cluster {",
        '  name: "postlane"',
        f"  listen: {_quoted(cluster.listen)}",
        f"  authorization {{ user: {_quoted(ROUTE_USER)}, password: {_quoted(cluster.password)} }}",
        f"  routes: {json.dumps(routes)}",
        "}",
    ]


def write(plan: ServerPlan, topology: Topology, file: Path) -> None:
    """Write the configuration, readable by its owner only, in one step."""
    draft = file.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(render(plan, topology))
    draft.replace(file)


def _quoted(text: str) -> str:
    return json.dumps(text)


def _user(name: str, password: str, topology: Topology) -> str:
    login = f"user: {_quoted(name)}, password: {_quoted(password)}"
    if name == ADMINISTRATOR:
        return (
            f"{{ {login}, permissions: {{ publish: {_list(('$JS.API.>', SYNC_PROOF))}, "
            f"subscribe: {_list((f'_INBOX_{ADMINISTRATOR}.>',))} }} }}"
        )
    allowed = permissions_of(STATUS_USER if name == STATUS_USER else name, topology)  # type: ignore[arg-type]
    publish = f"{{ allow: {_list(allowed.publish)} }}" if allowed.publish else '{ deny: [">"] }'
    answers = ", allow_responses: { max: 1, expires: 30s }" if allowed.responses else ""
    subscribe = f"{{ allow: {_list(allowed.subscribe)} }}"
    return f"{{ {login}, permissions: {{ publish: {publish}, subscribe: {subscribe}{answers} }} }}"


def _list(items: tuple[str, ...]) -> str:
    return json.dumps(list(items))
