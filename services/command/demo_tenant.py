"""The demo tenant of the sandbox: made once, then found again."""

import asyncio
import sys
from pathlib import Path

from services.command.customer import ApiRefused, Customer, TxtRecord
from services.command.workspace import Tenant, Workspace

NAME = "demo"
DOMAIN = "demo.example"
MX_NAME = "mx.sandbox.example"
CLIENTS = ("127.0.0.0/8", "::1/128")
VERIFY_TRIES = 40
VERIFY_PAUSE_SECONDS = 0.25


async def publish(directory: Path, *arguments: str) -> None:
    """Change the sandbox's DNS through its own command.

    Errors: `ApiRefused` with what the command said.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", "sandbox", "dns", *arguments, "--directory", str(directory)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise ApiRefused(f"the sandbox's DNS was not changed: {output.decode(errors='replace').strip()}")


async def pretend_world(directory: Path, address: str, spf_include: str, egress: str) -> None:
    """Publish what the Internet would have: an exchanger for every domain, and the relay's own SPF record."""
    await publish(directory, "set", MX_NAME, "A", address)
    await publish(directory, "set", "*.example", "MX", f"10 {MX_NAME}")
    await publish(directory, "set", spf_include, "TXT", f"v=spf1 ip4:{egress} -all")


async def publish_records(directory: Path, domain: str, address: str, records: list[TxtRecord]) -> None:
    """Publish a customer's records in the sandbox."""
    await publish(directory, "set", domain, "A", address)
    await publish(directory, "set", domain, "MX", f"10 {MX_NAME}")
    for record in records:
        await publish(directory, "set", record.name, "TXT", record.value)


async def verified(customer: Customer, instance: str, configuration: str) -> None:
    """Have the records checked until they are found.

    Errors: `ApiRefused` if they are not after `VERIFY_TRIES`.
    """
    found: dict[str, str] = {}
    for _ in range(VERIFY_TRIES):
        found = await customer.verify(instance, configuration)
        if found["spf"] == found["dkim"] == "SUCCESSFUL":
            return
        await asyncio.sleep(VERIFY_PAUSE_SECONDS)
    raise ApiRefused(f"the records in the sandbox's DNS were not verified: {found}")


async def ensure_demo_tenant(workspace: Workspace, url: str, operator_key: str) -> Tenant:
    """Return the demo tenant, making it at the first start."""
    known = workspace.tenant()
    if known is not None:
        return known
    directory = workspace.root / "sandbox"
    customer = Customer(url, operator_key)
    try:
        await pretend_world(directory, "127.0.0.1", "spf.postlane.example", "192.0.2.25")
        tenant = await make_tenant(customer, directory, "127.0.0.1", CLIENTS)
    finally:
        await customer.close()
    workspace.keep_tenant(tenant)
    return tenant


async def make_tenant(customer: Customer, directory: Path, address: str, clients: tuple[str, ...]) -> Tenant:
    """Bring a demo tenant up as a customer and an operator would.

    Errors: `ApiRefused` names the step that failed.
    """
    await customer.forget(NAME, DOMAIN)
    instance = await customer.instance(NAME)
    configuration, records = await customer.configuration(instance, DOMAIN)
    await publish_records(directory, DOMAIN, address, records)
    await customer.authorize(instance, configuration, DOMAIN)
    await verified(customer, instance, configuration)
    username, password = await customer.user(instance, configuration)
    await customer.open_to(instance, clients)
    return Tenant(
        instance_id=instance,
        configuration_id=configuration,
        domain=DOMAIN,
        username=username,
        password=password,
        api_key=await customer.api_key(instance),
    )
