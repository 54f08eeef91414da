"""`postlane provision`: brings the bus to what the catalogue declares."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.bus.client import connect
from shared.bus.permissions import ADMINISTRATOR
from shared.bus.provision import provision
from shared.bus.settings import BusSettings, Topology
from shared.runtime import logs
from shared.runtime.settings import load


async def run(environ: Mapping[str, str], file: Path | None) -> None:
    """Connect as the administrator, waiting for the bus, and provision.

    Errors: `SettingsFault`, `BusUnavailable`, `ProvisionFailed`.
    """
    logs.configure()
    settings = load(BusSettings, "bus", environ, file)
    if not settings.user:
        settings = msgspec.structs.replace(settings, user=ADMINISTRATOR)
    topology = load(Topology, "topology", environ, file)
    bus = await connect(settings, ADMINISTRATOR)
    try:
        await provision(bus, settings, topology)
    finally:
        await bus.close()
