"""The opening of a session: connected, greeted, and encrypted if the server offers it."""

import ssl
from collections.abc import Callable

import aiosmtplib

from services.delivery.core import outcome
from services.delivery.encryption import Encryption
from services.delivery.session import Session
from services.delivery.trace import Ended, Trace, said


class Opening:
    """Opens a session at one door, by a second and third connection if its TLS fails: tolerantly, then in clear."""

    def __init__(self, trace: Trace, encryption: Encryption, new: Callable[[], Session]) -> None:
        """Open sessions made by `new`; what is learnt of the host's TLS goes to `encryption` and `trace`."""
        self._trace = trace
        self._door = trace.door
        self._encryption = encryption
        self._new = new
        # What is remembered of a host may be forgotten again before a slow one has greeted: not within one opening.
        self._tolerant = False
        self._clear = False

    async def session(self, port: int, source: str) -> Session:
        """Return a session that a transaction can begin on, in clear only if TLS cannot be had (RFC 7435).

        Closed by the caller. Errors: `Ended` where a policy demands more than can be had; `aiosmtplib.SMTPException`,
        `OSError` and `TimeoutError` for a server that cannot be reached or does not want us.
        """
        while True:
            session = self._new()
            try:
                self._trace.phase = "connect"
                await session.dial(self._door.address, port, source)
                self._trace.phase = "greeting"
                await session.greeting()
                self._trace.phase = "ehlo"
                await session.hello()
                if not session.supports_extension("starttls"):
                    self._insecure(session, f"{self._door.host} does not offer STARTTLS")
                    return session
                context = self._context()
                if context is None:
                    self._insecure(session, self._encryption.problem(self._door.host) or self._trace.problem)
                    return session
                self._trace.phase = "starttls"
                if await self._encrypted(session, context):
                    return session
            except BaseException:
                session.close()
                raise
            session.close()  # one thing less is expected of this host now: connect again

    def _context(self) -> ssl.SSLContext | None:
        if self._clear:
            return None
        strict = self._door.demand.enforced
        return self._encryption.context(self._door.host, strict=strict, tolerant=self._tolerant)

    def _insecure(self, session: Session, why: str) -> None:
        """Note why a session is not verified; where a policy enforces that, the visit is over (RFC 8461 §5)."""
        self._trace.problem = session.tls_problem = why
        demand = self._door.demand
        if demand.enforced:
            told = f"{demand.policy} demands verified TLS, but {why}"
            host, address = self._door.host, self._door.address
            raise Ended(outcome.lost(told, "starttls", "4.7.5", host=host, address=address))

    async def _encrypted(self, session: Session, context: ssl.SSLContext) -> bool:
        """Return whether the session is encrypted now; if not, a new one is to be made."""
        host, encryption = self._door.host, self._encryption
        verifies = encryption.verifies(context)
        try:
            await session.encrypt(host, context)
        except ssl.SSLCertVerificationError as fault:
            why = f"its certificate does not verify: {outcome.clean(fault.verify_message)}"
            self._insecure(session, why)
            encryption.unverifiable(host, why)
            self._tolerant = True
            return False
        except (aiosmtplib.SMTPException, OSError) as fault:
            if session.tls and isinstance(fault, aiosmtplib.SMTPResponseException | aiosmtplib.SMTPTimeoutError):
                self._established(session, verifies)
                self._trace.phase = "ehlo"
                raise  # the handshake came to its end: what became of EHLO says nothing of TLS
            if isinstance(fault, aiosmtplib.SMTPResponseException) and fault.code == 421:
                raise  # RFC 5321 §3.8: the server is closing, which says nothing of its TLS
            why = f"STARTTLS failed: {outcome.clean(said(fault))}"
            self._insecure(session, why)
            if verifies and not isinstance(fault, aiosmtplib.SMTPResponseException):
                self._tolerant = True  # perhaps it is only too old
                cut = isinstance(fault, aiosmtplib.SMTPServerDisconnected | ConnectionError | ssl.SSLEOFError)
                (encryption.interrupted if cut else encryption.unverifiable)(host, why)
            else:
                self._clear = True
                encryption.broken(host, why)
            return False
        self._established(session, verifies)
        return True

    def _established(self, session: Session, verifies: bool) -> None:
        """Note the encryption a handshake ended with."""
        session.tls_verified = verifies
        session.tls_problem = "" if verifies else self._encryption.problem(self._door.host) or self._trace.problem
        self._trace.take_up(session)
