"""Confirming the address of bounce reports by a signed link that is mailed to it."""

import logging

import msgspec

from services.control.core import confirmation, tokens
from services.control.core.tokens import Claims
from services.control.directory import Directory
from services.control.notices import Notices
from services.control.refusal import conflict
from services.control.settings import ControlSettings
from shared.contract.records import Authorization, Configuration
from shared.runtime.clock import now, now_ms
from shared.runtime.sealing import MasterKey

log = logging.getLogger("control")

BY_LINK = "link"
"""Who confirms, in the audit log: whoever reads the mail."""


class Confirmations:
    """Sends links and takes them back."""

    def __init__(
        self, directory: Directory, notices: Notices, settings: ControlSettings, master_key: MasterKey
    ) -> None:
        self._directory = directory
        self._notices = notices
        self._base = settings.public_url.rstrip("/") or _own_url(settings)
        self._seconds = settings.confirmation_seconds
        self._keys = tuple(tokens.signing_key(key, confirmation.PURPOSE) for key in master_key.every)

    def wanted(self, configuration: Configuration) -> str:
        """Return the address that is to be confirmed.

        Errors: `Refused` (409) if there is none.
        """
        authorization = self._directory.get(f"authorization.{configuration.id}", Authorization)
        address = confirmation.wanted(configuration, authorization)
        if not address:
            raise conflict("nothing_to_confirm", "no address for bounce reports waits for its confirmation")
        return address

    async def send(self, configuration: Configuration) -> str:
        """Mail a link to the address that is to be confirmed; return the address.

        Errors: `Refused` (409) if there is none to be confirmed.
        """
        address = self.wanted(configuration)
        issued = now_ms() // 1000
        claims = Claims(
            iss=confirmation.ISSUER,
            sub=confirmation.claim(configuration.id, address),
            iat=issued,
            exp=issued + self._seconds,
        )
        link = f"{self._base}/confirm/{tokens.sign(claims, self._keys[0])}"
        letter = confirmation.letter(configuration.domain, link, self._seconds / 3600)
        at = now()
        await self._notices.write(configuration, f"confirm {address} {at}", at, (address,), *letter)
        return address

    def read(self, token: str) -> tuple[Configuration, str] | None:
        """Return configuration and address of a link that is good and still meant, or None."""
        claims = tokens.read_by_any(token, self._keys, now_ms() // 1000, confirmation.ISSUER)
        if claims is None:
            return None
        configuration_id, address = confirmation.read_claim(claims.sub)
        configuration = self._directory.get(f"configuration.{configuration_id}", Configuration)
        if configuration is None:
            return None
        authorization = self._directory.get(f"authorization.{configuration_id}", Authorization)
        confirmed = bool(configuration.reply_to_confirmed_at) and configuration.reply_to == address
        if not confirmed and confirmation.wanted(configuration, authorization) != address:
            return None
        return configuration, address

    async def confirm(self, token: str) -> tuple[Configuration, str] | None:
        """Confirm the address of a link; None if it is not good. Doing it twice is doing it once.

        Errors: `BusUnavailable`.
        """
        found = self.read(token)
        if found is None:
            return None
        configuration, address = found

        def confirmed(present: Configuration) -> Configuration:
            if present.reply_to not in ("", address) or (present.reply_to and present.reply_to_confirmed_at):
                return present
            return msgspec.structs.replace(present, reply_to=address, reply_to_confirmed_at=now(), updated_at=now())

        key = f"configuration.{configuration.id}"
        changed = await self._directory.change(key, Configuration, confirmed, BY_LINK, configuration.instance)
        if changed is None or changed[0].reply_to != address:
            return None
        return changed[0], address


def _own_url(settings: ControlSettings) -> str:
    """Return where this machine reaches the API. A request's Host header is no guide for a link that is mailed."""
    scheme = "https" if settings.tls_certificate_file else "http"
    host, _, port = settings.listen.rpartition(":")
    everywhere = host in ("", "0.0.0.0", "[::]")  # noqa: S104  # compared, not listened on
    return f"{scheme}://{'localhost' if everywhere else host}:{port}"
