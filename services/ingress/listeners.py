"""The sockets ingress listens on: public and private endpoint, each with STARTTLS and with TLS from the first octet."""

import asyncio
import errno
import socket
import ssl
from typing import NamedTuple

from services.ingress.balancer import read_header
from services.ingress.core.access import IpAddress, peer_address
from services.ingress.core.refusal import Refusal
from services.ingress.desk import Desk
from services.ingress.refusals import Party
from services.ingress.session import Endpoint
from services.ingress.submission import Submission
from shared.contract.errors import SettingsFault
from shared.mail import reply

BACKLOG = 1024
FULL_PAUSE_SECONDS = 0.1
"""Pause after the process or the system has run out of file descriptors."""


class _Kind(NamedTuple):
    setting: str
    endpoint: Endpoint
    implicit_tls: bool
    places: tuple[str, ...]


class Listeners:
    """All listening sockets of the process; closed by their owner."""

    def __init__(self, desk: Desk) -> None:
        """Prepare; nothing listens yet."""
        self._desk = desk
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._acceptors: list[asyncio.Task[None]] = []
        self.bound: dict[str, list[str]] = {}
        """Setting to the host:port it stands for, also where port 0 was asked for."""

    async def open(self) -> None:
        """Listen wherever the settings say. Raises `SettingsFault` naming the address that cannot be had."""
        settings = self._desk.settings
        for kind in (
            _Kind("public_listen", "public", False, settings.public_listen),
            _Kind("public_tls_listen", "public", True, settings.public_tls_listen),
            _Kind("private_listen", "private", False, settings.private_listen),
            _Kind("private_tls_listen", "private", True, settings.private_tls_listen),
        ):
            for place in kind.places:
                for sock in await self._bind(kind.setting, place):
                    await self._serve(kind, sock)

    def close(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()
        for acceptor in self._acceptors:
            acceptor.cancel()

    async def _serve(self, kind: _Kind, sock: socket.socket) -> None:
        name = _name(sock)
        self.bound.setdefault(kind.setting, []).append(name)
        if kind.implicit_tls or self._desk.settings.proxy_networks:
            # Octets must not be read before TLS or a PROXY header has had them: accepted by hand.
            sock.listen(BACKLOG)
            acceptor = self._desk.tasks.create_task(self._accept(kind, sock), name=f"acceptor of {name}")
            self._acceptors.append(acceptor)
        else:
            self._servers.append(
                await self._loop.create_server(
                    lambda: Submission(self._desk, kind.endpoint, self._loop), sock=sock, backlog=BACKLOG
                )
            )
        self._desk.log.info(
            "listening", extra={"endpoint": kind.endpoint, "implicit_tls": kind.implicit_tls, "bound": name}
        )

    async def _bind(self, setting: str, place: str) -> list[socket.socket]:
        host, separator, port = place.rpartition(":")
        if not separator or not port.isdigit() or int(port) > 65_535:
            raise SettingsFault(f"POSTLANE_INGRESS_{setting.upper()}: {place!r} is not host:port")
        try:
            found = await self._loop.getaddrinfo(
                host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            return [self._bound(family, address) for family, _, _, _, address in found]
        except OSError as fault:
            raise SettingsFault(
                f"cannot listen on {place}: {fault.strerror or fault}; "
                f"free the port or change POSTLANE_INGRESS_{setting.upper()}"
            ) from fault

    def _bound(self, family: int, address: tuple[object, ...]) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self._desk.settings.share_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
        return sock

    async def _accept(self, kind: _Kind, listening: socket.socket) -> None:
        with listening:
            while True:
                try:
                    accepted, peer = await self._loop.sock_accept(listening)
                except OSError as fault:
                    if fault.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                        self._desk.log.error("no connection can be accepted: %s", fault.strerror)
                        await asyncio.sleep(FULL_PAUSE_SECONDS)
                    continue
                self._desk.tasks.create_task(self._begin(kind, accepted, peer_address(peer[0])), name="new connection")

    async def _begin(self, kind: _Kind, accepted: socket.socket, address: IpAddress | None) -> None:
        """Do what comes before SMTP: PROXY header, count, TLS handshake."""
        desk = self._desk
        client = await self._client(accepted, address)
        # Counted before the handshake; a client without TLS is counted, and told, by its session.
        broken = desk.connections.enter(client) if client is not None and kind.implicit_tls else ""
        if client is None or broken:
            accepted.close()
            if client is not None:
                self._turned_away(client, broken)
            return
        counted = kind.implicit_tls
        session = Submission(desk, kind.endpoint, self._loop, client, counted)
        try:
            if kind.implicit_tls:  # RFC 8314 §3.3
                await self._loop.connect_accepted_socket(
                    lambda: session,
                    accepted,
                    ssl=desk.certificate.context,
                    ssl_handshake_timeout=desk.settings.handshake_seconds,
                    ssl_shutdown_timeout=desk.settings.handshake_seconds,
                )
            else:
                await self._loop.connect_accepted_socket(lambda: session, accepted)
        except (OSError, ssl.SSLError) as fault:
            desk.log.info("a connection did not begin: %s", fault, extra={"client": str(client)})
            session.session.address = client
            await desk.sightings.left(session.session, f"tls: {fault}")
        finally:
            if counted and not session.begun:
                desk.connections.leave(client, stranger=True)

    def _turned_away(self, client: IpAddress, broken: str) -> None:
        """Tell the operator of a client that was told nothing, for a handshake is what there is no room for."""
        refusal = Refusal(reply.TOO_MANY_CONNECTIONS, broken)
        self._desk.refusals.record(refusal, "connect", Party(client_address=str(client)))
        self._desk.metrics.refused.labels("connect", str(refusal.reply.code)).inc()

    async def _client(self, accepted: socket.socket, address: IpAddress | None) -> IpAddress | None:
        """Return whom the connection is from, behind a balancer as its header says; None: do not talk."""
        if address is None or not self._desk.trusts(address):
            return address
        header = await read_header(accepted, self._desk.settings.proxy_header_seconds)
        if header is None:
            self._desk.log.warning("a balancer sent no valid PROXY header", extra={"balancer": str(address)})
            return None
        return header.address or address


def _name(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
