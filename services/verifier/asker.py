"""Asks within one check: each question once, so that all parts of the check judge the same answers."""

from collections.abc import Mapping

from services.verifier.core.answer import Answer, Question
from services.verifier.core.spf import Asking, Outcome
from services.verifier.resolver import Resolver


class Asker:
    """The questions of one check.

    What lies in the domain `own` is asked anew, past the cache; all else too if `fresh`. `first` is the server to begin
    with; `known` answers are not asked for.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        own: str,
        fresh: bool,
        first: int = 0,
        known: Mapping[Question, Answer] | None = None,
    ) -> None:
        self._resolver = resolver
        self._own = own
        self._fresh = fresh
        self._first = first
        self.known: dict[Question, Answer] = dict(known or {})
        self.used_cache = False
        """Whether an answer came from the cache."""

    async def ask(self, question: Question) -> Answer:
        """Return the answer of this check to a question."""
        if question not in self.known:
            fresh = self._fresh or (question.kind == "TXT" and _is_in(question.name, self._own))
            self.used_cache |= not fresh and self._resolver.holds(question)
            self.known[question] = await self._resolver.ask(question, fresh=fresh, first=self._first)
        return self.known[question]

    async def drive(self, asking: Asking) -> Outcome:
        """Run an SPF evaluation to its end."""
        try:
            question = next(asking)
            while True:
                question = asking.send(await self.ask(question))
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome


def _is_in(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)
