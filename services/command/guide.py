"""`postlane guide`: the container that makes the stack's demo tenant, says how to send, and stays for `exec`."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import httpx
from msgspec import Meta

from services.command.customer import ApiRefused, Customer
from services.command.demo_tenant import make_tenant, pretend_world
from services.command.profile import profile_file, read_profile, write_profile
from services.command.workspace import Tenant
from shared.contract.errors import PostlaneError
from shared.runtime.health import Conditions, HealthServer, HealthSettings
from shared.runtime.settings import Settings

READY_SECONDS = 120.0
PATIENCE_SECONDS = 120.0
"""For a call whose replica or room is not there yet: the API may be ready long before the verifier is."""
TRIES = 3
PAUSE_SECONDS = 2.0


class GuideSettings(Settings, frozen=True, kw_only=True):
    """Where the guide finds the stack it explains. Names: `POSTLANE_GUIDE_…`."""

    url: Annotated[str, Meta(description="management API, as seen from the guide")]
    smtp: Annotated[str, Meta(description="host:port of submission, as seen from the guide")]
    published_smtp: Annotated[str, Meta(description="host:port of submission, as seen from the host")]
    mx_address: Annotated[str, Meta(description="address of the sandbox's exchanger")]
    clients: Annotated[tuple[str, ...], Meta(description="networks the demo tenant's rule admits")]
    spf_include: Annotated[str, Meta(description="name of the relay's own SPF record")] = "spf.postlane.example"
    egress_address: Annotated[str, Meta(description="address that record names")] = "192.0.2.25"
    sandbox_directory: Annotated[Path, Meta(description="the sandbox's directory")] = Path("/var/lib/postlane/sandbox")
    ca_file: Annotated[Path, Meta(description="CA of the relay's certificate")] = Path("/run/postlane/public/ca.pem")


async def run(settings: GuideSettings, health: HealthSettings) -> None:
    """Make the tenant once, then stay until SIGTERM.

    Errors: `ApiRefused`, or `GuideLost` if the stack does not come up.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    from prometheus_client import CollectorRegistry

    conditions = Conditions()
    server = HealthServer("guide", conditions, CollectorRegistry())
    if health.listen:
        await server.start(health.listen)
    try:
        profile = read_profile()
        if "username" not in profile:
            profile = await _make(settings)
            profile_file().parent.mkdir(parents=True, exist_ok=True)
            write_profile(profile)
        conditions.set("start", True)
        print(_explanation(settings, profile), flush=True)
        await stopping.wait()
    finally:
        await server.close()


class GuideLost(PostlaneError, TimeoutError):
    """The stack's API did not come up in time."""


async def _make(settings: GuideSettings) -> dict[str, str]:
    await _api_up(settings.url)
    key = await _operator_key()
    customer = Customer(settings.url, key, PATIENCE_SECONDS)
    try:
        await pretend_world(
            settings.sandbox_directory, settings.mx_address, settings.spf_include, settings.egress_address
        )
        tenant = await _tenant(customer, settings)
    finally:
        await customer.close()
    return {
        "url": settings.url,
        "api_key": key,
        "instance": tenant.instance_id,
        "smtp": settings.smtp,
        "username": tenant.username,
        "password": tenant.password,
        "domain": tenant.domain,
        "ca_file": str(settings.ca_file),
    }


async def _tenant(customer: Customer, settings: GuideSettings) -> Tenant:
    """Make the demo tenant, from the beginning again if a step fails: a repeated call may have met its own effect."""
    for _ in range(TRIES - 1):
        try:
            return await make_tenant(customer, settings.sandbox_directory, settings.mx_address, settings.clients)
        except ApiRefused as fault:
            sys.stderr.write(f"the demo tenant could not be made, it is begun again: {fault}\n")
            await asyncio.sleep(PAUSE_SECONDS)
    return await make_tenant(customer, settings.sandbox_directory, settings.mx_address, settings.clients)


async def _api_up(url: str) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(timeout=3, trust_env=False) as client:
            while True:
                try:
                    if (await client.get(f"{url}/readyz")).status_code == httpx.codes.OK:
                        return
                except httpx.HTTPError:
                    pass  # not there yet
                await asyncio.sleep(0.5)
    except TimeoutError as fault:
        raise GuideLost(
            f"the API at {url} is not ready after {READY_SECONDS:.0f} s: see `docker compose ps`"
        ) from fault


async def _operator_key() -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", "key", "add", "--operator", "--description", "guide", "-o", "json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await process.communicate()
    if process.returncode != 0:
        raise GuideLost(f"no operator key could be made: {complaint.decode(errors='replace').strip()}")
    return str(json.loads(output)["api_key"])


def _explanation(settings: GuideSettings, profile: dict[str, str]) -> str:
    host, _, port = settings.published_smtp.rpartition(":")
    return "\n".join(
        (
            "The demo tenant is ready. From the host:",
            (
                f"  swaks --server {host or '127.0.0.1'} --port {port} --tls --auth LOGIN"
                f" --auth-user {profile['username']} --auth-password {profile['password']}"
                f" --from app@{profile['domain']} --to delivered@inbox.example"
            ),
            "or from here:",
            "  docker compose exec guide postlane send-test",
            "and follow it by the queue ID of the answer:",
            "  docker compose exec guide postlane track QUEUE_ID --follow",
            "A browser on the host finds the console at the port of the API, /console (8580 unless you chose another);",
            "  docker compose exec guide postlane key add --operator -o json",
            "makes a key that signs in.",
        )
    )
