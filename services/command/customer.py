"""What a customer and an operator do to bring a domain up, over the management API: the demo's and `up`'s way in."""

import asyncio
from typing import Any

import httpx
import msgspec

from shared.contract.errors import PostlaneError

REQUEST_SECONDS = 30.0
PAUSE_SECONDS = 0.5
NOT_YET = frozenset({401, 404, 502, 503, 504})
"""Statuses behind a balancer, of a replica that has not heard of the last call, and of a room that is starting."""

ANSWERS: dict[str, Any] = {
    "nature": "transactional",
    "website": "https://www.demo.example/",
    "list_source": "Registered users of our application only",
    "bounces_and_complaints": "Bounced addresses are removed at once, complaints are answered within a day",
    "unsubscribe": "Every user can switch notifications off in the application",
    "quota_rationale": "Ten notifications a day for each of a hundred users",
    "list_cleaning": "Addresses that bounce are removed",
    "reply_to": "postmaster@demo.example",
    "contacts": ["postmaster@demo.example"],
    "only_to_requesters": True,
    "unsubscribe_link": True,
    "html_validation": "Templates are validated in CI",
}
"""A questionnaire as the demo tenant fills it in; addresses are put into the tenant's own domain."""


class ApiRefused(PostlaneError):
    """The management API refused a step of the onboarding; the text has its reason."""


class TxtRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A TXT record a customer publishes."""

    name: str
    value: str


class Customer:
    """Steps of an onboarding, each one call of the API; closed by `close`.

    With patience, what is only not there yet is asked for again for so long.
    """

    def __init__(self, url: str, key: str, patience_seconds: float = 0.0) -> None:
        self._patience_seconds = patience_seconds
        self._client = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=REQUEST_SECONDS, trust_env=False
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Call the API and return its JSON.

        Errors: `ApiRefused` with the API's own sentence.
        """
        answer = await self._answered(method, path, **options)
        if answer.is_error:
            try:
                reason = answer.json()["errors"][0]["message"]
            except (ValueError, LookupError, TypeError):
                reason = answer.text[:200]
            raise ApiRefused(f"{method} {path}: {answer.status_code} {reason}")
        return answer.json() if answer.content else None

    async def _answered(self, method: str, path: str, **options: Any) -> httpx.Response:
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience_seconds
        while True:
            try:
                answer = await self._client.request(method, path, **options)
                if answer.status_code not in NOT_YET or loop.time() >= until:
                    return answer
            except httpx.ConnectError as fault:
                if loop.time() >= until:
                    raise ApiRefused(f"{method} {path}: the API cannot be reached: {fault}") from fault
            except httpx.HTTPError as fault:
                raise ApiRefused(f"{method} {path}: the API does not answer: {fault}") from fault
            await asyncio.sleep(PAUSE_SECONDS)

    async def forget(self, name: str, domain: str) -> None:
        """Remove a domain from the tenants of a name: what a start that was broken off has left, to be made anew."""
        for instance in (await self.call("GET", "/v1/postlane/instances"))["instances"]:
            if instance["name"] == name and instance["configurations"]:
                path = f"/v1/instances/{instance['id']}/smtp/config"
                listed = await self.call("GET", path, params={"search": domain, "limit": 100})
                for found in listed["smtp_configurations"]:
                    if found["domain"] == domain:
                        await self.call("DELETE", f"{path}/{found['id']}")

    async def instance(self, name: str) -> str:
        """Make a tenant; return its ID."""
        return str((await self.call("POST", "/v1/postlane/instances", json={"name": name}))["id"])

    async def api_key(self, instance: str) -> str:
        """Make a manager's API key of the tenant; return it."""
        wish = {"role": "manager", "instance": instance, "description": "demo tenant"}
        return str((await self.call("POST", "/v1/postlane/keys", json=wish))["api_key"])

    async def configuration(self, instance: str, domain: str) -> tuple[str, list[TxtRecord]]:
        """Make a configuration; return its ID and the records to publish."""
        wish = {"name": domain, "domain": domain}
        made = await self.call("POST", f"/v1/instances/{instance}/smtp/config", json=wish)
        records = [
            TxtRecord(name=made["config"][kind]["txt_name"], value=made["config"][kind]["txt_value"])
            for kind in ("dkim", "spf")
        ]
        return str(made["id"]), records

    async def verify(self, instance: str, configuration: str) -> dict[str, str]:
        """Have the records checked now; return the verdict of each kind."""
        path = f"/v1/instances/{instance}/smtp/config/{configuration}/verify"
        answer = await self.call("PATCH", path, params={"type": "dkim,spf,en_authorization"})
        return {entry["type"]: entry["verification"] for entry in answer["status"]}

    async def authorize(self, instance: str, configuration: str, domain: str) -> None:
        """Hand in the questionnaire and, as the operator, approve it."""
        answers = msgspec.json.decode(msgspec.json.encode(ANSWERS).replace(b"demo.example", domain.encode()))
        path = f"/v1/postlane/instances/{instance}/configurations/{configuration}/authorization"
        await self.call("PUT", path, json=answers)
        await self.call("POST", f"{path}/approve", json={"reason": "demo"})

    async def user(self, instance: str, configuration: str) -> tuple[str, str]:
        """Make SMTP credentials; return username and password."""
        path = f"/v1/instances/{instance}/smtp/config/{configuration}/users"
        made = await self.call("POST", path, json={"description": "demo"})
        return str(made["username"]), str(made["password"])

    async def open_to(self, instance: str, networks: tuple[str, ...]) -> None:
        """Admit clients from networks: a zone and a rule."""
        addresses = [{"type": "subnet", "value": network} for network in networks]
        zone = await self.call(
            "POST", "/v1/zones", json={"name": "demo clients", "account_id": instance, "addresses": addresses}
        )
        attributes = [
            {"name": "accountId", "value": instance},
            {"name": "serviceName", "value": "event-notifications"},
            {"name": "serviceInstance", "value": instance},
        ]
        smtp = "crn:v1:bluemix:public:event-notifications::::api-type:smtp-configuration"
        rule = {
            "description": "demo clients",
            "contexts": [{"attributes": [{"name": "networkZoneId", "value": zone["id"]}]}],
            "resources": [{"attributes": attributes}],
            "operations": {"api_types": [{"api_type_id": smtp}]},
            "enforcement_mode": "enabled",
        }
        await self.call("POST", "/v1/rules", json=rule)

    async def message(self, queue_id: str) -> dict[str, Any] | None:
        """Return what is known of a message, None if the tracker has not heard of it yet."""
        answer = await self._client.get(f"/v1/postlane/messages/{queue_id}")
        found: dict[str, Any] | None = answer.json() if answer.status_code == httpx.codes.OK else None
        return found

    async def standing(self, instance: str, configuration: str) -> dict[str, Any]:
        """Return the verifier's standing of a configuration."""
        path = f"/v1/postlane/instances/{instance}/configurations/{configuration}/standing"
        found: dict[str, Any] = await self.call("GET", path)
        return found
