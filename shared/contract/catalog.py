"""The catalogue: every stream, bucket, consumer and channel with its one writer and its readers.

Provisioning, the server's permissions and `docs/events.md` are made from these tables. Who is not named as a writer
cannot write; who is not named as a reader cannot read.
"""

from typing import Literal

import msgspec

from shared.contract import events, records
from shared.contract.subjects import ACCEPTANCES

Room = Literal["ingress", "verifier", "delivery", "tracker", "control", "status"]
ROOMS: tuple[Room, ...] = ("ingress", "verifier", "delivery", "tracker", "control")
"""The rooms that have a user on the bus. `status` is the credential for subscribers, `provision` may do everything."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream; `{s}` in name and subjects stands for each shard."""

    name: str
    subjects: tuple[str, ...]
    description: str
    retention: Literal["workqueue", "limits"]
    writers: dict[str, tuple[Room, ...]]
    """Subject pattern to the rooms that may publish there."""
    readers: tuple[Room, ...] = ()
    """Rooms that may read single messages and scan (direct get) and see the stream's size."""
    observers: tuple[Room, ...] = ()
    """Rooms that see only how the stream is set up, what it holds by number and size, and on which subjects."""
    removers: tuple[Room, ...] = ()
    """Rooms that may delete single messages."""
    schedules: bool = False
    bounded: bool = False
    """Has `max_bytes` and refuses new messages when full; else only age limits it, if it has one."""
    forgets: bool = False
    """Has `max_bytes` and forgets the oldest when full: what strangers cause must not take the room of mail."""
    aged: bool = False
    """Messages are kept for `status_hours`."""
    max_age_hours: int = 0
    """Messages are kept for so long; 0: no age of its own."""

    @property
    def sharded(self) -> bool:
        """Whether there is one such stream per shard."""
        return "{s}" in self.name


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """Durable consumers of a stream; `{lane}` and `{slot}` in name and filter are filled in with every value."""

    stream: str
    name: str
    filter: str
    reader: Room
    ack_wait_seconds: int
    max_ack_pending: int
    description: str


class BucketDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """A key-value bucket with its one writer."""

    name: str
    writer: Room
    readers: tuple[Room, ...]
    description: str
    history: int = 1
    max_age_hours: int = 0
    """Entries lapse after so long; 0: never."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A subject events travel on, for people who read `docs/events.md`."""

    subject: str
    carries: tuple[type[events.Event], ...]
    writer: Room
    readers: tuple[Room, ...]
    description: str
    stored: str = ""
    """The stream that keeps it; "" for a broadcast that nobody keeps."""


STREAMS: tuple[Stream, ...] = (
    Stream(
        name="MAIL_{s}",
        subjects=("postlane.mail.{s}.>",),
        description="Accepted messages, fresh; and those nobody could read",
        retention="workqueue",
        bounded=True,
        writers={
            **{f"postlane.mail.{{s}}.{lane}.>": ("ingress",) for lane in records.LANES},
            "postlane.mail.{s}.quarantine.*": ("delivery",),
        },
        readers=("delivery", "tracker"),
        observers=("ingress",),
        removers=("delivery",),
    ),
    Stream(
        name="RETRY_{s}",
        subjects=("postlane.retry.{s}.>",),
        description="Deferred and held messages, scheduled, and those whose time has come",
        retention="workqueue",
        schedules=True,
        writers={"postlane.retry.{s}.>": ("delivery",)},
        readers=("delivery", "tracker"),
    ),
    Stream(
        name="STATUS",
        subjects=("postlane.status.*.*.*",),
        description="One record per attempt or hold; the last one of a subject is the truth about its message",
        retention="limits",
        aged=True,
        writers={"postlane.status.*.*.*": ("delivery",)},
        readers=("delivery", "tracker", "control"),
    ),
    Stream(
        name="ACCEPTED",
        subjects=(ACCEPTANCES,),
        description="Every message that was answered 250, in pages",
        retention="limits",
        aged=True,
        writers={ACCEPTANCES: ("ingress",)},
        readers=("tracker",),
    ),
    Stream(
        name="REFUSALS",
        subjects=("postlane.refused.*.*",),
        description="Every refused submission, with the true reason",
        retention="limits",
        forgets=True,
        aged=True,
        writers={"postlane.refused.*.*": ("ingress",)},
        readers=("tracker",),
    ),
    Stream(
        name="AUDIT",
        subjects=("postlane.audit.*",),
        description="Every change of the directory: who, what, before, after",
        retention="limits",
        writers={"postlane.audit.*": ("control",)},
        readers=("control",),
    ),
    Stream(
        name="NOTICES",
        subjects=("postlane.notice.*.*.*",),
        description="Mails to a tenant's contacts that delivery is to write",
        retention="workqueue",
        writers={"postlane.notice.standing.*.*": ("verifier",), "postlane.notice.desk.*.*": ("control",)},
    ),
    Stream(
        name="CAPTURED",
        subjects=("postlane.captured.*.*.*",),
        description="Staged messages, kept to be looked at",
        retention="limits",
        max_age_hours=72,
        bounded=True,
        writers={"postlane.captured.*.*.*": ("delivery",)},
        readers=("control",),
    ),
)

