"""How fast the tracker writes events and answers questions: `python -m benchmarks.tracker_load [messages] [url]`.

One message is one acceptance and one or two status records. Without a URL the database is a new SQLite file.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from services.tracker.core.fact import SOURCES, Fact, Source
from services.tracker.reading import Reading
from services.tracker.store import Store
from shared.contract import subjects
from shared.contract.envelope import Diagnosis, RecipientState, RecipientStatus
from shared.contract.events import MessageAccepted, MessageAttempted
from shared.contract.requests import CountMessages, SearchMessages
from shared.mail.ids import new_queue_id

BATCH = 500
TENANTS = 50
START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def facts(messages: int) -> Iterator[Fact]:
    """Yield the facts of so many messages, ten milliseconds apart; every tenth is deferred once."""
    sequences: dict[Source, int] = dict.fromkeys(SOURCES, 0)
    for i in range(messages):
        at = START + timedelta(milliseconds=10 * i)
        queue_id = new_queue_id(int(at.timestamp() * 1000), (i * 2654435761).to_bytes(13, "big"))
        configuration, address = f"c{i % TENANTS}", f"r{i % 5000}@x{i % 100}.example"
        subject = subjects.status("i", configuration, queue_id)
        accepted = MessageAccepted(
            id=str(i), at=at, queue_id=queue_id, instance="i", configuration=configuration, lane="transactional",
            sender=f"app@d{i % TENANTS}.example", recipients=(address,), size=1000, sha256="0" * 64,
            message_id=f"<{i}@x>", subject="A subject of some length",
        )  # fmt: skip
        sequences["ACCEPTED"] += 1
        yield Fact(
            source="ACCEPTED", sequence=sequences["ACCEPTED"], subject=subject, stored_at=at,
            payload=msgspec.json.encode(accepted),
        )  # fmt: skip
        outcomes: tuple[RecipientStatus, ...] = ("deferred", "delivered") if i % 10 == 0 else ("delivered",)
        for attempt, status in enumerate(outcomes, 1):
            last = Diagnosis(code=250, enhanced="2.0.0", text="Ok: queued", host="mx.example", address="192.0.2.1")
            state = RecipientState(
                number=1,
                address=address,
                status=status,
                attempts=attempt,
                at=at + timedelta(seconds=attempt),
                last=last,
            )
            attempted = MessageAttempted(
                id=f"{i}-{attempt}", at=at + timedelta(seconds=attempt), queue_id=queue_id, instance="i",
                configuration=configuration, status=status, attempt=attempt, recipients=(state,),
            )  # fmt: skip
            sequences["STATUS"] += 1
            yield Fact(
                source="STATUS", sequence=sequences["STATUS"], subject=subject, stored_at=at,
                payload=msgspec.json.encode(attempted),
            )  # fmt: skip


def write(store: Store, messages: int) -> None:
    """Write the facts in batches of one source each, as the projector does, and print the rate."""
    waiting: dict[Source, list[Fact]] = {source: [] for source in SOURCES}
    seconds = cpu = 0.0
    count = 0

    def flush(source: Source) -> None:
        nonlocal seconds, cpu, count
        batch, waiting[source] = waiting[source], []
        began, began_cpu = time.perf_counter(), time.process_time()
        store.apply(batch)
        seconds += time.perf_counter() - began
        cpu += time.process_time() - began_cpu
        count += len(batch)

    for fact in facts(messages):
        waiting[fact.source].append(fact)
        if len(waiting[fact.source]) == BATCH:
            flush(fact.source)
    for source in SOURCES:
        flush(source)
    print(f"write      {count / seconds:8.0f} events/s  {cpu / count * 1e6:6.0f} µs CPU an event")


def ask(what: str, question: Callable[[], object], times: int = 5) -> None:
    """Print the median time of a question."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        question()
        took.append(time.perf_counter() - began)
    print(f"{what:24} {sorted(took)[times // 2] * 1000:8.2f} ms")


def main(messages: int, url: str) -> None:
    """Run everything."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store(url or f"sqlite:///{directory}/tracker.sqlite")
        store.prepare()
        for source in SOURCES:
            store.position(source, "benchmark")
        write(store, messages)
        print(f"size       {sum(f.stat().st_size for f in Path(directory).iterdir()) / messages:8.0f} octets a message")
        reading = Reading(store)
        queue_id = reading.search(SearchMessages(limit=1))[0][0].queue_id
        ask("one message", lambda: reading.message(queue_id, None), 101)
        searches = {
            "newest 50": SearchMessages(),
            "by recipient": SearchMessages(recipient="r17@x17.example"),
            "by recipient's domain": SearchMessages(recipient="@x17.example"),
            "by configuration": SearchMessages(configuration="c7"),
            "by sender and instance": SearchMessages(sender="app@d7.example", instances=("i",)),
            "by Message-ID": SearchMessages(message_id="<77@x>"),
        }
        for what, wish in searches.items():
            ask(what, lambda wish=wish: reading.search(wish))  # type: ignore[misc]
        counts = CountMessages(
            instance="i", configuration="c7", since=START, until=START + timedelta(hours=2), bucket_seconds=300
        )
        ask("counts of a tenant", lambda: reading.tallies(counts))
        store.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, sys.argv[2] if len(sys.argv) > 2 else "")
