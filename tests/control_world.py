"""Two replicas of control on one bus, an operator, and tenants made for tests."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from services.control.keys import add_operator_key
from shared.bus.kv import Bucket
from shared.contract.events import NoticeRequested
from shared.contract.records import DirectoryRecord
from tests.bus_server import started
from tests.conftest import SMALL
from tests.control_process import Control
from tests.system import eventually

SMTP_API_TYPE = "crn:v1:bluemix:public:event-notifications::::api-type:smtp-configuration"
ANSWERS = {
    "nature": "transactional",
    "website": "https://acme.example/",
    "list_source": "Registered users",
    "bounces_and_complaints": "Removed at once",
    "unsubscribe": "In the application",
    "quota_rationale": "Ten a day for each user",
    "list_cleaning": "Weekly",
    "contacts": ["a@acme.example"],
    "reply_to": "bounces@acme.example",
    "only_to_requesters": True,
    "unsubscribe_link": True,
}


class World:
    """One bus, two replicas of control, an operator."""

    def __init__(self, directory: Path, **settings: str) -> None:
        (directory / "nats").mkdir()
        self.bus = started(directory / "nats", SMALL)
        self.control = Control(directory, self.bus, **settings)
        self.other = Control(directory, self.bus, **settings)
        self.directory = directory
        self.key = asyncio.run(add_operator_key(self.control.environment, None, "tests"))
        self.control.start()  # only now, so that both know the key
        self.other.start()
        self.operator = self.control.client(self.key)
        self.elsewhere = self.other.client(self.key)
        """The operator at the other replica, which hears of changes a moment later."""
        self._count = 0

    def close(self) -> None:
        """End everything; both replicas end in good order."""
        self.operator.close()
        self.elsewhere.close()
        assert self.control.stop() == 0
        assert self.other.stop() == 0
        self.bus.stop()

    def domain(self) -> str:
        """Return a domain that no other test uses."""
        self._count += 1
        return f"d{self._count}.example"

    def tenant(self) -> "Tenant":
        """Make a tenant that both replicas know."""
        tenant = Tenant(self, self.operator.instance())
        last = f"/v1/rules/{tenant.rule['id']}"
        eventually("the other replica knows the tenant", lambda: self.elsewhere.get(last).status_code == 200)
        return tenant

    def records(self) -> dict[str, DirectoryRecord]:
        """Return the whole directory, as it lies on the bus."""

        async def read() -> dict[str, DirectoryRecord]:
            bus = await self.bus.connect("control")
            bucket: Bucket[DirectoryRecord] = Bucket(bus, "directory", DirectoryRecord)
            try:
                return {entry.key: entry.record for entry in await bucket.entries()}
            finally:
                await bus.close()

        return asyncio.run(read())

    def notices(self) -> list[NoticeRequested]:
        """Return every notice that was asked for; no delivery runs here that would take them."""

        async def read() -> list[NoticeRequested]:
            bus = await self.bus.connect("provision")
            try:
                found = [stored.payload async for stored in bus.scan("NOTICES", "postlane.notice.>")]
            finally:
                await bus.close()
            return [msgspec.json.decode(payload, type=NoticeRequested) for payload in found]

        return asyncio.run(read())


class Tenant:
    """An instance with a configuration, a user, a zone, a rule, and keys of both roles."""

    def __init__(self, world: World, instance: str) -> None:
        self.id = instance
        self.domain = world.domain()
        self.operator = world.operator
        keys = {role: self._key(world, role) for role in ("manager", "reader")}
        self.manager, self.reader = world.control.client(keys["manager"]), world.control.client(keys["reader"])
        self.configuration = self.manager.configuration(instance, self.domain)
        self.path = f"/v1/instances/{instance}/smtp/config/{self.configuration}"
        self.own = f"/v1/postlane/instances/{instance}/configurations/{self.configuration}"
        self.user = self.manager.made(f"{self.path}/users", {})
        self.zone = self.manager.made("/v1/zones", self.zone_body("office"))
        self.rule = self.manager.made("/v1/rules", self.rule_body(self.zone["id"]))

    def _key(self, world: World, role: str) -> str:
        return str(world.operator.made("/v1/postlane/keys", {"role": role, "instance": self.id})["api_key"])

    def zone_body(self, name: str, *addresses: str) -> dict[str, Any]:
        """Return a zone of addresses."""
        listed = [{"type": "ipAddress", "value": value} for value in addresses or ("192.0.2.1",)]
        return {"name": name, "account_id": self.id, "addresses": listed}

    def rule_body(self, *zones: str, **changes: Any) -> dict[str, Any]:
        """Return a rule that lets zones in."""
        resource = {"accountId": self.id, "serviceName": "event-notifications"}
        return {
            "contexts": [{"attributes": [{"name": "networkZoneId", "value": ",".join(zones)}]}],
            "resources": [{"attributes": [{"name": name, "value": value} for name, value in resource.items()]}],
            "operations": {"api_types": [{"api_type_id": SMTP_API_TYPE}]},
            **changes,
        }
