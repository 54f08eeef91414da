"""Keys of the management API: made once, kept as hashes, compared in constant time."""

import hmac
import secrets
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from services.control.caller import Caller
from services.control.core import credentials
from services.control.core.credentials import PresentedKey
from services.control.directory import Directory
from services.control.refusal import conflict, unknown
from shared.bus.client import connect
from shared.bus.kv import Bucket
from shared.bus.notes import Notes
from shared.bus.settings import BusSettings
from shared.contract import subjects
from shared.contract.events import DirectoryChanged
from shared.contract.records import ApiKey, Role
from shared.contract.siblings import ApiKeyUse
from shared.runtime.clock import now
from shared.runtime.settings import load

CLIENT_LENGTH = 200
HOST = "host"
"""How the audit log names who administers on the host itself, with control's right to write."""


def make(role: Role, instance: str | None, description: str, expires_at: datetime | None, by: str) -> tuple[
    PresentedKey, ApiKey
]:  # fmt: skip
    """Return a new key, to be shown once, and the record that is kept of it."""
    shown = credentials.new_api_key(
        secrets.token_bytes(credentials.KEY_ID_RANDOM_BYTES + credentials.KEY_SECRET_RANDOM_BYTES)
    )
    return shown, ApiKey(
        id=shown.id,
        role=role,
        hash=shown.hash,
        created_at=now(),
        instance=None if role == "operator" else instance,
        description=description,
        expires_at=expires_at,
        created_by=by,
    )


def usable(record: ApiKey, at: datetime) -> bool:
    """Whether a key has been neither revoked nor has run out."""
    return record.revoked_at is None and (record.expires_at is None or at < record.expires_at)


class ApiKeys:
    """Makes, lists, revokes and recognises keys."""

    def __init__(self, directory: Directory, usage_seconds: float, per_instance: int) -> None:
        self._directory = directory
        self._per_instance = per_instance
        self.uses: Notes[ApiKeyUse] = Notes(directory.bus, "access", ApiKeyUse, usage_seconds)
        """Started and ended by whoever owns the process."""

    def recognise(self, text: str) -> Caller | None:
        """Return whose key a text is, or None if it is no living key."""
        shown = credentials.parse_api_key(text)
        if shown is None:
            return None
        record = self._key(shown.id)
        expected = record.hash if record else "0" * 64  # as much work for a key that is not
        if not hmac.compare_digest(expected, shown.hash) or record is None or not usable(record, now()):
            return None
        return Caller(record.id, record.role, record.instance)

    def living(self, key_id: str) -> Caller | None:
        """Return the caller a token was made for, or None if its key is no longer good."""
        record = self._key(key_id)
        return Caller(record.id, record.role, record.instance) if record and usable(record, now()) else None

    def _key(self, key_id: str) -> ApiKey | None:
        record = self._directory.api_keys.get(f"key.{key_id}")
        return record if isinstance(record, ApiKey) else None

    def used(self, caller: Caller, address: str, client: str) -> None:
        """Note a use of a key; it is written soon, at most once in an interval."""
        shown = "".join(c if c.isprintable() else "?" for c in client[:CLIENT_LENGTH])
        self.uses.note(f"use.{caller.key}", ApiKeyUse(at=now(), address=address, client=shown))

    def last_use(self, key_id: str) -> ApiKeyUse | None:
        """Return the last noted use of a key, None if there was none."""
        record = self._directory.api_keys.get(f"use.{key_id}")
        return record if isinstance(record, ApiKeyUse) else None

    def _usable(self, instance: str) -> int:
        records = (record for _, record in self._directory.api_keys.items("key.") if isinstance(record, ApiKey))
        return sum(record.instance == instance and usable(record, now()) for record in records)

    def visible(self, caller: Caller) -> list[ApiKey]:
        """Return the keys a caller may see, oldest first."""
        found = [record for _, record in self._directory.api_keys.items("key.") if isinstance(record, ApiKey)]
        mine = [r for r in found if caller.is_operator or (r.instance is not None and r.instance == caller.instance)]
        return sorted(mine, key=lambda record: (record.created_at, record.id))

    async def add(
        self, caller: Caller, role: Role, instance: str | None, description: str, expires_at: datetime | None
    ) -> tuple[str, ApiKey]:
        """Make a key; return its text, shown once, and its record.

        Errors: `Refused` (409) if the instance has its number of them: each has an allowance of requests of its own.
        """
        if instance is not None and self._usable(instance) >= self._per_instance:
            raise conflict(
                "too_many_keys", f"an instance has at most {self._per_instance} usable keys: revoke one (`key rm`)"
            )
        shown, record = make(role, instance, description, expires_at, caller.name)
        revision = await self._directory.access.create(f"key.{record.id}", record)
        self._directory.api_keys.take(f"key.{record.id}", revision, record)  # it may be used as soon as it is shown
        await self._directory.audit(caller.name, "create", f"key.{record.id}", record.instance or "", None, record)
        return shown.text, record

    async def revoke(self, caller: Caller, key_id: str) -> ApiKey:
        """Revoke a key; it is refused from then on.

        Errors: `Refused` (404) if it is unknown or another instance's.
        """
        known = self._key(key_id) is not None
        entry = await self._directory.access.get(f"key.{key_id}") if known else None
        if entry is None or not (caller.is_operator or (entry.record.instance or "") == caller.instance):
            raise unknown("key", key_id)
        if entry.record.revoked_at is not None:
            return entry.record
        revoked = msgspec.structs.replace(entry.record, revoked_at=now())
        revision = await self._directory.access.update(entry.key, revoked, entry.revision)
        self._directory.api_keys.take(entry.key, revision, revoked)
        await self._directory.audit(
            caller.name, "revoke", entry.key, revoked.instance or "", entry.record, revoked
        )  # fmt: skip
        return revoked


async def add_operator_key(environ: Mapping[str, str], file: Path | None, description: str) -> str:
    """Make an operator's key on the host itself, with control's own right to write; return its text.

    Needs the settings of control's bus connection (`POSTLANE_BUS_…`).

    Errors: `SettingsFault`, `BusUnavailable`.
    """
    bus = await connect(load(BusSettings, "bus", environ, file), "control")
    try:
        shown, record = make("operator", None, description, None, HOST)
        bucket: Bucket[ApiKey] = Bucket(bus, "access", ApiKey)
        await bucket.create(f"key.{record.id}", record)
        hidden = msgspec.structs.replace(record, hash="…")
        event = DirectoryChanged(
            id=str(uuid.uuid4()),
            at=now(),
            by=HOST,
            action="create",
            key=f"key.{record.id}",
            after=msgspec.Raw(msgspec.json.encode(hidden)),
        )
        await bus.store(subjects.audit(""), msgspec.json.encode(event), stream="AUDIT", message_id=event.id)
        return shown.text
    finally:
        await bus.close()
