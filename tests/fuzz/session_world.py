"""A submission session without a socket: the real protocol, commands and reception, on a wire that is a list of octets.

What it stores lies in `stored`; nothing of it does I/O. TLS is agreed on without being spoken.
"""

import asyncio
import inspect
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
from prometheus_client import CollectorRegistry

from services.ingress.connections import Connections
from services.ingress.core.refusal import Refusal
from services.ingress.core.sasl import Attempt
from services.ingress.desk import Desk
from services.ingress.directory import Directory
from services.ingress.inspection import Inspection, SpamFilter
from services.ingress.metrics import Metrics
from services.ingress.quotas import Quotas
from services.ingress.receipts import Receipts
from services.ingress.reception import Reception
from services.ingress.session import Login, SubmissionSession
from services.ingress.settings import IngressSettings
from services.ingress.spool import Budget
from services.ingress.submission import Submission
from shared.contract.envelope import Envelope, unpack
from shared.contract.records import (
    Authorization,
    Configuration,
    Password,
    Rule,
    RuleContext,
    User,
    Zone,
    ZoneAddress,
)  # fmt: skip
from shared.contract.standing import Standing
from shared.contract.subjects import Place
from shared.mail import reply
from tests.ingress_process import AT, QUESTIONNAIRE

SETTINGS = IngressSettings(
    tls_certificate_file=Path("none"), tls_key_file=Path("none"), host_name="mail.test", recipients=3, errors=30,
    message_bytes=5_000, idle_commands=50,
)  # fmt: skip
TURNS = 2_000
"""Turns of the loop after which a session that neither waits nor ends is taken to hang."""


class Wire(asyncio.Transport):
    """One direction of a connection; what is written stays in `written`."""

    def __init__(self, tls: bool = False) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self._tls = tls

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what a socket would tell."""
        if name == "ssl_object" and self._tls:
            return SimpleNamespace(version=lambda: "TLSv1.3", cipher=lambda: ("TLS_AES_128_GCM_SHA256", "", 128))
        return ("192.0.2.1", 4242) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what is written."""
        self.written += data

    def get_write_buffer_size(self) -> int:
        """Return 0: everything is read at once."""
        return 0

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def abort(self) -> None:
        """Note it."""
        self.closed = True

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return self.closed

    def pause_reading(self) -> None:
        """Do nothing: octets come only when they are fed."""

    def resume_reading(self) -> None:
        """Do nothing."""


