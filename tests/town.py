"""Control, a verifier and real DNS, and two tenants of which one has a domain that the other wants."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from services.control.keys import add_operator_key
from tests.browser import Browser
from tests.bus_server import BusServer
from tests.control_process import Api, Control
from tests.verifier_world import World, world_of

DOMAIN = "wanted.example"
PROOF_AT = "_postlane-challenge.wanted.example"


class Town(NamedTuple):
    """A verifier, a control, and two instances, the first of which has the domain."""

    world: World
    api: Api
    old: str
    new: str
    configuration: str

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Call the API beside the event loop, where DNS is served."""
        answer = await asyncio.to_thread(self.api.request, method, path, json=body)
        return answer.status_code, answer.json() if answer.content else None

    async def visitor(self, role: str, instance: str) -> "Visitor":
        """Return somebody in the console, with a key made for a tenant."""
        _, key = await self.call("POST", "/v1/postlane/keys", {"role": role, "instance": instance})
        browser = Browser(str(self.api.base_url).rstrip("/"))
        await asyncio.to_thread(browser.sign_in, key["api_key"])
        return Visitor(browser)


class Visitor:
    """A browser used beside the event loop."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    @property
    def page(self) -> str:
        """The page it shows."""
        return self._browser.page

    async def open(self, where: str, status: int = 200) -> str:
        """Open a page; return its text."""
        return await asyncio.to_thread(self._browser.open, where, status)

    async def submit(self, action: str, status: int = 200, **answers: str) -> str:
        """Fill in the form that goes there; return the page that follows."""
        return await asyncio.to_thread(self._browser.submit, action, answers, status)

    async def post(self, where: str, status: int, **form: str) -> str:
        """Send a form that the page does not have; return the page that follows."""
        return await asyncio.to_thread(self._browser.post, where, status, **form)


@asynccontextmanager
async def town_of(bus_server: BusServer, directory: Path) -> AsyncIterator[Town]:
    """Start all of it, and end it in good order."""
    control = Control(directory, bus_server)
    key = await add_operator_key(control.environment, None, "tests")  # first, so that it is known from the start
    await asyncio.to_thread(control.start)
    async with world_of(bus_server, directory) as world:
        await world.verifier()
        with control.client(key) as api:
            old, new = api.instance("old"), api.instance("new")
            configuration = api.configuration(old, DOMAIN)
            await world.checked_again(configuration, times=1)  # the verifier is at work
            yield Town(world, api, old, new, configuration)
        assert await asyncio.to_thread(control.stop) == 0
