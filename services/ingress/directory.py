"""The directory and the standings as ingress looks at them: indexed for logins and gates, kept up by change.

The replicas belong to `app.py`, which starts them; here every change of a record moves the indexes.
"""

import asyncio
from collections.abc import Callable

from services.ingress.core import allow_list
from services.ingress.core.access import AccessList, IpAddress, Ranges, compile_access, zone_ranges
from services.ingress.core.admission import Account, Gates
from services.ingress.core.guard_rails import network_denial
from shared.bus.client import Bus
from shared.bus.replica import Replica
from shared.contract.records import Authorization, Configuration, DirectoryRecord, Rule, Suspension, User, Zone
from shared.contract.standing import Standing
from shared.runtime import clock

LARGE_NETWORKS = 20_000
"""Networks from which on an instance's rules are compiled in a thread."""


LATER_VERSION = "a later version of Postlane wrote records that this one cannot read"
"""Why a decision is put off instead of being a refusal for good."""


class Directory:
    """A local view of `directory` and `standing`; never asks anybody while a client waits."""

    def __init__(self, bus: Bus, credentials_changed: Callable[[str], None] = lambda username: None) -> None:
        """Prepare; `credentials_changed` is called with a username whenever one of its users changes."""
        self._credentials_changed = credentials_changed
        self.revision = 0
        """Another number after each change that a decision could rest on."""
        self._records: Replica[DirectoryRecord] = Replica(bus, "directory", DirectoryRecord, self.changed)
        self._standings: Replica[Standing] = Replica(bus, "standing", Standing, self._standing_changed)
        self._configurations: dict[str, Configuration] = {}
        self._users: dict[str, User] = {}
        self._by_name: dict[str, dict[str, User]] = {}
        self._rules: dict[str, Rule] = {}
        self._zones: dict[str, Zone] = {}
        self._instance_rules: dict[str, dict[str, Rule]] = {}
        self._compiled: dict[str, AccessList] = {}
        self._read: dict[str, tuple[Zone, Ranges]] = {}
        self._outdated: set[str] = set()
        self._to_compile: asyncio.Queue[str] = asyncio.Queue()
        self._started = False

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Load both buckets, waiting for the bus, and follow them in `tasks`."""
        await self._records.start(tasks)
        await self._standings.start(tasks)
        for instance in self._instance_rules:
            self.access(instance)
        self._started = True
        tasks.create_task(self._compile_large(), name="access rules of many networks")

    async def current(self, seconds: float) -> bool:
        """Wait, at most this long, until all was read since the connection to the bus last came."""
        return all(await asyncio.gather(self._records.current(seconds), self._standings.current(seconds)))

    def accounts(self, username: str) -> tuple[Account, ...]:
        """Return the users of this name, each with its configuration; a cloned user is in several."""
        return tuple(
            Account(user, self._configurations[user.configuration])
            for user in self._by_name.get(username, {}).values()
            if user.configuration in self._configurations
        )

    def access(self, instance: str) -> AccessList:
        """Return an instance's rules, compiled at their first use after a change.

        Very many networks are compiled in a thread as soon as they change; until that is done, within a second, the
        rules before the change hold.
        """
        found = self._compiled.get(instance)
        if found is None:
            found = self._compiled[instance] = self._compile(*self._rules_and_zones(instance))
        return found

    def _rules_and_zones(self, instance: str) -> tuple[list[Rule], dict[str, Zone]]:
        rules = list(self._instance_rules.get(instance, {}).values())
        named = {name for rule in rules for context in rule.contexts for name in context.zones}
        return rules, {name: self._zones[name] for name in named if name in self._zones}

    def _compile(self, rules: list[Rule], zones: dict[str, Zone]) -> AccessList:
        return compile_access(rules, zones, self._ranges)

    def _ranges(self, zone: Zone) -> Ranges:
        """Read a zone once: of 500 zones usually one has changed. May run in a thread."""
        known = self._read.get(zone.id)
        if known is None or known[0] is not zone:
            known = self._read[zone.id] = zone, zone_ranges(zone)
        return known[1]

    def _access_changed(self, instance: str) -> None:
        if instance not in self._compiled:
            return
        _, zones = self._rules_and_zones(instance)
        if self._started and sum(len(zone.addresses) for zone in zones.values()) > LARGE_NETWORKS:
            if instance not in self._outdated:
                self._outdated.add(instance)
                self._to_compile.put_nowait(instance)
        else:
            del self._compiled[instance]

    async def _compile_large(self) -> None:
        while True:
            instance = await self._to_compile.get()
            self._outdated.discard(instance)  # whatever changes from here on is compiled again
            before = self._compiled.get(instance)
            made = await asyncio.to_thread(self._compile, *self._rules_and_zones(instance))
            if self._compiled.get(instance) is before:  # else few networks are left, and were compiled meanwhile
                self._compiled[instance] = made
                self.revision += 1

    def denial(self, account: Account, address: IpAddress | None, endpoint: str) -> str:
        """Return "" if an account may be used from this address, else the reason, for the tenant's eyes."""
        denial = self.access(account.configuration.instance).denial(address, endpoint)
        if denial and not allow_list.admits(account.configuration, address, clock.now()):
            return denial
        return network_denial(account.user, address)

    def gates(self, configuration: str) -> Gates:
        """Return what opens or closes sending for a configuration right now."""
        authorization = self._records.get(f"authorization.{configuration}")
        suspension = self._records.get(f"suspension.{configuration}")
        return Gates(
            self._standings.get(configuration),
            authorization if isinstance(authorization, Authorization) else None,
            suspension if isinstance(suspension, Suspension) else None,
        )

    @property
    def partly_read(self) -> bool:
        """Whether a later version wrote users, configurations or rules that this one cannot read."""
        return any(
            key.partition(".")[0] in {"configuration", "user", "rule", "zone"} for key in self._records.unreadable
        )

    def unread_of(self, configuration: str) -> tuple[str, ...]:
        """Return which of the records that open or close sending for a configuration cannot be read."""
        kinds = ("configuration", "authorization", "suspension")
        found = [kind for kind in kinds if f"{kind}.{configuration}" in self._records.unreadable]
        return (*found, "standing") if configuration in self._standings.unreadable else tuple(found)

    def changed(self, key: str, record: DirectoryRecord | None) -> None:
        """Take up one changed or deleted record."""
        self.revision += 1
        match key.partition(".")[0]:
            case "configuration":
                name = key.partition(".")[2]
                if isinstance(record, Configuration):
                    self._configurations[name] = record
                else:
                    self._configurations.pop(name, None)
            case "user":
                self._user_changed(key, record if isinstance(record, User) else None)
            case "rule":
                self._rule_changed(key, record if isinstance(record, Rule) else None)
            case "zone":
                self._zone_changed(key, record if isinstance(record, Zone) else None)

    def _standing_changed(self, key: str, standing: Standing | None) -> None:
        self.revision += 1

    def _user_changed(self, key: str, user: User | None) -> None:
        before = self._users.pop(key, None)
        if before is not None:
            same_name = self._by_name[before.username]
            del same_name[key]
            if not same_name:
                del self._by_name[before.username]
        if user is not None:
            self._users[key] = user
            self._by_name.setdefault(user.username, {})[key] = user
        for name in {each.username for each in (before, user) if each is not None}:
            self._credentials_changed(name)

    def _rule_changed(self, key: str, rule: Rule | None) -> None:
        before = self._rules.pop(key, None)
        if before is not None:
            self._instance_rules.get(before.instance, {}).pop(key, None)
        if rule is not None:
            self._rules[key] = rule
            self._instance_rules.setdefault(rule.instance, {})[key] = rule
        for instance in {each.instance for each in (before, rule) if each is not None}:
            self._access_changed(instance)

    def _zone_changed(self, key: str, zone: Zone | None) -> None:
        name = key.partition(".")[2]
        before = self._zones.pop(name, None)
        if zone is not None:
            self._zones[name] = zone
        else:
            self._read.pop(name, None)
        for instance in {each.instance for each in (before, zone) if each is not None}:
            self._access_changed(instance)
