"""The sockets ingress listens on: public and private endpoint, each with STARTTLS and with TLS from the first octet."""

import asyncio
import socket
from functools import partial

from services.ingress.desk import Desk
from services.ingress.session import Endpoint
from services.ingress.settings import IngressSettings
from services.ingress.submission import Submission
from shared.contract.errors import SettingsFault

BACKLOG = 1024


class Listeners:
    """All listening sockets of the process; closed by their owner."""

    def __init__(self) -> None:
        """Start with none."""
        self._servers: list[asyncio.Server] = []
        self.bound: dict[str, list[str]] = {}
        """Kind of listener to the host:port it really has, also where port 0 was asked for."""

    async def open(self, desk: Desk) -> None:
        """Listen wherever the settings say. Raises `SettingsFault` naming the address that cannot be had."""
        settings = desk.settings
        kinds: tuple[tuple[str, Endpoint, bool, tuple[str, ...]], ...] = (
            ("public_listen", "public", False, settings.public_listen),
            ("public_tls_listen", "public", True, settings.public_tls_listen),
            ("private_listen", "private", False, settings.private_listen),
            ("private_tls_listen", "private", True, settings.private_tls_listen),
        )
        for name, endpoint, implicit, places in kinds:
            for place in places:
                server = await _listen(name, place, partial(Submission, desk, endpoint, implicit), settings)
                self._servers.append(server)
                names = [_name(sock) for sock in server.sockets]
                self.bound.setdefault(name, []).extend(names)
                desk.log.info("listening", extra={"endpoint": endpoint, "implicit_tls": implicit, "at": names})

    def close(self) -> None:
        """Take no more connections."""
        for server in self._servers:
            server.close()


async def _listen(name: str, place: str, make: "partial[Submission]", settings: IngressSettings) -> asyncio.Server:
    host, separator, port = place.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65_535:
        raise SettingsFault(f"POSTLANE_INGRESS_{name.upper()}: {place!r} is not host:port")
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(
            lambda: make(loop),
            host.strip("[]") or None,
            int(port),
            backlog=BACKLOG,
            reuse_port=True if settings.share_port else None,
        )
    except OSError as fault:
        raise SettingsFault(
            f"cannot listen on {place}: {fault.strerror or fault}; "
            f"free the port or change POSTLANE_INGRESS_{name.upper()}"
        ) from fault


def _name(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
