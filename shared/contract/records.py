"""State that is edited and kept: the entries of the key-value buckets.

Each record is a tagged Struct in JSON; fields are only ever added, with defaults. Times are RFC 3339 in UTC.
"""

from datetime import datetime
from typing import Literal

import msgspec

Lane = Literal["transactional", "marketing"]
LANES: tuple[Lane, ...] = ("transactional", "marketing")
Role = Literal["operator", "manager", "reader"]


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=False):
    """Base of everything kept in a bucket; the field `type` names the record and its version."""


class Instance(Record, frozen=True, kw_only=True, tag="instance.v1"):
    """A tenant. Bucket `directory`, key `instance.<id>`."""

    id: str
    name: str
    created_at: datetime


class PublishedKey(msgspec.Struct, frozen=True, kw_only=True):
    """The public half of a signing key, as it is to be published at `<selector>._domainkey.<domain>`."""

    selector: str
    value: str
    """The TXT value."""
    since: datetime


Policy = Literal["off", "warn", "refuse"]
"""What a finding in a message's content leads to: nothing, a remark in its timeline, or a refusal."""
RepeatPolicy = Literal["off", "header", "content"]
StagingMode = Literal["deliver", "capture", "redirect", "allow-list", "simulate"]


class Configuration(Record, frozen=True, kw_only=True, tag="configuration.v1"):
    """An SMTP configuration: one name, one sender domain, its users. Bucket `directory`, key `configuration.<id>`."""

    id: str
    instance: str
    name: str
    domain: str
    """In lower-case A-labels; never changes."""
    selector: str
    """DKIM selector; the public key is published at `<selector>._domainkey.<domain>`."""
    dkim_value: str
    """The TXT value the customer publishes: the public key as given at creation."""
    spf_value: str
    """The TXT value advised at creation; it never changes afterwards."""
    created_at: datetime
    updated_at: datetime
    description: str = ""
    when_suspended: Literal["hold", "refuse"] = "hold"
    """What happens to new mail while sending is suspended for DNS."""
    hold_cap: int = 10_000
    """Most messages held while suspended; beyond it new mail is told 452."""
    lifetime_seconds: int | None = None
    """How long delivery is tried; None is the setting of delivery."""
    reply_to: str = ""
    """Where bounce reports go; an address of the customer. Empty: to the envelope sender."""
    reply_to_confirmed_at: datetime | None = None
    """When the owner of `reply_to` followed the mailed link. Before that reports go there only if it lies in the
    configuration's own domain, else to the envelope sender."""
    attachments_allowed: bool = False
    at_most_once: bool = False
    """A message whose final reply was lost is given up rather than sent twice."""
    egress_pool: str = ""
    """Name of a pool of outgoing addresses in delivery's settings; empty: every address."""
    repeats: RepeatPolicy = "header"
    """Which repeated submissions get the first one's queue ID and no second copy: none, those with an idempotency
    header, or also those of the same Message-ID, envelope and body."""
    html_policy: Policy = "off"
    """What HTML that is not well-formed leads to."""
    unsubscribe_policy: Policy = "off"
    """What marketing mail without a way to unsubscribe leads to."""
    spam_policy: Policy = "off"
    """What the spam filter's word leads to, where one is set up."""
    dkim_delegated: bool = False
    """The customer published CNAMEs into the operator's zone, so that keys are rotated without the customer."""
    dkim_zone: str = ""
    """The operator's zone those CNAMEs lead into, at `<selector>.<zone>`; as it was when the domain was delegated."""
    spare_selector: str = ""
    """Of a delegated domain: the second selector with a CNAME, for the next rotation."""
    finish_when_seen: bool = False
    """The rotation under way finishes by itself once the verifier has seen the next key."""
    next_key: PublishedKey | None = None
    """A rotation is under way: the verifier looks for this key too; sealed at `dkim-next.<configuration>`."""
    retired_key: PublishedKey | None = None
    """The key before the last rotation; it stays published while its mail is under way."""
    ed25519_key: PublishedKey | None = None
    """A second signing key (RFC 8463); sealed at `dkim-ed25519.<configuration>`."""
    allowed_addresses: tuple[str, ...] = ()
    """Imported entries of the deprecated list of allowed addresses; they admit until `allowed_until`."""
    allowed_until: datetime | None = None


