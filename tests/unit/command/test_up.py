"""What `postlane up` promises before anything runs: ports, data directory, environments, secrets."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from services.command import ports
from services.command.ports import Ports, PortTaken, check, free_port, free_ports
from services.command.rooms import ROOMS, Plan, environment_of
from services.command.stack_init import initialise
from services.command.supervisor import Child, Supervisor
from services.command.workspace import Tenant, Workspace, WorkspaceBusy
from shared.bus.permissions import users
from shared.bus.settings import Topology


def test_a_port_in_use_is_named_with_its_option() -> None:
    """The error says which port, and which option takes another."""
    ports = free_ports()
    check(ports, sandbox=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports.private_smtp))
        taken.listen()

        with pytest.raises(PortTaken) as fault:
            check(ports, sandbox=True)

    assert f"port {ports.private_smtp} " in str(fault.value)
    assert "--private-smtp-port" in str(fault.value)
    assert "--auto-ports" in str(fault.value)


def test_the_sandboxs_ports_matter_only_with_the_sandbox() -> None:
    """Somebody else's name server does not stop a system without the sandbox."""
    ports = free_ports()
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", ports.dns))
        check(ports, sandbox=False)
        with pytest.raises(PortTaken, match="--dns-port"):
            check(ports, sandbox=True)


def test_a_data_directory_serves_one_system_at_a_time(tmp_path: Path) -> None:
    """A second `up` on the same directory is told so; after the first ends it may."""
    first, second = Workspace(tmp_path), Workspace(tmp_path)
    first.prepare()
    with pytest.raises(WorkspaceBusy, match="--data"):
        second.prepare()
    first.release()
    second.prepare()
    second.release()


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    """A second start finds the same secrets; nobody else can read them."""
    workspace = Workspace(tmp_path)
    workspace.prepare()
    before = {user: workspace.secret(f"bus-{user}") for user in users()}
    tenant = Tenant(instance_id="i", configuration_id="c", domain="d", username="u", password="p", api_key="k")
    workspace.keep_tenant(tenant)
    workspace.release()
    workspace.prepare()

    assert {user: workspace.secret(f"bus-{user}") for user in users()} == before
    assert len(set(before.values())) == len(before)
    assert workspace.tenant() == tenant
    assert {file.stat().st_mode & 0o077 for file in (tmp_path / "secrets").iterdir()} == {0}
    workspace.release()


def test_a_room_is_told_only_its_own_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room's environment names another room's password, and settings of other rooms are not passed on."""
    monkeypatch.setenv("POSTLANE_CONTROL_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("POSTLANE_INGRESS_RECIPIENTS", "7")
    workspace = Workspace(tmp_path)
    plan = Plan(ports=Ports(), health=dict.fromkeys(ROOMS, 1), sandbox=False, nats_server=tmp_path)

    for room in ROOMS:
        environment = environment_of(room, workspace, plan)
        foreign = [
            name
            for name in environment
            if name.startswith("POSTLANE_")
            and not name.startswith(("POSTLANE_BUS_", "POSTLANE_HEALTH_", f"POSTLANE_{room.upper()}_"))
        ]
        assert foreign == []
        assert environment["POSTLANE_BUS_PASSWORD_FILE"].endswith(f"bus-{room}")
    assert environment_of("ingress", workspace, plan)["POSTLANE_INGRESS_RECIPIENTS"] == "7"
    assert environment_of("control", workspace, plan)["POSTLANE_CONTROL_LISTEN"] == "127.0.0.1:1"


def test_the_stacks_secrets_are_made_once_and_apart(tmp_path: Path) -> None:
    """Each room's directory has its own password; the master key is with delivery and control only."""
    for name in ("public", "nats"):
        (tmp_path / name).mkdir()
    told = initialise(tmp_path, "mail.example", Topology())
    kept = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    again = initialise(tmp_path, "mail.example", Topology())

    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == kept
    assert len(told) > len(again)
    assert {file.parent.name for file in kept if file.name == "master-key"} == {"delivery", "control"}
    assert len({(tmp_path / room / "bus").read_text() for room in ROOMS}) == len(ROOMS)


def test_three_servers_know_one_another(tmp_path: Path) -> None:
    """Each has a configuration of its own name; what they show one another is no room's, and kept."""
    servers = ("nats", "nats-2", "nats-3")
    initialise(tmp_path, "mail.example", Topology(), servers)
    written = {server: (tmp_path / "nats" / f"{server}.conf").read_text() for server in servers}
    secret = (tmp_path / "nats" / "route").read_text().strip()
    for server, text in written.items():
        assert f'server_name: "{server}"' in text
        assert all(f"nats://route:{secret}@{each}:6222" in text for each in servers)
        assert "sync_interval: always" in text
    assert {file.name for file in tmp_path.rglob("*") if file.is_file() and secret in file.read_text()} == {
        "route", *(f"{server}.conf" for server in servers)
    }  # fmt: skip
    initialise(tmp_path, "mail.example", Topology(), servers)
    assert {server: (tmp_path / "nats" / f"{server}.conf").read_text() for server in servers} == written
    initialise(tmp_path, "mail.example", Topology())
    assert "cluster" not in (tmp_path / "nats" / "nats.conf").read_text()


def test_free_ports_are_below_those_of_outgoing_connections() -> None:
    """A connection that anything on the machine opens meanwhile cannot take them."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port(udp_too=True) < first for _ in range(50))


def test_no_free_port_is_given_twice() -> None:
    """A process that asks for many before it uses them gets as many different ones."""
    given = [free_port() for _ in range(2_000)]
    assert len(set(given)) == len(given)


def test_no_two_processes_are_given_the_same_ports() -> None:
    """Each has its own as long as it lives, also those it does not listen on yet; this one knows none of the others."""
    program = "from services.command import ports; print(*(ports.free_port() for _ in range(250)), flush=True); input()"
    command = [sys.executable, "-c", program]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(8)]
    try:
        given = [port for child in children if child.stdout is not None for port in child.stdout.readline().split()]
        assert len(given) == len(set(given)) == 2_000
    finally:
        for child in children:
            child.communicate(b"\n", 30)


def test_of_those_of_its_own_a_process_begins_again_with_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not take more and more from the others; where nothing can be held it has ports all the same."""
    monkeypatch.setattr(ports, "_own", {})
    monkeypatch.setattr(ports, "_turns", iter(()))
    monkeypatch.setattr(ports, "STRIPES", 2)
    assert len({free_port() for _ in range(1_000)}) <= 2 * ports.STRIPE
    monkeypatch.setattr(ports, "_own", {})
    monkeypatch.setattr(ports, "_turns", iter(()))
    monkeypatch.setattr(ports, "_hold", lambda _stripe: False)
    assert len({free_port() for _ in range(1_000)}) == 1_000


async def test_a_child_that_ends_is_told_with_its_last_line(tmp_path: Path) -> None:
    """Whoever starts the system reads the reason, not only the name of a log."""
    told: asyncio.Queue[str] = asyncio.Queue()
    child = Child(
        name="control",
        command=(sys.executable, "-c", "import sys; sys.exit('port 1 is taken')"),
        environment={},
        log_file=tmp_path / "log",
        pid_file=tmp_path / "pid",
    )
    async with asyncio.TaskGroup() as tasks:
        supervisor = Supervisor(tasks, told.put_nowait)
        supervisor.start(child)
        sentence = await told.get()
        await supervisor.stop(["control"])

    assert "control ended (status 1)" in sentence
    assert sentence.endswith("port 1 is taken")