CONSUMERS: tuple[Consumer, ...] = (
    Consumer(
        stream="MAIL_{s}",
        name="{lane}-{slot}",
        filter="postlane.mail.{s}.{lane}.{slot}.>",
        reader="delivery",
        ack_wait_seconds=30,
        max_ack_pending=1000,
        description="Fresh mail of the tenants of one slot",
    ),
    Consumer(
        stream="RETRY_{s}",
        name="due-{lane}-{slot}",
        filter="postlane.retry.{s}.due.{lane}.{slot}.>",
        reader="delivery",
        ack_wait_seconds=30,
        max_ack_pending=1000,
        description="Messages of one slot whose schedule has fired",
    ),
    *(
        Consumer(
            stream=stream,
            name="tracker",
            filter="",
            reader="tracker",
            ack_wait_seconds=30,
            max_ack_pending=20_000,
            description="Projection into the tracker's database",
        )
        for stream in ("ACCEPTED", "STATUS", "REFUSALS")
    ),
    Consumer(
        stream="NOTICES",
        name="delivery",
        filter="",
        reader="delivery",
        ack_wait_seconds=30,
        max_ack_pending=100,
        description="Notices to write and to send",
    ),
)

BUCKETS: tuple[BucketDeclaration, ...] = (
    BucketDeclaration(
        name="directory",
        writer="control",
        readers=("ingress", "verifier", "delivery", "control"),
        description="Instances, configurations, users (hashes only), zones, rules, authorizations, suspensions",
    ),
    BucketDeclaration(name="keys", writer="control", readers=("delivery", "control"), description="DKIM keys, sealed"),
    BucketDeclaration(
        name="access", writer="control", readers=("control",), description="Keys of the management API, hashed"
    ),
    BucketDeclaration(
        name="standing",
        writer="verifier",
        readers=("ingress", "verifier", "delivery", "control", "tracker"),
        description="What the verifier holds of each configuration",
    ),
    BucketDeclaration(
        name="checks", writer="verifier", readers=("verifier",), description="Leases of checks, shared by replicas"
    ),
    BucketDeclaration(
        name="suppressions",
        writer="delivery",
        readers=("delivery", "control"),
        description="Recipients a configuration no longer sends to",
    ),
    BucketDeclaration(
        name="logins", writer="ingress", readers=("ingress",), description="Failed logins, counted for all replicas"
    ),
    BucketDeclaration(
        name="usage",
        writer="ingress",
        readers=("control",),
        description="When each password was last used",
        max_age_hours=400 * 24,
    ),
    BucketDeclaration(
        name="reports",
        writer="ingress",
        readers=("control",),
        description="Logins that rules in report mode would have refused",
        max_age_hours=168,
    ),
    BucketDeclaration(
        name="spending",
        writer="ingress",
        readers=("ingress", "control"),
        description="What each ingress process has accepted, for quotas",
        max_age_hours=48,
    ),
    BucketDeclaration(
        name="receipts",
        writer="ingress",
        readers=("ingress",),
        description="Submissions that may be repeated, by digest",
        max_age_hours=24,
    ),
    BucketDeclaration(
        name="withdrawn",
        writer="ingress",
        readers=("delivery",),
        description="Messages of unknown fate whose clients were told 451: not to be tried",
        max_age_hours=24,
    ),
    BucketDeclaration(
        name="policies",
        writer="delivery",
        readers=("delivery",),
        description="MTA-STS policies of destinations",
        max_age_hours=400 * 24,  # a policy holds for a year at most, and is fetched anew each day that it is needed
    ),
    BucketDeclaration(
        name="intents",
        writer="delivery",
        readers=("delivery",),
        description="What each delivery worker may have come past the final dot with",
        max_age_hours=30 * 24,
    ),
    BucketDeclaration(
        name="pressure",
        writer="delivery",
        readers=("delivery",),
        description="Connections and breakers of each delivery worker",
        max_age_hours=1,
    ),
)

