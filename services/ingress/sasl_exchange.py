"""The authentication exchange of a session: AUTH PLAIN and AUTH LOGIN (RFC 4954, RFC 4616)."""

# ruff: noqa: N802 - aiosmtpd names commands smtp_VERB

from services.ingress.core import sasl
from services.ingress.core.refusal import Refusal
from services.ingress.inbound import LineTooLong
from services.ingress.refusals import Party
from services.ingress.session import Login
from services.ingress.smtpd import AUTH_PREFIX_BYTES, Conversation
from shared.mail import reply
from shared.mail.reply import Reply


class SaslExchange(Conversation):
    """A connection whose client may say who it is."""

    async def smtp_AUTH(self, argument: str) -> None:
        """AUTH PLAIN and AUTH LOGIN (RFC 4954, RFC 4616), in any case of letters."""
        mechanism, _, initial = argument.partition(" ")
        if not self.session.tls:
            self._refuse(Refusal(reply.TLS_REQUIRED_FOR_AUTH, "AUTH without TLS"))
        elif not self.session.greeted:
            self._out_of_sequence("send EHLO first")
        elif self.session.login is not None:
            self._out_of_sequence("already authenticated")  # RFC 4954 §4
        elif self.envelope.sender is not None:
            self._out_of_sequence("AUTH is not possible inside a transaction")
        elif not mechanism or " " in initial:
            self._wrong_arguments("AUTH PLAIN|LOGIN [initial-response]")
        elif mechanism.upper() == "PLAIN":
            await self._plain(initial)
        elif mechanism.upper() == "LOGIN":
            await self._login(initial)
        else:
            self._refuse(Refusal(reply.AUTH_MECHANISM, f"{sasl.mechanism_named(mechanism)} is not offered"))

    async def _plain(self, initial: str) -> None:
        message = self._decoded(initial.encode()) if initial else await self._ask(reply.ASK_RESPONSE)
        if message is not None:
            await self._verify(sasl.plain(message))

    async def _login(self, initial: str) -> None:
        username = self._decoded(initial.encode()) if initial else await self._ask(reply.ASK_USERNAME)
        if username is None:
            return
        password = await self._ask(reply.ASK_PASSWORD)
        if password is not None:
            await self._verify(sasl.login(username, password))

    async def _ask(self, challenge: Reply) -> bytes | None:
        """Send a challenge and return the decoded answer; None if it was refused, which has been said."""
        self._say(challenge)
        await self._flush()
        while (line := self.inbound.line(self.settings.auth_line_bytes + AUTH_PREFIX_BYTES)) is None:
            self._make_way()
            await self.inbound.more(self._patience())
        if isinstance(line, LineTooLong):
            self._refuse(Refusal(reply.AUTH_LINE_TOO_LONG, "an answer in AUTH was too long"))
            return None
        if not line.endswith(b"\r\n"):
            self._refuse(Refusal(reply.BARE_LINE_FEED, "an answer in AUTH ended in a bare LF"))
            return None
        if line == b"*\r\n":
            self._refuse(Refusal(reply.AUTH_CANCELLED, "the client cancelled AUTH"))
            return None
        return self._decoded(line[:-2])

    def _decoded(self, line: bytes) -> bytes | None:
        decoded = sasl.decode(line)
        if decoded is None:
            self._refuse(Refusal(reply.BAD_BASE64, "the answer in AUTH is not base64"))
        return decoded

    async def _verify(self, attempt: sasl.Attempt) -> None:
        outcome = await self.desk.authentication.login(self.session, attempt)
        if isinstance(outcome, Login):
            self.session.login = outcome
            self.session.authenticated = True
            self.desk.usage.logged_in(self.session, outcome)
            if self.session.address is not None:
                self.desk.connections.recognise(self.session.address)
            self._say(reply.AUTHENTICATED)
            await self.desk.sightings.logged_in(self.session)
            return
        self._failed_logins += 1
        party = Party(attempt.username, self.session.client_address, self.session.client_name)
        last = self._failed_logins >= self.settings.failed_logins and outcome.reply.permanent
        self._say(outcome.reply.referring(self.desk.refusals.record(outcome, "auth", party)[0]))
        self.session.refused += 1
        self.desk.metrics.refused.labels("auth", str(outcome.reply.code)).inc()
        if last:
            self._end(Refusal(reply.TOO_MANY_FAILED_LOGINS, "too many failed logins in one session"))