class DomainTakeover(Record, frozen=True, kw_only=True, tag="domain-takeover.v1"):
    """A domain claimed although another configuration has it. Bucket `directory`, key `takeover.<id>`.

    Whoever publishes `token` at `_postlane-challenge.<domain>` has proved that the domain is theirs.
    """

    id: str
    instance: str
    domain: str
    token: str
    at: datetime


class DomainClaim(Record, frozen=True, kw_only=True, tag="domain-claim.v1"):
    """Makes a domain unique across instances. Bucket `directory`, key `domain.<domain, encoded>`."""

    domain: str
    configuration: str
    at: datetime | None = None
    """When it was claimed: a claim whose configuration never came into being lapses."""


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """One seat of a roster: whose it is, under which name, since when."""

    holder: str
    name: str
    at: datetime


class Roster(Record, frozen=True, kw_only=True, tag="roster.v1"):
    """Counts what is limited and keeps names unique, by compare-and-set, whichever replica of control writes.

    Bucket `directory`, keys `roster.users.<configuration>` and `roster.zones.<instance>`.
    """

    seats: tuple[Seat, ...] = ()


class Password(msgspec.Struct, frozen=True, kw_only=True):
    """One live password of a user, kept only as its Argon2id hash."""

    id: str
    hash: str
    created_at: datetime
    expires_at: datetime | None = None


class User(Record, frozen=True, kw_only=True, tag="user.v1"):
    """SMTP credentials in a configuration. Bucket `directory`, key `user.<configuration>.<id>`."""

    id: str
    instance: str
    configuration: str
    username: str
    passwords: tuple[Password, ...]
    created_at: datetime
    updated_at: datetime
    description: str = ""
    senders: tuple[str, ...] = ()
    """Allowed senders, envelope and From: addresses or patterns with `*`; empty: every address of the domain."""
    networks: tuple[str, ...] = ()
    """Networks (CIDR) this user may come from, besides the instance's rules; empty: no further limit."""
    recipients: tuple[str, ...] = ()
    """Allowed recipients: addresses or patterns with `*`; empty: everybody."""
    messages_per_hour: int = 0
    """0: only the configuration's quota counts."""
    staging: StagingMode = "deliver"
    """What becomes of this user's mail: delivered; kept to be looked at (`capture`); sent to `redirect_to` instead;
    delivered only to `staging_allowed`, the rest kept (`allow-list`); or answered by the simulator (`simulate`)."""
    redirect_to: str = ""
    staging_allowed: tuple[str, ...] = ()


