"""`postlane demo`: the main job, told step by step, on this machine alone. Exit 0 only if all of it happened."""

import asyncio
import smtplib
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from services.command.customer import ApiRefused, Customer, TxtRecord
from services.command.demo_tenant import CLIENTS, pretend_world, publish, publish_records, verified
from services.command.running import Running
from services.command.up import Wishes, running
from shared.bus.client import Bus, connect
from shared.bus.permissions import STATUS_USER
from shared.bus.settings import BusSettings
from shared.contract.errors import PostlaneError
from shared.contract.events import AnyStatus
from shared.runtime.secret import Secret

DOMAIN = "shop.example"
SENDER = f"orders@{DOMAIN}"
RECIPIENT = "delivered@inbox.example"
STEP_SECONDS = 30.0
POLL_SECONDS = 0.1


class StoryBroken(PostlaneError):
    """A step of the demo did not happen; the text says which."""


class Narrator:
    """Tells the steps: with time and colour on a terminal, in plain lines elsewhere."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._colour = sys.stdout.isatty()

    def step(self, text: str) -> None:
        """Begin a step."""
        self._line(f"\x1b[1m{text}\x1b[0m" if self._colour else text)

    def say(self, text: str) -> None:
        """Say what happened in a step."""
        for line in text.splitlines():
            self._line("    " + line)

    def _line(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)


class Follower:
    """Listens to the status events of a tenant as any subscriber with the status credentials can."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._events: list[AnyStatus] = []
        self._news = asyncio.Event()
        self._told: dict[str, int] = {}

    async def start(self, instance: str) -> None:
        """Subscribe."""
        await self._bus.listen(f"postlane.status.{instance}.>", self._heard)
        await self._bus.reached()

    async def _heard(self, _subject: str, body: bytes) -> None:
        self._events.append(msgspec.json.decode(body, type=AnyStatus))
        self._news.set()

    async def until(self, queue_id: str, status: str, tell: Callable[[str], None]) -> list[AnyStatus]:
        """Tell each event of a message as it comes, until one has this status; return all of them.

        Errors: `StoryBroken` if it does not come.
        """
        try:
            async with asyncio.timeout(STEP_SECONDS):
                while True:
                    mine = [event for event in self._events if event.queue_id == queue_id]
                    for event in mine[self._told.get(queue_id, 0) :]:
                        tell(f"{event.status}: {event.explanation or type(event).__name__}")
                    self._told[queue_id] = len(mine)
                    if mine and mine[-1].status == status:
                        return mine
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as fault:
            raise StoryBroken(f"{queue_id} did not become {status} within {STEP_SECONDS:.0f} s") from fault


async def run(directory: Path) -> int:
    """Tell the story; return the exit status."""
    narrator = Narrator()
    wishes = Wishes(data=directory, sandbox=True, auto_ports=True, profile=False, tenant=False)
    narrator.step("Starting NATS and every room on free ports of this machine")
    last, failed = "", list[BaseException]()
    try:
        async with running(wishes, narrator.say) as state:
            last = await _story(state, narrator)
            narrator.step("Stopping")
    except* PostlaneError as faults:
        failed = _leaves(faults)
    for fault in failed:
        print(f"postlane demo: {fault}", file=sys.stderr)
    if not failed:
        print(last)
    return 1 if failed else 0


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for fault in group.exceptions:
        found += _leaves(fault) if isinstance(fault, BaseExceptionGroup) else [fault]
    return found


async def _story(state: Running, narrator: Narrator) -> str:
    sandbox = state.workspace / "sandbox"
    customer = Customer(state.http, state.operator_key)
    bus = await connect(
        BusSettings(
            url=f"nats://127.0.0.1:{state.ports.nats}", user=STATUS_USER, password=Secret(state.status_password)
        ),
        STATUS_USER,
    )
    try:
        await pretend_world(sandbox, "127.0.0.1", "spf.postlane.example", "192.0.2.25")
        instance, configuration, records, login = await _onboard(customer, sandbox, narrator)
        follower = Follower(bus)
        await follower.start(instance)
        queue_id, milliseconds = await _deliver(state, login, follower, narrator)
        await _check_signature(sandbox, queue_id, records, narrator)
        await _suspend_and_release(state, customer, instance, configuration, records, login, follower, narrator)
        return f"{queue_id} delivered in {milliseconds} ms"
    finally:
        await bus.close()
        await customer.close()


