"""Looks at the content of a whole message, as far as its configuration asks for it: HTML, unsubscribing, spam."""

import asyncio
import logging
from functools import partial

import httpx

from services.ingress.core import policy, spam
from services.ingress.core.admission import Account, Admitted
from services.ingress.core.content import Parsed
from services.ingress.core.mime import MimeLimits
from services.ingress.core.policy import Finding, PolicyLimits
from services.ingress.core.refusal import Refusal
from services.ingress.session import SubmissionSession, Transaction
from services.ingress.settings import IngressSettings

log = logging.getLogger("ingress")

SMALL_BYTES = 16_384
"""Bodies below this size are examined at once, larger ones in a thread."""


class SpamFilter:
    """A spam filter that speaks rspamd's protocol over HTTP; closed by its owner."""

    def __init__(self, settings: IngressSettings) -> None:
        """Prepare; nothing is connected yet, and nothing ever is without a URL."""
        self.there = bool(settings.spam_url)
        self._defer = settings.spam_unreachable == "defer"
        self._seconds = settings.spam_seconds
        self._most = settings.spam_bytes
        self._client = (
            httpx.AsyncClient(
                base_url=settings.spam_url.rstrip("/"),
                timeout=settings.spam_seconds,
                limits=httpx.Limits(max_connections=settings.spam_connections),
                trust_env=False,
            )
            if self.there
            else None
        )

    async def ask(
        self, session: SubmissionSession, transaction: Transaction, message: bytes, account: Account
    ) -> Finding | Refusal | None:
        """Have a message judged; None if it may go as far as the filter is concerned."""
        wanted = account.configuration.spam_policy
        if self._client is None or len(message) > self._most:
            return None
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._client.post("/checkv2", content=message, headers=_headers(session, transaction))
            answer.raise_for_status()
        except (httpx.HTTPError, TimeoutError) as fault:
            why = str(fault) or type(fault).__name__
            log.warning("the spam filter did not answer: %s", why)
            return spam.unreachable(why, wanted, self._defer)
        verdict = spam.read(answer.content)
        if verdict is None:
            log.warning("the spam filter gave an answer that cannot be read")
            return spam.unreachable("its answer cannot be read", wanted, self._defer)
        return spam.finding(verdict, wanted)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()


class Inspection:
    """One per process."""

    def __init__(self, settings: IngressSettings, spam_filter: SpamFilter) -> None:
        """Use a filter its owner closes."""
        self._filter = spam_filter
        self._limits = PolicyLimits(
            settings.html_characters,
            settings.unsubscribe_words,
            MimeLimits(settings.mime_depth, settings.mime_parts),
        )

    def asked(self, account: Account, admitted: Admitted) -> bool:
        """Whether anybody wants this configuration's mail looked at; without, nothing is paid for it."""
        configuration = account.configuration
        return policy.asks(configuration, admitted.lane) or (self._filter.there and configuration.spam_policy != "off")

    async def examine(
        self,
        session: SubmissionSession,
        transaction: Transaction,
        parsed: Parsed,
        message: bytes,
        account: Account,
        admitted: Admitted,
    ) -> tuple[str, ...] | Refusal:
        """Return the remarks on a message, or the refusal they lead to."""
        configuration = account.configuration
        findings: list[Finding] = []
        if policy.asks(configuration, admitted.lane):
            look = partial(policy.examine, parsed.fields, parsed.body, configuration, admitted.lane, self._limits)
            try:
                findings += look() if len(parsed.body) < SMALL_BYTES else await asyncio.to_thread(look)
            except Exception:  # a document the parser stumbles over must not be told 451 for ever
                log.exception("a message could not be examined", extra={"configuration": configuration.id})
                findings.append(Finding("its content could not be examined", "warn"))
        if (refusal := policy.refusal(findings)) is not None:
            return refusal
        if self._filter.there and configuration.spam_policy != "off":
            said = await self._filter.ask(session, transaction, message, account)
            if isinstance(said, Refusal):
                return said
            findings += [said] if said is not None else []
        return policy.refusal(findings) or tuple(finding.sentence for finding in findings)


def _headers(session: SubmissionSession, transaction: Transaction) -> list[tuple[str, str]]:
    """Tell the filter what it cannot see in the message."""
    sender = transaction.sender.address.written if transaction.sender and transaction.sender.address else ""
    told = [("From", sender), ("IP", session.client_address), ("Helo", session.client_name)]
    told += [("Rcpt", each.address.written) for each in transaction.recipients]
    if session.login is not None:
        told.append(("User", session.login.username))
    return [(name, value) for name, value in told if value.isascii() and value.isprintable()]