class ZoneAddress(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a zone: `ipAddress`, `ipRange` (first-last) or `subnet` (CIDR)."""

    type: Literal["ipAddress", "ipRange", "subnet"]
    value: str


class Zone(Record, frozen=True, kw_only=True, tag="zone.v1"):
    """A named set of networks. Bucket `directory`, key `zone.<id>` (32 hex digits)."""

    id: str
    instance: str
    name: str
    addresses: tuple[ZoneAddress, ...]
    created_at: datetime
    updated_at: datetime
    excluded: tuple[ZoneAddress, ...] = ()
    description: str = ""
    created_by: str = ""
    updated_by: str = ""


class RuleAttribute(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A name and a value of a rule, as its author wrote them; read back, never evaluated."""

    name: str
    value: str
    operator: str = ""


class RuleContext(msgspec.Struct, frozen=True, kw_only=True):
    """One alternative of a rule: any of `zones`, reached by any of `endpoints` (empty: any endpoint)."""

    zones: tuple[str, ...]
    endpoints: tuple[Literal["public", "private"], ...] = ()
    written: tuple[RuleAttribute, ...] = ()


class Rule(Record, frozen=True, kw_only=True, tag="rule.v1"):
    """Lets zones reach an instance's SMTP interface. Bucket `directory`, key `rule.<id>`. No rule, no access.

    Only an `enabled` rule opens or restricts; of several enabled rules every one must admit the address.
    """

    id: str
    instance: str
    contexts: tuple[RuleContext, ...]
    created_at: datetime
    updated_at: datetime
    enforcement: Literal["enabled", "report", "disabled"] = "enabled"
    description: str = ""
    created_by: str = ""
    updated_by: str = ""
    resource: tuple[RuleAttribute, ...] = ()
    api_types: tuple[str, ...] = ()


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """An address that receives account-related communications."""

    address: str


class Questionnaire(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the customer answers before an operator authorises sending."""

    nature: Literal["marketing", "transactional"]
    website: str
    list_source: str
    bounces_and_complaints: str
    unsubscribe: str
    quota_rationale: str
    list_cleaning: str
    contacts: tuple[str, ...]
    """One to four addresses."""
    reply_to: str
    only_to_requesters: bool
    """The customer affirms that mail goes only to people who asked for it."""
    unsubscribe_link: bool
    """The customer agrees to put an unsubscribe link into the mail."""
    html_validation: str = ""
    evidence: tuple[str, ...] = ()


class Authorization(Record, frozen=True, kw_only=True, tag="authorization.v1"):
    """The questionnaire and the operator's decision. Bucket `directory`, key `authorization.<configuration>`."""

    configuration: str
    instance: str
    status: Literal["submitted", "approved", "rejected"]
    questionnaire: Questionnaire
    submitted_at: datetime
    decided_at: datetime | None = None
    decided_by: str = ""
    reason: str = ""
    lane: Lane = "transactional"
    messages_per_hour: int = 0
    """Approved rate; 0 is unlimited."""
    messages_per_second: int = 0
    messages_per_day: int = 0
    recipients_per_message: int = 0
    """0: the setting of ingress."""
    message_bytes: int = 0
    """0: the setting of ingress."""


class Suspension(Record, frozen=True, kw_only=True, tag="suspension.v1", omit_defaults=True):
    """An operator's suspension, stronger than any standing. Bucket `directory`, key `suspension.<configuration>`.

    It holds as long as it is there, also while it is being ended.
    """

    configuration: str
    reason: str
    by: str
    at: datetime
    ending_at: datetime | None = None
    """Its end was decided: its contacts are told, then it goes. A control that starts finishes what is left of that."""
    ending_by: str = ""


class DkimKey(Record, frozen=True, kw_only=True, tag="dkim-key.v1"):
    """A signing key, sealed with the master key.

    Bucket `keys`, keys `dkim.<configuration>`, `dkim-next.<configuration>` (during a rotation) and
    `dkim-ed25519.<configuration>` (a second signature).
    """

    configuration: str
    domain: str
    selector: str
    algorithm: Literal["rsa-sha256", "ed25519-sha256"]
    sealed: str
    """The PKCS#8 private key, sealed (`shared.runtime.sealing`), in base64."""


class ApiKey(Record, frozen=True, kw_only=True, tag="api-key.v1"):
    """A key of the management API. Bucket `access`, key `key.<id>`; only the SHA-256 of its secret is kept."""

    id: str
    role: Role
    hash: str
    created_at: datetime
    instance: str | None = None
    """None only for the role `operator`."""
    description: str = ""
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    created_by: str = ""


class Suppression(Record, frozen=True, kw_only=True, tag="suppression.v1"):
    """A recipient a configuration no longer sends to. Bucket `suppressions`, `<configuration>.<hash of address>`."""

    configuration: str
    address: str
    reason: str
    queue_id: str
    at: datetime


DirectoryRecord = (
    Instance | Configuration | DomainTakeover | DomainClaim | User | Zone | Rule | Authorization | Suspension | Roster
)
