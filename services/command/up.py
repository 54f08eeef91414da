"""`postlane up`: the whole product on one machine: embedded NATS, every room, and on request the sandbox."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import msgspec

from services.command.customer import ApiRefused, Customer
from services.command.demo_tenant import ensure_demo_tenant
from services.command.ports import Ports, check, free_port, free_ports
from services.command.profile import DEFAULT, write_profile
from services.command.rooms import LOOPBACK, NATS_SERVER, ROOMS, Plan, environment_of, nats_child, room_child
from services.command.running import Running, describe
from services.command.stalled_bus import tend
from services.command.supervisor import Child, ChildFailed, Supervisor, last_lines
from services.command.workspace import Workspace, WorkspaceUnusable
from shared.bus.client import connect
from shared.bus.permissions import ADMINISTRATOR, STATUS_USER, users
from shared.bus.provision import provision
from shared.bus.server import find_binary
from shared.bus.server_config import ServerPlan, write
from shared.bus.settings import BusSettings, Topology
from shared.runtime.secret import Secret
from shared.runtime.settings import load

QUEUE_SECONDS = 5.0
"""How long `up` asks what waits, before it goes on without saying."""
READY_SECONDS = 60.0
OPERATOR_KEY = "operator-key"


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    data: Path
    sandbox: bool = False
    auto_ports: bool = False
    ports: Ports = Ports()
    ready_file: Path | None = None
    nats_server: str = ""
    log_level: str = "INFO"
    profile: bool = True
    """Whether the administrative verbs of this user shall find this instance by themselves."""
    tenant: bool = True
    """Whether the sandbox gets its demo tenant."""


@asynccontextmanager
async def running(wishes: Wishes, tell: Callable[[str], None]) -> AsyncIterator[Running]:
    """Start everything, hand it over when it is ready, and stop it in order: rooms first, then the bus.

    Errors: `PortTaken`, `WorkspaceBusy`, `WorkspaceUnusable`, `ChildFailed`, `SettingsFault`: each says what to do.
    """
    if wishes.ready_file is not None and not wishes.ready_file.parent.is_dir():
        raise WorkspaceUnusable(f"--ready-file {wishes.ready_file} cannot be written: there is no such directory")
    topology = load(Topology, "topology", os.environ)
    binary = find_binary(wishes.nats_server)
    workspace = Workspace(wishes.data)
    workspace.prepare()
    try:
        ports = _ports(workspace, wishes)
        rooms = [*ROOMS, "sandbox"] if wishes.sandbox else list(ROOMS)
        plan = Plan(
            ports=ports,
            health={name: free_port() for name in rooms},
            sandbox=wishes.sandbox,
            nats_server=binary,
            log_level=wishes.log_level,
        )
        _write_server_config(workspace, plan, topology)
        async with asyncio.TaskGroup() as tasks:
            supervisor = Supervisor(tasks, tell)
            try:
                state = await _bring_up(workspace, plan, topology, supervisor, rooms, wishes, tell)
                page = f"http://{LOOPBACK}:{plan.health['ingress']}/readyz"
                tending = tasks.create_task(tend(page, partial(supervisor.restart, NATS_SERVER), tell), name="tend")
                try:
                    yield state
                finally:
                    tending.cancel()
            finally:
                await supervisor.stop(rooms)
                await supervisor.stop([NATS_SERVER])
    finally:
        workspace.release()


def _ports(workspace: Workspace, wishes: Wishes) -> Ports:
    """Return the ports wished for, or with `--auto-ports` those of the last start if they are still free."""
    if not wishes.auto_ports:
        check(wishes.ports, wishes.sandbox)
        return wishes.ports
    known = workspace.root / "run" / "ports.json"
    try:
        ports = msgspec.json.decode(known.read_bytes(), type=Ports)
        check(ports, wishes.sandbox)
    except (OSError, msgspec.MsgspecError):  # a port that is taken is an OSError too
        ports = free_ports()
        known.write_bytes(msgspec.json.encode(ports))
    return ports


def _write_server_config(workspace: Workspace, plan: Plan, topology: Topology) -> None:
    server = ServerPlan(
        host=LOOPBACK,
        port=plan.ports.nats,
        store=str(workspace.root / "nats" / "store"),
        passwords={user: workspace.secret(f"bus-{user}") or "" for user in users()},
    )
    write(server, topology, workspace.root / "nats" / "nats.conf")


async def _bring_up(
    workspace: Workspace,
    plan: Plan,
    topology: Topology,
    supervisor: Supervisor,
    rooms: list[str],
    wishes: Wishes,
    tell: Callable[[str], None],
) -> Running:
    tell("starting nats-server")
    server = nats_child(workspace, plan)
    supervisor.start(server)
    for name in rooms:  # they wait for the bus by themselves
        supervisor.start(room_child(name, workspace, plan))
    await _provision(workspace, plan, topology, server, supervisor)
    tell("streams, consumers and buckets are as declared; waiting for " + ", ".join(rooms))
    await _all_ready(workspace, plan, rooms, supervisor)
    again = workspace.secret(OPERATOR_KEY) is not None
    operator_key = await _operator_key(workspace, plan)
    if again and (waiting := await _waiting(plan, operator_key)):
        tell(f"{waiting} message{'s' if waiting > 1 else ''} of the last time wait in the queue: `postlane queue ls`")
    profile = {"url": f"http://{LOOPBACK}:{plan.ports.http}", "api_key": operator_key}
    tenant = None
    if wishes.sandbox and wishes.tenant:
        tenant = workspace.tenant()
        if tenant is None:
            tell("making the demo tenant")
        tenant = await ensure_demo_tenant(workspace, profile["url"], operator_key)
        profile |= {
            "instance": tenant.instance_id,
            "smtp": f"{LOOPBACK}:{plan.ports.smtp}",
            "username": tenant.username,
            "password": tenant.password,
            "domain": tenant.domain,
            "ca_file": str(workspace.ca_file),
            "sandbox_directory": str(workspace.root / "sandbox"),
        }
    if wishes.profile:
        write_profile(profile, DEFAULT)
    state = Running(
        workspace=workspace.root,
        ports=plan.ports,
        operator_key=operator_key,
        status_password=workspace.secret(f"bus-{STATUS_USER}") or "",
        ca_file=workspace.ca_file,
        tenant=tenant,
    )
    if wishes.ready_file is not None:
        draft = wishes.ready_file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(state.ready_file(), indent=2) + "\n")
        draft.replace(wishes.ready_file)
    return state


async def _waiting(plan: Plan, operator_key: str) -> int:
    """Return how many messages lie in the queue, 0 if that cannot be told soon."""
    customer = Customer(f"http://{LOOPBACK}:{plan.ports.http}", operator_key)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + QUEUE_SECONDS
    try:
        while True:
            try:
                return int((await customer.call("GET", "/v1/postlane/queue", params={"limit": 1}))["total"])
            except ApiRefused:  # a room can be ready a moment before the bus knows that it answers
                if loop.time() >= deadline:
                    return 0
            await asyncio.sleep(0.1)
    finally:
        await customer.close()


async def _provision(
    workspace: Workspace, plan: Plan, topology: Topology, server: Child, supervisor: Supervisor
) -> None:
    settings = BusSettings(
        url=f"nats://{LOOPBACK}:{plan.ports.nats}",
        user=ADMINISTRATOR,
        password=Secret(workspace.secret(f"bus-{ADMINISTRATOR}") or ""),
    )
    try:
        async with asyncio.timeout(READY_SECONDS):
            bus = await connect(settings, ADMINISTRATOR)
            try:
                await provision(bus, settings, topology)
            finally:
                await bus.close()
    except TimeoutError as fault:
        raise ChildFailed(
            f"nats-server did not come up (started {1 + supervisor.restarts.get(server.name, 0)} times); "
            f"the end of {server.log_file}:\n{last_lines(server.log_file)}"
        ) from fault


async def _all_ready(workspace: Workspace, plan: Plan, rooms: list[str], supervisor: Supervisor) -> None:
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client, asyncio.TaskGroup() as tasks:
        for name in rooms:
            tasks.create_task(_ready(client, workspace, name, plan.health[name]))


async def _ready(client: httpx.AsyncClient, workspace: Workspace, name: str, port: int) -> None:
    waiting_for = "it does not answer yet"
    try:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                try:
                    page = await client.get(f"http://{LOOPBACK}:{port}/readyz")
                    if page.status_code == httpx.codes.OK:
                        return
                    waiting_for = str(page.json().get("waiting_for"))
                except httpx.HTTPError:
                    pass  # not listening yet
                await asyncio.sleep(0.05)
    except TimeoutError as fault:
        log_file = workspace.log_file(name)
        raise ChildFailed(
            f"{name} is not ready after {READY_SECONDS:.0f} s: {waiting_for}; the end of {log_file}:\n"
            f"{last_lines(log_file)}"
        ) from fault


async def _operator_key(workspace: Workspace, plan: Plan) -> str:
    """Return the operator's API key, made once with control's own right to write."""
    known = workspace.secret(OPERATOR_KEY)
    if known is not None:
        return known
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", "key", "add", "--operator", "--description", "postlane up", "-o", "json"),
        env=environment_of("control", workspace, plan),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await process.communicate()
    if process.returncode != 0:
        raise ChildFailed(f"no operator key could be made: {complaint.decode(errors='replace').strip()}")
    key = str(json.loads(output)["api_key"])
    workspace.keep_secret(OPERATOR_KEY, key)
    return key


async def run(wishes: Wishes, tell: Callable[[str], None]) -> None:
    """Bring everything up and stay until SIGINT, SIGTERM or, unless started under `nohup`, the terminal is closed."""
    stopping = asyncio.Event()
    main = asyncio.current_task()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not up and main is not None:
            main.cancel()  # still starting: give up the start in good order
        stopping.set()

    up = False
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, stop)
    try:
        async with running(wishes, tell) as state:
            up = True
            tell(describe(state))
            await stopping.wait()
            tell("stopping: transactions under way are finished first")
    except asyncio.CancelledError:
        if not stopping.is_set():
            raise
    tell("stopped; everything accepted is kept in " + str(wishes.data))