async def _onboard(
    customer: Customer, sandbox: Path, narrator: Narrator
) -> tuple[str, str, list[TxtRecord], tuple[str, str]]:
    narrator.step(f"A customer onboards {DOMAIN}")
    instance = await customer.instance("shop")
    configuration, records = await customer.configuration(instance, DOMAIN)
    for record in records:
        shown = record.value if len(record.value) < 80 else record.value[:77] + "..."
        narrator.say(f'publish  {record.name}  TXT  "{shown}"')
    before = await customer.verify(instance, configuration)
    narrator.say(f"checked before publishing: SPF {before['spf']}, DKIM {before['dkim']}")
    if "SUCCESSFUL" in (before["spf"], before["dkim"]):
        raise StoryBroken("records were found before they were published")
    await publish_records(sandbox, DOMAIN, "127.0.0.1", records)
    await verified(customer, instance, configuration)
    narrator.say("published in the sandbox's DNS and verified: SPF SUCCESSFUL, DKIM SUCCESSFUL")
    await customer.authorize(instance, configuration, DOMAIN)
    narrator.say("questionnaire answered by the customer, approved by the operator")
    username, password = await customer.user(instance, configuration)
    narrator.say(f"SMTP user {username}, its password shown this once")
    await customer.open_to(instance, CLIENTS)
    narrator.say("a zone with this machine's loopback and a rule that admits it")
    return instance, configuration, records, (username, password)


async def _deliver(state: Running, login: tuple[str, str], follower: Follower, narrator: Narrator) -> tuple[str, int]:
    narrator.step("An application submits over STARTTLS with AUTH")
    reply = await asyncio.to_thread(_submit, state, login, "Your order")
    accepted = time.monotonic()
    narrator.say(reply)
    queue_id = _queue_id(reply)
    narrator.step(f"Following {queue_id} live")
    await follower.until(queue_id, "delivered", narrator.say)
    return queue_id, round((time.monotonic() - accepted) * 1000)


async def _check_signature(sandbox: Path, queue_id: str, records: list[TxtRecord], narrator: Narrator) -> None:
    narrator.step("An independent verifier checks the delivered message")
    try:
        import dkim
    except ImportError as fault:
        raise StoryBroken("dkimpy is not installed: run `make demo`, or pip install dkimpy") from fault
    keys = {record.name.encode() + b".": record.value.encode() for record in records}
    (file,) = (sandbox / "Maildir" / "new").iterdir()
    message = file.read_bytes()
    if queue_id.encode() not in message:
        raise StoryBroken("the delivered message does not carry its queue ID")
    if not dkim.verify(message, dnsfunc=lambda name, timeout=5: keys.get(name)):
        raise StoryBroken("dkimpy does not accept the signature")
    narrator.say(f"dkimpy: signature good, d={DOMAIN}; {len(message)} octets in the sandbox's Maildir")


async def _suspend_and_release(
    state: Running,
    customer: Customer,
    instance: str,
    configuration: str,
    records: list[TxtRecord],
    login: tuple[str, str],
    follower: Follower,
    narrator: Narrator,
) -> None:
    sandbox = state.workspace / "sandbox"
    (spf,) = [record for record in records if record.name == DOMAIN]
    narrator.step("The SPF record disappears from DNS")
    await publish(sandbox, "rm", spf.name, "TXT")
    await _standing(customer, instance, configuration, "suspended", narrator)
    reply = await asyncio.to_thread(_submit, state, login, "Your invoice")
    narrator.say(f"new mail is still taken: {reply}")
    queue_id = _queue_id(reply)
    await follower.until(queue_id, "held", narrator.say)
    narrator.step("The record comes back")
    await publish(sandbox, "set", spf.name, "TXT", spf.value)
    await _standing(customer, instance, configuration, "verified", narrator)
    await follower.until(queue_id, "delivered", narrator.say)
    if len(list((sandbox / "Maildir" / "new").iterdir())) != 2:
        raise StoryBroken("the held message was not delivered exactly once")
    narrator.say("the held message was released by itself and delivered once")


async def _standing(customer: Customer, instance: str, configuration: str, wanted: str, narrator: Narrator) -> None:
    shown = ""
    try:
        async with asyncio.timeout(STEP_SECONDS):
            while True:
                standing = await customer.standing(instance, configuration)
                sentence = f"standing {standing['state']}: {standing['reason']}"
                if sentence != shown:
                    narrator.say(sentence)
                    shown = sentence
                if standing["state"] == wanted:
                    return
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError as fault:
        raise StoryBroken(f"the domain did not become {wanted} within {STEP_SECONDS:.0f} s") from fault


def _submit(state: Running, login: tuple[str, str], subject: str) -> str:
    """Send one message with the standard library's client; return the final reply."""
    with smtplib.SMTP("127.0.0.1", state.ports.smtp, timeout=STEP_SECONDS) as session:
        session.starttls(context=ssl.create_default_context(cafile=str(state.ca_file)))
        session.login(*login)
        session.mail(SENDER)
        session.rcpt(RECIPIENT)
        code, text = session.data(
            f"From: Shop <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nSubject: {subject}\r\n\r\nThank you.\r\n"
        )
    if code != 250:
        raise ApiRefused(f"the submission was refused: {code} {text.decode()}")
    return f"{code} {text.decode()}"


def _queue_id(reply: str) -> str:
    return reply.rpartition("queued as ")[2].split()[0]
