"""Signing keys: made, sealed at rest, rotated without a gap. The directory has their public halves.

Each step is decided by one compare-and-set of the configuration; the sealed halves follow. The signer goes by the
selector the configuration names, wherever a crash left that key.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

import msgspec

from services.control.caller import Caller
from services.control.core import onboarding, rotation
from services.control.core.rotation import ZoneKey
from services.control.directory import Directory
from services.control.refusal import Refused, conflict, unknown
from services.control.settings import ControlSettings
from services.control.workshop import Workshop
from shared.contract.errors import BusUnavailable, StoreFull, WrongSequence
from shared.contract.records import Configuration, DkimKey, PublishedKey
from shared.contract.standing import Standing
from shared.runtime.clock import now
from shared.runtime.sealing import seal, unseal

log = logging.getLogger("control")

Edit = Callable[[Configuration], Configuration]
Algorithm = Literal["rsa-sha256", "ed25519-sha256"]
ITSELF = Caller("automatic", "operator", None)
"""Who finishes rotations that are to finish by themselves, in the audit log."""


class SigningKeys:
    """Makes and replaces the keys of configurations."""

    def __init__(self, directory: Directory, workshop: Workshop, settings: ControlSettings, master_key: bytes) -> None:
        self._directory = directory
        self._workshop = workshop
        self._master_key = master_key
        self._retirement = timedelta(seconds=settings.dkim_retire_seconds)
        self._finish_seconds = settings.dkim_finish_seconds

    async def make_first(self, configuration_id: str, domain: str, selector: str) -> str:
        """Make and seal the first key of a configuration; return the TXT value of its public half."""
        private, public = await self._workshop.dkim_key()
        await self._seal(f"dkim.{configuration_id}", configuration_id, domain, selector, private)
        return onboarding.dkim_value(public)

    async def forget(self, configuration_id: str) -> None:
        """Delete every key of a configuration that is no more."""
        for name in ("dkim", "dkim-next", "dkim-ed25519"):
            if await self._directory.keys.get(f"{name}.{configuration_id}") is not None:
                await self._directory.keys.delete(f"{name}.{configuration_id}")

    async def begin(
        self, caller: Caller, configuration: Configuration, *, by_itself: bool, force: bool
    ) -> Configuration:
        """Make the next key of a configuration and ask for it to be published.

        Errors: `Refused` (409) while another rotation is under way, or the spare selector is still needed.
        """
        private, public = await self._workshop.dkim_key()
        at = now()
        present = await self._directory.fresh(f"configuration.{configuration.id}", Configuration)
        if present is not None:
            await self._promote(present.record)

        def begun(record: Configuration) -> Configuration:
            if present is not None and record.selector != present.record.selector:
                raise conflict("changed_meanwhile", "a rotation was finished meanwhile: look at it, then try again")
            if fault := rotation.begin_fault(record, at, self._retirement, force=force):
                raise Refused(409, fault)
            selector = record.spare_selector or str(uuid.uuid4())
            key = PublishedKey(selector=selector, value=onboarding.dkim_value(public), since=at)
            return rotation.begun(record, key, by_itself=by_itself, now=at)

        after = await self._change(caller, configuration, begun)
        if after.next_key is not None:
            await self._seal(f"dkim-next.{after.id}", after.id, after.domain, after.next_key.selector, private)
        return after

    async def finish(self, caller: Caller, configuration: Configuration, standing: Standing | None) -> Configuration:
        """Sign with the next key only, and retire the old one; `standing` is what the verifier last saw.

        Errors: `Refused` (409) until the next key was seen in DNS, or if it was lost.
        """
        present = await self._directory.fresh(f"configuration.{configuration.id}", Configuration)
        if present is None:
            raise unknown("configuration", configuration.id)
        if not rotation.seen(present.record, standing):
            found = standing.next_dkim if standing else None
            raise Refused(409, rotation.unseen_fault(present.record, found))
        next_key = present.record.next_key
        sealed = await self._directory.keys.get(f"dkim-next.{configuration.id}")
        if next_key is None or sealed is None or sealed.record.selector != next_key.selector:
            raise conflict("next_key_lost", "the next key was never stored: cancel this rotation and begin another")

        def finished(record: Configuration) -> Configuration:
            if record.next_key != next_key:
                raise conflict("changed_meanwhile", "the rotation was changed meanwhile: look at it, then try again")
            return rotation.finished(record, now())

        after = await self._change(caller, configuration, finished)
        await self._promote(after)
        return after

    async def cancel(self, caller: Caller, configuration: Configuration) -> Configuration:
        """Give up a rotation; the key in use stays.

        Errors: `Refused` (409) if none is under way.
        """
        coming = f"dkim-next.{configuration.id}"
        sealed = await self._directory.keys.get(coming)

        def cancelled(present: Configuration) -> Configuration:
            if present.next_key is None:
                raise conflict("no_rotation", "no rotation is under way")
            return msgspec.structs.replace(present, next_key=None, finish_when_seen=False, updated_at=now())

        after = await self._change(caller, configuration, cancelled)
        if sealed is not None and sealed.record.selector != after.selector:
            with contextlib.suppress(WrongSequence):  # another rotation has begun meanwhile: the key is its own
                await self._directory.keys.delete(coming, sealed.revision)
        return after

    async def add_ed25519(self, caller: Caller, configuration: Configuration) -> Configuration:
        """Make a second signing key (RFC 8463), to be published beside the first.

        Errors: `Refused` (409) if there is one.
        """
        private, public = await self._workshop.ed25519_key()
        at = now()
        key = PublishedKey(selector=str(uuid.uuid4()), value=onboarding.ed25519_value(public), since=at)

        def added(present: Configuration) -> Configuration:
            if present.ed25519_key is not None:
                raise conflict("ed25519_exists", "there is an Ed25519 key already: remove it first")
            return msgspec.structs.replace(present, ed25519_key=key, updated_at=at)

        after = await self._change(caller, configuration, added)
        await self._seal(f"dkim-ed25519.{after.id}", after.id, after.domain, key.selector, private, "ed25519-sha256")
        return after

    async def remove_ed25519(self, caller: Caller, configuration: Configuration) -> Configuration:
        """Stop signing with the second key.

        Errors: `Refused` (409) if there is none.
        """

        def removed(present: Configuration) -> Configuration:
            if present.ed25519_key is None:
                raise conflict("no_ed25519", "there is no Ed25519 key")
            return msgspec.structs.replace(present, ed25519_key=None, updated_at=now())

        after = await self._change(caller, configuration, removed)
        await self._directory.keys.delete(f"dkim-ed25519.{configuration.id}")
        return after

    def zone(self) -> tuple[ZoneKey, ...]:
        """Return what the operator's zone must publish for all delegated domains."""
        at = now()
        found = self._directory.all("configuration.", Configuration)
        return tuple(key for each in found for key in rotation.zone_keys(each, at, self._retirement))

    async def finish_by_themselves(self) -> None:
        """Finish, for ever, the rotations that are to finish once the next key was seen."""
        while True:
            await asyncio.sleep(self._finish_seconds)
            for configuration in self._directory.all("configuration.", Configuration):
                standing = self._directory.standings.get(configuration.id)
                if configuration.finish_when_seen and rotation.seen(configuration, standing):
                    await self._finish_one(configuration, standing)

    async def _finish_one(self, configuration: Configuration, standing: Standing | None) -> None:
        try:
            await self.finish(ITSELF, configuration, standing)
        except (Refused, BusUnavailable, StoreFull) as fault:  # another replica was faster, or the bus is away
            log.info("the rotation of %s is not finished yet: %s", configuration.domain, fault)

    async def _change(self, caller: Caller, configuration: Configuration, edit: Edit) -> Configuration:
        key = f"configuration.{configuration.id}"
        found = await self._directory.change(key, Configuration, edit, caller.name, configuration.instance)
        if found is None:
            raise unknown("configuration", configuration.id)
        return found[0]

    async def _promote(self, configuration: Configuration) -> None:
        """Bring the key in use to its own name, if it still lies under that of the next one.

        The signer finds it in either place, so a crash before this is made good by the next rotation.
        """
        main, coming = f"dkim.{configuration.id}", f"dkim-next.{configuration.id}"
        sealed = await self._directory.keys.get(coming)
        if sealed is None or sealed.record.selector != configuration.selector:
            return
        private = unseal(self._master_key, sealed.record.sealed, coming)
        await self._seal(main, configuration.id, configuration.domain, configuration.selector, private)
        with contextlib.suppress(WrongSequence):  # another replica has done this, and perhaps begun a rotation
            await self._directory.keys.delete(coming, sealed.revision)

    async def _seal(
        self,
        name: str,
        configuration_id: str,
        domain: str,
        selector: str,
        private: bytes,
        algorithm: Algorithm = "rsa-sha256",
    ) -> None:
        key = DkimKey(
            configuration=configuration_id,
            domain=domain,
            selector=selector,
            algorithm=algorithm,
            sealed=seal(self._master_key, private, name),
        )
        await self._directory.keys.put(name, key)
