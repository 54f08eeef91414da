"""What every handler of the API works with; made once by `app.py`."""

import logging

import msgspec

from services.control.allow_lists import AllowLists
from services.control.api.limits import Limits
from services.control.audit_log import AuditLog
from services.control.configurations import Configurations
from services.control.confirmations import Confirmations
from services.control.decisions import Decisions
from services.control.directory import Directory
from services.control.keys import ApiKeys
from services.control.networks import Networks
from services.control.notices import Notices
from services.control.refusal import Refused, unavailable
from services.control.settings import ControlSettings
from services.control.signer import TokenSigner
from services.control.signing_keys import SigningKeys
from services.control.takeovers import Takeovers
from services.control.users import Users
from services.control.workshop import Workshop
from shared.bus.client import Bus
from shared.bus.service import T, ask
from shared.contract.errors import BusUnavailable
from shared.contract.records import Configuration
from shared.runtime.sealing import MasterKey

log = logging.getLogger("control")


class Desk:
    """The services behind the API."""

    def __init__(self, bus: Bus, directory: Directory, settings: ControlSettings, master_key: MasterKey) -> None:
        self.bus = bus
        self.settings = settings
        self.directory = directory
        self.workshop = Workshop(settings)
        self.signing_keys = SigningKeys(directory, self.workshop, settings, master_key)
        self.configurations = Configurations(directory, self.signing_keys, settings)
        self.users = Users(directory, self.workshop, settings)
        self.networks = Networks(directory)
        self.allow_lists = AllowLists(directory, self.networks, settings)
        self.notices = Notices(directory)
        self.decisions = Decisions(directory, self.notices)
        self.confirmations = Confirmations(directory, self.notices, settings, master_key)
        self._mails_for_one = _hourly(settings.confirmation_mails_per_hour)
        self._mails_to_one = _hourly(settings.confirmation_mails_per_address)
        self.takeovers = Takeovers(directory, self.configurations, self.decisions, settings)
        self.audit_log = AuditLog(bus, settings.audit_examined)
        self.keys = ApiKeys(directory, settings.usage_seconds, settings.keys_per_instance)
        self.limits = Limits(settings.requests_per_second, settings.requests_at_once)
        self.lookups = Limits(settings.lookups_per_second, settings.lookups_at_once)
        self.strangers = Limits(settings.strangers_per_second, settings.strangers_at_once)
        self.tokens = TokenSigner(master_key, settings.token_seconds)

    async def ask(
        self, room: str, subject: str, request: msgspec.Struct, reply: type[T], seconds: float | None = None
    ) -> T:
        """Ask another room.

        Errors: `Refused` (503) if it does not answer; `RequestFailed` with the code it answered.
        """
        try:
            return await ask(self.bus, subject, request, reply, seconds or self.settings.request_seconds)
        except BusUnavailable as fault:
            raise unavailable(
                f"the {room} does not answer at the moment, so this cannot be told; try again, and see whether the "
                f"room {room} runs if it stays so"
            ) from fault

    async def mail_confirmation(self, configuration: Configuration) -> None:
        """Mail the link for an address that was just named, unless too many were mailed or there is none to confirm."""
        try:
            await self.mail_confirmation_again(configuration)
        except Refused as fault:
            log.info("%s: no link was mailed: %s", configuration.domain, fault)

    async def mail_confirmation_again(self, configuration: Configuration) -> str:
        """Mail the link; return the address.

        Errors: `Refused`: 409 if there is no address to confirm, 429 if too many were mailed for the configuration, or
        to the address: it may be that of somebody who has asked for nothing.
        """
        self._mails_for_one.count(configuration.id)
        self._mails_to_one.count(self.confirmations.wanted(configuration).lower())
        return await self.confirmations.send(configuration)

    def close(self) -> None:
        """Let the threads end."""
        self.workshop.close()


def _hourly(number: int) -> Limits:
    return Limits(number / 3600, number)