NOTICES: tuple[tuple[str, Room, str], ...] = (
    ("standing", "verifier", "the standing of its domain moved"),
    ("desk", "control", "an administrator decided, or an address is to be confirmed"),
)
"""What notices are about: a word of their subject, who writes them."""

CHANNELS: tuple[Channel, ...] = (
    Channel(
        subject="postlane.accepted.{instance}.{configuration}.{queue id}",
        carries=(events.MessageAccepted,),
        writer="ingress",
        readers=("control", "status"),
        description="Said once the acceptance is stored; not awaited before the client's 250.",
    ),
    Channel(
        subject=ACCEPTANCES,
        carries=(events.MessageAccepted,),
        writer="ingress",
        readers=("tracker",),
        description="A page of acceptances of all tenants, one a line, as they came together (`shared.contract.page`).",
        stored="ACCEPTED",
    ),
    Channel(
        subject="postlane.status.{instance}.{configuration}.{queue id}",
        carries=(
            events.MessageAttempted,
            events.MessageHeld,
            events.MessageReleased,
            events.MessageExpired,
            events.MessageDropped,
        ),
        writer="delivery",
        readers=("tracker", "status"),
        description="What happened to a message. Subscribe here; each record carries the state of every recipient.",
        stored="STATUS",
    ),
    Channel(
        subject="postlane.refused.{instance or -}.{configuration or -}",
        carries=(events.SubmissionRefused,),
        writer="ingress",
        readers=("tracker", "control", "status"),
        description="Every 4xx and 5xx before acceptance, with the reference the client was given.",
        stored="REFUSALS",
    ),
    Channel(
        subject="postlane.client.{instance or -}",
        carries=(events.ClientSeen,),
        writer="ingress",
        readers=("control", "status"),
        description="A client logged in, or left before it did. A broadcast for `postlane connect`.",
    ),
    Channel(
        subject="postlane.suspension.{configuration}",
        carries=(events.StandingChanged,),
        writer="verifier",
        readers=("ingress", "delivery", "status"),
        description="The standing of a configuration moved. The bucket `standing` holds the present state.",
    ),
    Channel(
        subject="postlane.audit.{instance or -}",
        carries=(events.DirectoryChanged,),
        writer="control",
        readers=("control",),
        description="Every administrative change.",
        stored="AUDIT",
    ),
    *(
        Channel(
            subject=f"postlane.notice.{desk}.{{instance}}.{{configuration}}",
            carries=(events.NoticeRequested,),
            writer=writer,
            readers=("delivery",),
            description=f"A mail to a tenant's contacts is to be written: {about}.",
            stored="NOTICES",
        )
        for desk, writer, about in NOTICES
    ),
    Channel(
        subject="postlane.captured.{instance}.{configuration}.{queue id}",
        carries=(events.MessageCaptured,),
        writer="delivery",
        readers=("control",),
        description="A staged message that was kept instead of delivered.",
        stored="CAPTURED",
    ),
)

ASKS_ROLL_CALL: Room = "control"
"""Who may ask every process how it is; all rooms answer, on `examination.ROLL_CALL`."""

SERVICES: dict[str, tuple[Room, tuple[Room, ...]]] = {
    "postlane.verifier.>": ("verifier", ("control",)),
    "postlane.tracker.>": ("tracker", ("control",)),
    "postlane.delivery.>": ("delivery", ("control",)),
}
"""Subjects of requests: who answers, who may ask."""
