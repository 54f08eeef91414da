"""MTA-STS policies of recipient domains (RFC 8461): looked up in DNS, fetched over HTTPS, shared in a bucket.

A policy that cannot be fetched or read leaves the one that is kept in force until it expires; without one, mail goes
as if there were none.
"""

import asyncio
import logging
import ssl
from datetime import timedelta

import httpx

from services.delivery import own_address
from services.delivery.core import reach, route, sts
from services.delivery.core.sts import Demand
from services.delivery.encryption import verifying
from services.delivery.exchangers import Exchangers
from services.delivery.settings import DeliverySettings
from shared.bus.client import Bus
from shared.bus.kv import Bucket
from shared.bus.replica import Replica
from shared.contract.errors import BusUnavailable, StoreFull
from shared.contract.siblings import TransportPolicy
from shared.contract.subjects import token
from shared.mail.address import Fault
from shared.runtime import clock

log = logging.getLogger("delivery")

BODY_LIMIT = 65_536  # RFC 8461 §3.3: 64 KiB
PATH = "/.well-known/mta-sts.txt"
FAILURES_KEPT = 10_000
SHORTEST_SECONDS = 10
"""A policy that ends sooner is not fetched again before that."""


class _Fetch:
    """The fetches of one domain, one after the other, while somebody wants one."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.wanted = 0
        self.ended_at = 0.0
        """When the last one came to an end, good or bad."""


class Policies:
    """What the domains demand. Shared by all messages in delivery; one fetch per domain at a time."""

    def __init__(self, settings: DeliverySettings, bus: Bus, exchangers: Exchangers) -> None:
        self._enabled = settings.mta_sts
        self._port = settings.mta_sts_port
        self._fetch_seconds = settings.mta_sts_fetch_seconds
        self._retry_seconds = settings.mta_sts_retry_seconds
        self._refresh = timedelta(seconds=settings.mta_sts_refresh_seconds)
        self._allowed = reach.networks(settings.allowed_networks)
        self._refused = reach.networks((*settings.refused_networks, *settings.egress_addresses))
        self._exchangers = exchangers
        self._bucket: Bucket[TransportPolicy] = Bucket(bus, "policies", TransportPolicy)
        self.replica: Replica[TransportPolicy] = Replica(bus, "policies", TransportPolicy)
        self._context = verifying()
        self._fetching: dict[str, _Fetch] = {}
        self._failed: dict[tuple[str, str], float] = {}

    async def of(self, domain: str) -> Demand:
        """Return what a domain demands now. Never raises for what DNS or the web server do."""
        if not self._enabled:
            return sts.OPPORTUNISTIC
        record = sts.record_id(await self._exchangers.texts(f"_mta-sts.{domain}"))
        if not record:  # RFC 8461 §3.3: a record that went does not end a policy that is in force
            return sts.demand(self._kept(domain))
        if self._stale(self._kept(domain), record):
            await self._renewed(domain, record)
        return sts.demand(self._kept(domain))

    def _kept(self, domain: str) -> TransportPolicy | None:
        """Return the policy in force, None if there is none or it has expired."""
        kept = self.replica.get(token(domain))
        return kept if kept is not None and kept.expires_at > clock.now() else None

    def _stale(self, kept: TransportPolicy | None, record: str) -> bool:
        return kept is None or kept.id != record or clock.now() - kept.fetched_at > self._refresh

    async def _renewed(self, domain: str, record: str) -> None:
        """Fetch the policy and keep it, unless that failed a moment ago or somebody else did it while we waited.

        Whoever waited takes what came of it, whatever the record says by now: a domain whose record is another one each
        time would have them fetch one after the other.
        """
        now = asyncio.get_running_loop().time
        fetch, asked_at = self._fetching.setdefault(domain, _Fetch()), now()
        fetch.wanted += 1
        try:
            async with fetch.turn:
                if fetch.ended_at > asked_at or self._failed.get((domain, record), 0.0) > now():
                    return
                if self._stale(self._kept(domain), record):  # else a sibling was first
                    await self._fetch(domain, record)
                    fetch.ended_at = now()
        finally:
            fetch.wanted -= 1
            if not fetch.wanted:
                self._fetching.pop(domain, None)

    async def _fetch(self, domain: str, record: str) -> None:
        now = asyncio.get_running_loop().time()
        found = await self._fetched(domain)
        if isinstance(found, Fault):
            log.warning("the MTA-STS policy of %s was not fetched: %s", domain, found.reason)
            self._forgive()
            # RFC 8461 §3.3: a fetch that failed is not repeated at once.
            self._failed[domain, record] = now + self._retry_seconds
            return
        if found.max_age_seconds < SHORTEST_SECONDS:
            self._forgive()
            self._failed[domain, record] = now + SHORTEST_SECONDS
        await self._keep(sts.policy(domain, record, found, clock.now()))

    async def _keep(self, policy: TransportPolicy) -> None:
        key = token(policy.domain)
        try:
            revision = await self._bucket.put(key, policy)
        except (BusUnavailable, StoreFull) as fault:
            log.warning("the MTA-STS policy of %s is not shared: %s", policy.domain, fault)
            revision = self.replica.revision(key)
        self.replica.take(key, revision, policy)
        log.info("MTA-STS policy of %s: %s until %s", policy.domain, policy.mode, policy.expires_at)

    def _forgive(self) -> None:
        if len(self._failed) >= FAILURES_KEPT:
            self._failed.clear()

    async def _fetched(self, domain: str) -> "sts.Terms | Fault":
        host = f"mta-sts.{domain}"
        try:
            async with asyncio.timeout(self._fetch_seconds):
                six, four = await self._exchangers.addresses(host)
                doors = route.doors(host, six, four, allowed=self._allowed, refused_networks=self._refused)
                if doors.problem is not None:
                    return Fault(doors.problem.diagnosis.text)
                problem = Fault(f"{host} has no address")
                for door in doors.doors:
                    if own_address.is_own(door.address, self._allowed):
                        problem = Fault(f"{host} leads to one of our own addresses")
                        continue
                    answer = await self._got(host, door.address)
                    if isinstance(answer, bytes):
                        return sts.terms(answer)
                    problem = answer
                return problem
        except TimeoutError:
            return Fault(f"{host} did not answer in time")

    async def _got(self, host: str, address: str) -> bytes | Fault:
        """Get the document from one validated address, with a certificate that is valid for the host."""
        where = f"[{address}]" if ":" in address else address
        port = "" if self._port == 443 else f":{self._port}"
        limits = httpx.Timeout(self._fetch_seconds)
        try:
            async with (
                # RFC 8461 §3.3: no redirects, no proxies, and the certificate must be valid for the policy host.
                httpx.AsyncClient(
                    verify=self._context, timeout=limits, follow_redirects=False, trust_env=False
                ) as client,
                client.stream(
                    "GET",
                    f"https://{where}{port}{PATH}",
                    headers={"Host": host, "Accept": "text/plain", "Accept-Encoding": "identity"},
                    extensions={"sni_hostname": host},
                ) as answer,
            ):
                if answer.status_code != httpx.codes.OK:
                    return Fault(f"{host} answered {answer.status_code}")
                if answer.headers.get("content-type", "").partition(";")[0].strip().lower() != "text/plain":
                    return Fault(f"{host} answered with something else than text/plain")
                if answer.headers.get("content-encoding", "identity") != "identity":
                    return Fault(f"{host} answered with an encoding nobody asked for")
                body = bytearray()
                async for chunk in answer.aiter_raw():
                    body += chunk
                    if len(body) > BODY_LIMIT:
                        return Fault(f"the policy of {host} is longer than {BODY_LIMIT} octets")
                return bytes(body)
        except (httpx.HTTPError, httpx.StreamError, OSError, ssl.SSLError) as fault:
            return Fault(f"{host} [{address}]: {str(fault) or type(fault).__name__}")
