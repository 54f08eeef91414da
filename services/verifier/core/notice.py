"""What the contacts of a configuration are told by mail: when, under which identity, in which words.

A notice is owed in the same write that moves the standing, and its identity follows from what it tells of, so it is
asked for once, whoever asks and however often.
"""

import hashlib
from datetime import datetime, timedelta

import msgspec

from services.verifier.core.spf_merge import merge
from services.verifier.core.standing import Step
from shared.contract.records import Configuration
from shared.contract.standing import NoticeKind, Observation, OwedNotice, Standing


class Occasions(msgspec.Struct, frozen=True, kw_only=True):
    """When contacts are told."""

    pause: timedelta
    """Least time between two notices that records fail: a flapping zone must not flood anybody."""
    waiting: timedelta
    """A configuration that is pending for so long is told of once."""


def owed(step: Step, at: datetime, occasions: Occasions) -> Standing:
    """Return the standing after a check at `at`, with what is now owed to the contacts."""
    standing = step.standing
    kind = _kind(step, at, occasions)
    if kind is None:
        return standing
    notice = OwedNotice(kind=kind, at=at, reason=standing.reason)
    return msgspec.structs.replace(
        standing,
        owed=(*standing.owed, notice),
        degraded_told_at=at if kind == "degraded" else standing.degraded_told_at,
        waiting_told_at=at if kind == "waiting" else standing.waiting_told_at,
    )


def _kind(step: Step, at: datetime, occasions: Occasions) -> NoticeKind | None:
    standing = step.standing
    match step.moved_from, standing.state:
        case None, "pending":
            late = at - standing.since >= occasions.waiting and standing.checked_at is not None
            return "waiting" if late and standing.waiting_told_at is None else None
        case None, _:
            return None
        case "pending", "verified":
            return "verified"
        case "suspended", "verified":
            return "resumed"
        case _, "verified":
            # Only those who were told of the fault are told of its end.
            return "repaired" if step.began == standing.degraded_told_at else None
        case _, "suspended":
            return "suspended"
        case _:
            told = standing.degraded_told_at
            return "degraded" if told is None or abs(at - told) >= occasions.pause else None


def identity(standing: Standing, notice: OwedNotice) -> str:
    """Return the ID of the event that asks for a notice."""
    named = f"{standing.configuration} {notice.kind} {notice.at.isoformat()}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def subject_of(standing: Standing, notice: OwedNotice) -> str:
    """Return the subject of a notice."""
    domain = standing.domain
    subjects: dict[NoticeKind, str] = {
        "verified": f"{domain}: the DNS records are in order",
        "degraded": f"{domain}: DNS records are failing, sending will be suspended",
        "repaired": f"{domain}: the DNS records are in order again",
        "suspended": f"{domain}: sending is suspended",
        "resumed": f"{domain}: sending goes on",
        "waiting": f"{domain}: the DNS records have not been found",
    }
    return subjects[notice.kind]


def text_of(configuration: Configuration, standing: Standing, notice: OwedNotice, occasions: Occasions) -> str:
    """Return the text of a notice: what was seen, what it means, what to publish."""
    paragraphs = [
        f"{_opening(standing.domain, notice, occasions)}",
        f"What was seen at {notice.at:%Y-%m-%d %H:%M:%S} UTC:\n  {notice.reason}",
        _meaning(configuration, notice),
    ]
    if notice.kind in ("degraded", "suspended", "waiting"):
        paragraphs.append(_to_publish(configuration, standing))
        paragraphs.append(
            "The records are looked up again and again; nothing else is needed once they are published. To have them "
            f"looked up now:  postlane domain verify {standing.domain}"
        )
    return "\n\n".join(part for part in paragraphs if part) + "\n"


def _opening(domain: str, notice: OwedNotice, occasions: Occasions) -> str:
    hours = occasions.waiting / timedelta(hours=1)
    openings: dict[NoticeKind, str] = {
        "verified": f"The SPF and DKIM records of {domain} were found and are in order.",
        "degraded": f"The DNS records of {domain} no longer allow this relay to send for it.",
        "repaired": f"The SPF and DKIM records of {domain} are in order again.",
        "suspended": f"Sending for {domain} is suspended, because its DNS records do not allow it.",
        "resumed": f"The SPF and DKIM records of {domain} are back, and sending goes on.",
        "waiting": f"After {hours:g} hours the DNS records of {domain} have still not been found as they should be.",
    }
    return openings[notice.kind]


def _meaning(configuration: Configuration, notice: OwedNotice) -> str:
    held = "held, and sent when they return" if configuration.when_suspended == "hold" else "refused"
    meanings: dict[NoticeKind, str] = {
        "verified": "Mail can be sent as soon as an operator has approved the questionnaire too. Leave the records in "
        "place: they are looked up for as long as you send.",
        "degraded": "Mail is still sent. If the records do not return, sending will be suspended; queued mail is then "
        f"held, and new mail {held}.",
        "repaired": "Nothing was held up, and nothing is to be done.",
        "suspended": f"Queued mail is held until the records return or its time is over. New mail is {held}.",
        "resumed": "Mail that was held is being sent.",
        "waiting": "A change in DNS may take up to 72 hours to be seen everywhere, so something is probably wrong: "
        "check the spelling of the names and that the values are complete.",
    }
    return meanings[notice.kind]


def _to_publish(configuration: Configuration, standing: Standing) -> str:
    """Return the records that did not pass, as they are to be published."""
    lines: list[str] = []
    if not _passed(standing.spf):
        published = standing.spf.values if standing.spf else ()
        lines.append(f"  {configuration.domain}  TXT  {merge(published, configuration.spf_value).value}")
    if not _passed(standing.dkim):
        name = f"{configuration.selector}._domainkey.{configuration.domain}"
        if configuration.dkim_zone:
            lines.append(f"  {name}  CNAME  {configuration.selector}.{configuration.dkim_zone}.")
        else:
            lines.append(f"  {name}  TXT  {configuration.dkim_value}")
    return "Publish in DNS:\n" + "\n".join(lines) if lines else ""


def _passed(seen: Observation | None) -> bool:
    return seen is not None and seen.verdict == "pass"
