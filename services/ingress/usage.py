"""Who used which password, and whom a rule in report mode would have refused: noted for people to look at."""

import asyncio

from services.ingress.core.admission import Account
from services.ingress.directory import Directory
from services.ingress.metrics import Metrics
from services.ingress.session import Login, SubmissionSession
from shared.bus.client import Bus
from shared.bus.notes import Notes
from shared.contract.siblings import PasswordUse, RuleReport
from shared.contract.subjects import token
from shared.runtime import clock


class Usage:
    """Notes of the process; nobody waits for them."""

    def __init__(self, bus: Bus, directory: Directory, metrics: Metrics, interval_seconds: float) -> None:
        """Prepare; each password and each reported address is written at most once in the interval."""
        self._directory = directory
        self._metrics = metrics
        self._passwords: Notes[PasswordUse] = Notes(bus, "usage", PasswordUse, interval_seconds)
        self._reports: Notes[RuleReport] = Notes(bus, "reports", RuleReport, interval_seconds)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Write in tasks of the room."""
        self._passwords.start(tasks)
        self._reports.start(tasks)

    async def leave(self) -> None:
        """Write what is left."""
        await self._passwords.leave()
        await self._reports.leave()

    def logged_in(self, session: SubmissionSession, login: Login) -> None:
        """Note a successful login for every user of the name, and what reporting rules say of its address."""
        accounts = self._directory.accounts(login.username)
        for account in accounts:
            self.used(session, login, account)
        for instance in {account.configuration.instance for account in accounts}:
            refusing = self._directory.access(instance).would_refuse(session.address, session.endpoint)
            for rule in refusing:
                self._report(session, login, instance, rule)
            self._metrics.reported.inc(bool(refusing))

    def used(self, session: SubmissionSession, login: Login, account: Account) -> None:
        """Note that a login is being used to send for an account."""
        for password in account.user.passwords:
            if password.hash in login.verified:
                key = f"{account.configuration.id}.{account.user.id}.{password.id}"
                use = PasswordUse(at=clock.now(), address=session.client_address, banner=session.client_name)
                self._passwords.note(key, use)

    def _report(self, session: SubmissionSession, login: Login, instance: str, rule: str) -> None:
        report = RuleReport(
            at=clock.now(),
            instance=instance,
            rule=rule,
            address=session.client_address,
            endpoint=session.endpoint,
            username=login.username,
        )
        self._reports.note(f"{instance}.{rule}.{session.endpoint}.{token(session.client_address)}", report)
