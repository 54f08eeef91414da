"""Clients that submit one message after the other to an ingress, through whatever happens, and keep a ledger of it."""

import contextlib
import smtplib
import ssl
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise

from tests.delivery.house import Tenant
from tests.ingress_process import Tenants, client_context, password_of

PATIENCE_SECONDS = 90.0
USER = "uli"


async def admitted(tenant: Tenant) -> None:
    """Let a user of a tenant submit from loopback."""
    assert tenant.control is not None
    assert tenant.verifier is not None
    tenants = Tenants(tenant.control, tenant.verifier)
    await tenants.instance(tenant.instance)
    await tenants.rule(tenant.instance, "127.0.0.1/32")
    await tenants.user(tenant.record, USER)


@dataclass(frozen=True)
class Answer:
    """What one try to submit a message came to."""

    address: str
    """The recipient, another one for every try: the marker."""
    code: int
    """0: the connection broke before the reply, so that the message may be stored or not."""
    text: str
    began: float
    ended: float


@dataclass
class Log:
    """Every answer there was."""

    answers: list[Answer] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    """Refusals of anything but a message: greeting, login, commands."""

    @property
    def accepted(self) -> dict[str, str]:
        """Queue IDs by marker."""
        return {each.address: each.text.rpartition(" ")[2] for each in self.answers if each.code == 250}

    @property
    def refused(self) -> dict[str, str]:
        """Replies by marker."""
        return {each.address: f"{each.code} {each.text}" for each in self.answers if each.code >= 400}

    @property
    def broken(self) -> set[str]:
        """Markers that nobody knows about."""
        return {each.address for each in self.answers if each.code == 0}

    @property
    def permanent(self) -> list[str]:
        """Every 5xx: a fault of ours must never be one."""
        return [reply for reply in (*self.refused.values(), *self.elsewhere) if reply.startswith("5")]

    @property
    def refusals(self) -> int:
        """How often a client was told no, whatever it had asked for."""
        return len(self.refused) + len(self.elsewhere)

    def longest_pause(self, since: float, until: float) -> float:
        """Return the longest time without an acceptance between two moments."""
        moments = sorted(each.ended for each in self.answers if each.code == 250 and since <= each.ended <= until)
        return max(after - before for before, after in pairwise((since, *moments, until)))

    def first_after(self, moment: float) -> float | None:
        """Return when the first message was accepted after a moment."""
        return min((each.ended for each in self.answers if each.code == 250 and each.ended >= moment), default=None)

    def within(self, since: float, until: float) -> list[Answer]:
        """Return the messages that were begun and accepted between two moments."""
        return [each for each in self.answers if each.code == 250 and each.began >= since and each.ended <= until]


class Submitters:
    """So many clients of the one user, each sending at most so many messages a second, until told to stop."""

    def __init__(self, port: int, sender: str, clients: int, pause_seconds: float, octets: int = 0) -> None:
        """Prepare; `port` is one with TLS from the first octet. Each message has about so many octets, and few more."""
        self.log = Log()
        self._port = port
        self._sender = sender
        self._pause = pause_seconds
        self._text = "Hello, and so on.\r\n" * (1 + octets // 19)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(clients)]

    def start(self) -> None:
        """Begin sending."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is under way."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive(), "a client did not finish"

    def _client(self, client: int) -> None:
        session: smtplib.SMTP | None = None
        number = 0
        while not self._over.wait(self._pause):
            try:
                session = session or self._login()
                session.mail(self._sender)
                number += 1
                if not self._submit(session, f"c{client}m{number}@rcpt.test"):
                    session = None
            except smtplib.SMTPResponseException as fault:
                self.log.elsewhere.append(f"{fault.smtp_code} {_text(fault.smtp_error)}")
                session = None
            except (OSError, ssl.SSLError, smtplib.SMTPException):
                session = None
        if session is not None:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                session.quit()

    def _login(self) -> smtplib.SMTP:
        session = smtplib.SMTP_SSL("127.0.0.1", self._port, timeout=PATIENCE_SECONDS, context=client_context())
        session.login(USER, password_of(USER))
        return session

    def _submit(self, session: smtplib.SMTP, address: str) -> bool:
        """Send one message; return whether the session may be used further."""
        began = time.monotonic()
        code, text = session.rcpt(address)
        if code != 250:
            self.log.elsewhere.append(f"{code} {text.decode()}")
            session.rset()
            return code != 421
        mail = f"From: <{self._sender}>\r\nTo: <{address}>\r\nSubject: {address}\r\n\r\n{self._text}"
        try:
            code, octets = session.data(mail)
            said = octets.decode()
        except smtplib.SMTPDataError as fault:
            code, said = fault.smtp_code, _text(fault.smtp_error)
        except (OSError, smtplib.SMTPException):
            self.log.answers.append(Answer(address, 0, "", began, time.monotonic()))
            return False
        self.log.answers.append(Answer(address, code, said, began, time.monotonic()))
        return code != 421


def _text(said: bytes | str) -> str:
    return said.decode() if isinstance(said, bytes) else said
