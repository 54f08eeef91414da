"""The DNS records of a configuration: what to publish, and whether it is missing, wrong or fine.

Two sources say what is published: the verifier, asked now, and the standing it last wrote, when it does not answer.
"""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from shared.contract.records import Configuration, PublishedKey
from shared.contract.requests import RecordsSeen
from shared.contract.standing import Observation, Standing

_SPF = re.compile(r"v=spf1(?: |$)", re.IGNORECASE)
_SPF_END = re.compile(r"(?:[-~+?]?all|redirect=\S+)(?= |$)", re.IGNORECASE)

RecordState = Literal["fine", "missing", "wrong", "unknown", "advised"]
RecordKind = Literal["dkim", "dkim-next", "dkim-spare", "dkim-ed25519", "spf", "dmarc", "return-path"]


class RecordAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """One DNS record: what to publish, and what was seen."""

    kind: RecordKind
    name: str
    value: str
    """The whole value to publish; for SPF merged with what is there already; "" if that is for the customer to say."""
    state: RecordState
    """`advised`: useful, not there as far as is known, and not needed to send."""
    detail: str
    observed: tuple[str, ...] = ()
    type: Literal["TXT", "CNAME", "MX"] = "TXT"
    required: bool = True
    """Whether sending depends on it."""


def dkim_name(configuration: Configuration, selector: str = "") -> str:
    """Return the name the public key of a selector is published at; without one, of the key in use."""
    return f"{selector or configuration.selector}._domainkey.{configuration.domain}"  # RFC 6376 §3.6.2.1


def merged_spf(advised: str, observed: Sequence[str]) -> str:
    """Return the policy to publish: what the domain has already, with our mechanisms added before its end."""
    policies = [value for value in observed if _SPF.match(value)]
    if len(policies) != 1:
        return advised  # none yet; or several, which RFC 7208 §4.5 makes an error however each of them reads
    present = policies[0].strip()
    ours = [term for term in advised.split()[1:] if not _SPF_END.fullmatch(term)]
    missing = [term for term in ours if term.lower() not in present.lower().split()]
    if not missing:
        return present
    end = _SPF_END.search(present)
    if end is None:
        return f"{present} {' '.join(missing)}"
    return f"{present[: end.start()]}{' '.join(missing)} {present[end.start() :]}"


def from_standing(
    configuration: Configuration, standing: Standing | None, contacts: Sequence[str] = ()
) -> tuple[RecordAdvice, ...]:
    """Return the records with what the verifier saw at its last check; DMARC and return path it does not check."""
    spf = standing.spf if standing else None
    spf_seen = tuple(value for value in spf.values if _SPF.match(value)) if spf else ()
    detail = _detail(spf)
    if len(spf_seen) > 1:
        detail = f"{len(spf_seen)} SPF records are published; a domain must have one (RFC 7208 §3.2): replace them all"
    return (
        *_keys(configuration, standing),
        RecordAdvice(
            kind="spf",
            name=configuration.domain,
            value=merged_spf(configuration.spf_value, spf_seen),
            state=_state(spf, spf_seen),
            detail=detail,
            observed=spf_seen,
        ),
        _dmarc(configuration, contacts, None),
    )


def from_verifier(
    configuration: Configuration, seen: RecordsSeen, contacts: Sequence[str] = ()
) -> tuple[RecordAdvice, ...]:
    """Return the records with what the verifier sees now."""
    spf_seen = tuple(value for value in seen.spf.values if _SPF.match(value))
    advised = (_return_path(configuration, seen.return_path),) if seen.return_path is not None else ()
    return (
        *_keys(configuration, seen),
        RecordAdvice(
            kind="spf",
            name=configuration.domain,
            value=seen.spf_to_publish,
            state=_state(seen.spf, spf_seen),
            detail=seen.spf.detail,
            observed=spf_seen,
        ),
        _dmarc(configuration, contacts, seen.dmarc),
        *advised,
    )


def _keys(configuration: Configuration, seen: RecordsSeen | Standing | None) -> tuple[RecordAdvice, ...]:
    """Return the record of each signing key, and of the selector kept for the next rotation."""
    present = PublishedKey(
        selector=configuration.selector, value=configuration.dkim_value, since=configuration.created_at
    )
    listed = [_key(configuration, "dkim", present, seen.dkim if seen else None)]
    if configuration.next_key is not None:
        listed.append(_key(configuration, "dkim-next", configuration.next_key, seen.next_dkim if seen else None))
    elif configuration.spare_selector:
        listed.append(_spare(configuration, seen.spare_dkim if isinstance(seen, RecordsSeen) else None))
    if configuration.ed25519_key is not None:
        listed.append(_key(configuration, "dkim-ed25519", configuration.ed25519_key, seen.ed25519 if seen else None))
    return tuple(listed)


def _key(configuration: Configuration, kind: RecordKind, key: PublishedKey, seen: Observation | None) -> RecordAdvice:
    values = seen.values if seen else ()
    return RecordAdvice(
        kind=kind,
        name=dkim_name(configuration, key.selector),
        value=f"{key.selector}.{configuration.dkim_zone}." if configuration.dkim_zone else key.value,
        type="CNAME" if configuration.dkim_zone else "TXT",
        state=_state(seen, values),
        detail=_detail(seen),
        observed=values,
        required=kind == "dkim",
    )


def _spare(configuration: Configuration, seen: Observation | None) -> RecordAdvice:
    later = "for the next rotation of the key, which then needs nothing of you"
    return RecordAdvice(
        kind="dkim-spare",
        name=dkim_name(configuration, configuration.spare_selector),
        value=f"{configuration.spare_selector}.{configuration.dkim_zone}.",
        type="CNAME",
        state=_state(seen, seen.values) if seen else "advised",
        detail=f"{seen.detail} It is {later}." if seen else later,
        observed=seen.values if seen else (),
        required=False,
    )


def _dmarc(configuration: Configuration, contacts: Sequence[str], seen: Observation | None) -> RecordAdvice:
    report = f"; rua=mailto:{contacts[0]}" if contacts else ""
    why = "recommended, not required: tells receivers what to do with mail that fails SPF and DKIM"
    fine = seen is not None and seen.verdict == "pass"
    return RecordAdvice(
        kind="dmarc",
        name=f"_dmarc.{configuration.domain}",
        value=seen.values[0] if seen and fine and seen.values else f"v=DMARC1; p=none{report}",
        state="advised" if seen is None else _state(seen, seen.values),
        detail=seen.detail if seen else why,
        observed=seen.values if seen else (),
        required=False,
    )


def _return_path(configuration: Configuration, seen: Observation) -> RecordAdvice:
    return RecordAdvice(
        kind="return-path",
        name=configuration.domain,
        value="",
        type="MX",
        state=_state(seen, seen.values),
        detail=seen.detail,
        observed=seen.values,
        required=False,
    )


def _state(seen: Observation | None, values: Sequence[str]) -> RecordState:
    if seen is None or seen.verdict == "unknown":
        return "unknown"
    if seen.verdict == "pass":
        return "fine"
    return "wrong" if values else "missing"


def _detail(seen: Observation | None) -> str:
    return seen.detail if seen else "not checked yet"