class Faults(logging.Handler):
    """Keeps what is logged as an exception."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        if record.exc_info:
            self.seen.append(logging.Formatter().format(record))


class SessionWorld:
    """A desk whose directory has alice of shop.example, and one connection after another."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.start_tls = self._agree_on_tls  # type: ignore[method-assign,assignment]
        self.stored: list[tuple[Envelope, bytes]] = []
        self.faults = Faults()
        log = logging.Logger("session world")
        log.addHandler(self.faults)
        self.loop.set_exception_handler(lambda _, context: self.faults.seen.append(repr(context)))
        nobody = cast(Any, None)
        directory = Directory(nobody)
        _fill(directory)
        metrics = Metrics(CollectorRegistry())
        spool = SimpleNamespace(shards=1, store=self._store)
        journal = SimpleNamespace(post=lambda posting: True)
        told = SimpleNamespace(logged_in=_nothing, left=_nothing)
        self.desk = cast(
            Desk,
            SimpleNamespace(
                settings=SETTINGS,
                certificate=SimpleNamespace(context=None),
                connections=Connections(SETTINGS),
                authentication=SimpleNamespace(login=self._login),
                reception=_reception(directory, cast(Any, spool), cast(Any, journal), metrics),
                refusals=SimpleNamespace(record=lambda refusal, phase, party: ("R-0123456789", True)),
                sightings=told,
                usage=SimpleNamespace(logged_in=lambda *_: None, used=lambda *_: None),
                proof=SimpleNamespace(awaited=_yes),
                budget=Budget(1 << 30, 1 << 30),
                metrics=metrics,
                tasks=SimpleNamespace(create_task=self.loop.create_task),
                log=log,
                sessions=set(),
                draining=asyncio.Event(),
                over=asyncio.Event(),
            ),
        )
        self.connect()

    def connect(self) -> None:
        """Begin a new connection."""
        self.session = Submission(self.desk, "public", self.loop)
        self.wire = Wire()
        self.session.connection_made(self.wire)
        self._read = 0
        self._settle()

    def send(self, octets: bytes) -> None:
        """Let octets arrive, and the session do all it can with them."""
        self.session.data_received(octets)
        self._settle()

    def said(self) -> list[bytes]:
        """Return the reply lines since the last time; every one must be whole."""
        new = bytes(self.wire.written[self._read :])
        self._read = len(self.wire.written)
        assert new == b"" or new.endswith(b"\r\n"), new
        return new.split(b"\r\n")[:-1]

    def close(self) -> None:
        """End the connection and the loop."""
        self.session.connection_lost(None)
        self._settle()
        self.loop.close()

    @property
    def over(self) -> bool:
        """Whether the session has ended."""
        task = self.session._handler_coroutine
        return task is not None and task.done()

    def _settle(self) -> None:
        async def until_it_waits() -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)
                waiter = self.session.inbound._waiter
                if self.over or (waiter is not None and not waiter.done()):
                    return
            raise AssertionError("the session neither waits for its client nor ends")

        self.loop.run_until_complete(until_it_waits())

    async def _agree_on_tls(self, transport: Wire, protocol: Submission, *_: object, **__: object) -> Wire:
        tls = Wire(tls=True)
        tls.written = transport.written
        self.wire = tls
        return tls

    async def _login(self, session: SubmissionSession, attempt: Attempt) -> Login | Refusal:
        if (attempt.username, attempt.password) == ("alice", "secret") and attempt.usable:
            return Login("alice", frozenset({"hash"}), "a")
        return Refusal(reply.BAD_CREDENTIALS, "wrong password")

    async def _store(self, place: Place, payload: bytes, *, again: bool) -> str:
        carriage, mail = unpack(payload)
        self.stored.append((carriage.envelope, mail))
        return "stored"


def _reception(directory: Directory, spool: Any, journal: Any, metrics: Metrics) -> Reception:
    """Return a real reception whose bus is nobody."""
    nobody = cast(Any, None)
    parts: dict[str, Any] = {
        "directory": directory,
        "spool": spool,
        "accepted": journal,
        "metrics": metrics,
        "settings": SETTINGS,
        "slots": 1,
        "quotas": Quotas(nobody, 1),
        "receipts": Receipts(nobody, SETTINGS),
        "inspection": Inspection(SETTINGS, SpamFilter(SETTINGS)),
    }
    wanted = [name for name in inspect.signature(Reception.__init__).parameters if name != "self"]
    return Reception(**{name: parts.get(name, nobody) for name in wanted})  # of other parts nothing is asked here


async def _yes(_seconds: float) -> bool:
    return True


async def _nothing(*_: object) -> None:
    return None


def _fill(directory: Directory) -> None:
    """Put alice, her configuration and a rule for everybody there."""
    shop = Configuration(
        id="shop", instance="a", name="shop", domain="shop.example", selector="s", dkim_value="", spf_value="",
        created_at=AT, updated_at=AT,
    )  # fmt: skip
    alice = User(
        id="u", instance="a", configuration="shop", username="alice",
        passwords=(Password(id="p", hash="hash", created_at=AT),), created_at=AT, updated_at=AT,
    )  # fmt: skip
    everybody = tuple(ZoneAddress(type="subnet", value=network) for network in ("0.0.0.0/0", "::/0"))
    zone = Zone(id="z", instance="a", name="all", addresses=everybody, created_at=AT, updated_at=AT)
    rule = Rule(id="r", instance="a", contexts=(RuleContext(zones=("z",)),), created_at=AT, updated_at=AT)
    approved = Authorization(
        configuration="shop", instance="a", status="approved", questionnaire=QUESTIONNAIRE, submitted_at=AT
    )
    records = {
        "configuration.shop": shop, "user.shop.u": alice, "zone.z": zone, "rule.r": rule,
        "authorization.shop": approved,
    }  # fmt: skip
    for revision, (key, record) in enumerate(records.items(), 1):
        directory._records._take(key, revision, msgspec.json.encode(record))
    good = Standing(configuration="shop", instance="a", domain="shop.example", state="verified", reason="", since=AT)
    directory._standings._take("shop", 1, msgspec.json.encode(good))
