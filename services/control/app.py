"""Wires control: bus, directory, API; serves it until the process is told to stop."""

import contextlib
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvicorn

from services.control.api.application import make_application
from services.control.api.desk import Desk
from services.control.console.application import Front, make_console
from services.control.core.endpoints import parse_endpoints
from services.control.directory import Directory
from services.control.settings import ControlSettings
from shared.bus.client import connect
from shared.bus.roll_call import answer_roll_call
from shared.bus.settings import BusSettings
from shared.contract.errors import PostlaneError, SettingsFault
from shared.runtime.clock import now
from shared.runtime.lifecycle import Room, health_settings, run
from shared.runtime.sealing import read_master_key
from shared.runtime.server_certificate import Certificate, server_context
from shared.runtime.settings import load

BACKLOG = 2048
TOLD_AGAIN = timedelta(hours=1)
"""What was decided so shortly before the start may not have been told."""


class CannotListen(PostlaneError, OSError):
    """The address of the API cannot be listened on."""


class _Server(uvicorn.Server):
    """A server that leaves the signals to the room."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: `Room.stopping` is how the process ends."""
        yield


def _certificate(settings: ControlSettings) -> Certificate | None:
    """Return the API's certificate, None if it is served without TLS.

    Errors: `SettingsFault` if only one of its files is named, or they cannot be used.
    """
    if settings.tls_certificate_file is None and settings.tls_key_file is None:
        return None
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        raise SettingsFault(
            "POSTLANE_CONTROL_TLS_CERTIFICATE_FILE and POSTLANE_CONTROL_TLS_KEY_FILE belong together: set both or none"
        )
    return Certificate(settings.tls_certificate_file, settings.tls_key_file, "CONTROL")


def _context(certificate: Certificate) -> ssl.SSLContext:
    """Return the context the server keeps: each handshake goes on with the certificate of that moment."""
    context = server_context(*certificate.files)

    def present(handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        handshake.context = certificate.context

    context.sni_callback = present
    return context


def _application(desk: Desk) -> Any:
    api = make_application(desk)
    return Front(api, make_console(api, desk.settings)) if desk.settings.console else api


def _listener(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except (OSError, ValueError) as fault:
        raise CannotListen(
            f"cannot listen on {listen}: {fault}; set POSTLANE_CONTROL_LISTEN to a free host:port"
        ) from fault


def main(environ: Mapping[str, str], file: Path | None) -> int:
    """Run control until SIGTERM; return the exit status."""
    settings = load(ControlSettings, "control", environ, file)
    bus_settings = load(BusSettings, "bus", environ, file)
    try:
        parse_endpoints(settings.endpoints)
    except ValueError as fault:
        raise SettingsFault(f"POSTLANE_CONTROL_ENDPOINTS: {fault}") from fault

    certificate = _certificate(settings)

    async def live(room: Room) -> None:
        await serve(room, settings, bus_settings, certificate)

    return run("control", live, health_settings(environ, file))


async def serve(
    room: Room, settings: ControlSettings, bus_settings: BusSettings, certificate: Certificate | None = None
) -> None:
    """Serve the API until the room is stopping; requests in hand are finished."""
    master_key = read_master_key(settings.master_key_file)
    room.ready("directory", False, "waiting for the bus")
    bus = await room.unless_stopped(connect(bus_settings, "control"))
    bus.on_connection(lambda connected: room.ready("bus", connected, "the bus cannot be reached"))
    await answer_roll_call(bus, room.conditions.failing)
    directory = Directory(bus, settings.lapse_seconds)
    await directory.start(room.tasks)
    room.ready("directory", True)
    desk = Desk(bus, directory, settings, master_key)
    room.tasks.create_task(desk.signing_keys.finish_by_themselves(), name="rotations")
    room.tasks.create_task(desk.decisions.tell_again(now() - TOLD_AGAIN), name="notices")
    desk.keys.uses.start(room.tasks)
    listener = _listener(settings.listen)
    if certificate is not None:
        room.tasks.create_task(certificate.follow(settings.tls_reload_seconds), name="certificate")
    server = _Server(
        uvicorn.Config(
            _application(desk),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=int(settings.drain_seconds) or 1,
            ssl_context_factory=None if certificate is None else lambda _config, _default: _context(certificate),
        )
    )
    serving = room.tasks.create_task(server.serve(sockets=[listener]), name="api")
    room.log.info("the management API listens on %s, %s TLS", settings.listen, "with" if certificate else "without")
    try:
        await room.stopping.wait()
    finally:
        server.should_exit = True
        await serving
        await desk.keys.uses.leave()
        desk.close()
        await bus.close()
