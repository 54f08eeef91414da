"""Wires the sandbox: a name server and a mail exchanger, until the process is told to stop."""

from collections.abc import Mapping
from pathlib import Path

from services.sandbox.exchanger import Exchanger
from services.sandbox.nameserver import NameServer
from services.sandbox.settings import SandboxSettings
from shared.contract.errors import SettingsFault
from shared.runtime.lifecycle import Room, health_settings, run
from shared.runtime.settings import load


def main(environ: Mapping[str, str], file: Path | None = None) -> int:
    """Run the sandbox; return the exit status."""
    settings = load(SandboxSettings, "sandbox", environ, file)
    dns_at, mx_at = address(settings.dns_listen, "dns_listen"), address(settings.mx_listen, "mx_listen")

    async def pretend(room: Room) -> None:
        room.ready("dns", False, "it is starting")
        room.ready("mx", False, "it is starting")
        exchanger = Exchanger(settings)
        names = NameServer(settings.directory, settings.ttl_seconds, settings.idle_seconds)
        try:
            dns_port = await names.start(*dns_at)
            room.ready("dns", True)
            mx_port = await exchanger.start(*mx_at)
            room.ready("mx", True)
            room.log.info(
                "the sandbox pretends to be the Internet",
                extra={"dns": f"{dns_at[0]}:{dns_port}", "mx": f"{mx_at[0]}:{mx_port}"},
            )
            await room.stopping.wait()
        finally:
            await names.close()
            await exchanger.close()

    return run("sandbox", pretend, health_settings(environ, file))


def address(text: str, setting: str) -> tuple[str, int]:
    """Split host:port; an IPv6 host stands in brackets.

    Errors: `SettingsFault`.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsFault(f"POSTLANE_SANDBOX_{setting.upper()} must be host:port, it is {text!r}")
    return host.strip("[]"), int(port)
