"""What a domain publishes now, what it should publish, what was seen before: for people, not for standings."""

from services.verifier.authorities import Authorities
from services.verifier.checker import Checker, Description, dkim_name
from services.verifier.core.answer import Question
from services.verifier.core.drift import changes, disagreements
from services.verifier.core.sender_policy import NEAR_LIMIT
from services.verifier.core.spf import Limits
from services.verifier.core.spf_merge import merge
from services.verifier.rota import Rota
from shared.contract.records import Configuration
from shared.contract.requests import RecordsSeen
from shared.contract.standing import Observation

LOOKUP_LIMIT = Limits().lookups


class Advice:
    """Describes the records of a configuration's domain."""

    def __init__(self, checker: Checker, authorities: Authorities, rota: Rota) -> None:
        self._checker = checker
        self._authorities = authorities
        self._rota = rota

    async def describe(self, configuration: Configuration, *, ask_authorities: bool) -> RecordsSeen:
        """Describe the records; takes as long as a check or two.

        Errors: `BusUnavailable` if the history cannot be read.
        """
        now = await self._checker.describe(configuration)
        merged = merge(now.published, configuration.spf_value)
        served = await self._at_authorities(configuration) if ask_authorities else ()
        lookups = await self._lookup_notes(configuration, merged.value)
        history = await self._rota.history(configuration.id)
        return RecordsSeen(
            configuration=configuration.id,
            domain=configuration.domain,
            spf=now.spf,
            dkim=now.dkim,
            dmarc=now.dmarc,
            spf_to_publish=merged.value,
            spf_lookups=now.lookups,
            notes=(*merged.notes, *lookups, *disagreements(served), *_advice(now)),
            authorities=served,
            history=history,
            changes=changes(history),
            return_path=now.return_path,
            next_dkim=now.next_dkim,
            ed25519=now.ed25519,
            spare_dkim=now.spare_dkim,
        )

    async def _lookup_notes(self, configuration: Configuration, value: str) -> tuple[str, ...]:
        """Say what the record to publish will cost in look-ups, if it comes near the limit."""
        needed = await self._checker.lookups_of(configuration.domain, value)
        if needed < NEAR_LIMIT:
            return ()
        over = ", so receivers reject it" if needed > LOOKUP_LIMIT else ""
        return (f"The record to publish needs {needed} of the 10 DNS look-ups allowed{over}: remove what is not used.",)

    async def _at_authorities(self, configuration: Configuration) -> tuple[Observation, ...]:
        """Judge the records as each name server of the zone serves them."""
        seen: list[Observation] = []
        for name in (configuration.domain, dkim_name(configuration)):
            question = Question(name, "TXT")
            for served in await self._authorities.ask(question):
                told = await self._checker.describe(configuration, known={question: served.answer})
                observation = told.spf if name == configuration.domain else told.dkim
                seen.append(_of_server(observation, served.server))
        return tuple(seen)


def _of_server(observation: Observation, server: str) -> Observation:
    return Observation(
        verdict=observation.verdict,
        detail=observation.detail,
        name=observation.name,
        at=observation.at,
        rcode=observation.rcode,
        resolver=server,
        ttl=observation.ttl,
        values=observation.values,
    )


def _advice(now: Description) -> tuple[str, ...]:
    return (now.advice,) if now.advice else ()
