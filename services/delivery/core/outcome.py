"""What became of a recipient in an attempt: `Delivered`, `Deferred`, `Bounced`, `Suppressed` or `Captured`.

The server's code, enhanced status, text and the phase of the transaction decide.

Temporary by default: only what a server (or the DNS) says in so many words is permanent. A reply that makes no
sense, a lost connection and every fault of ours are temporary.
"""

import re
from typing import Literal

import msgspec

from services.delivery.core import wording
from services.delivery.core.wording import Kind
from shared.contract.envelope import Diagnosis

Phase = Literal["route", "connect", "greeting", "ehlo", "starttls", "mail", "rcpt", "data", "final", "policy"]

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
TEXT_LIMIT = 500


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """The server took responsibility for the recipient."""

    diagnosis: Diagnosis


class Deferred(msgspec.Struct, frozen=True, kw_only=True):
    """Try again later."""

    diagnosis: Diagnosis
    kind: Kind = "other"
    ambiguous: bool = False
    """The final dot was sent and no reply was read: the server may have taken the message."""
    wait_seconds: int = 0
    """A wait the server asked for; 0: none."""
    greylisted: bool = False
    """The server turns away whom it does not know yet, and takes the message from whoever has waited."""
    elsewhere: bool = False
    """The session failed before this recipient was decided: another exchanger may do better now."""


class Bounced(msgspec.Struct, frozen=True, kw_only=True):
    """It will never work; do not try again."""

    diagnosis: Diagnosis
    kind: Kind = "other"


class Suppressed(msgspec.Struct, frozen=True, kw_only=True):
    """Not tried: the address is on the configuration's suppression list."""

    diagnosis: Diagnosis


class Captured(msgspec.Struct, frozen=True, kw_only=True):
    """Not tried: the message of a user who tests was kept."""

    diagnosis: Diagnosis


Outcome = Delivered | Deferred | Bounced | Suppressed | Captured


def clean(text: str) -> str:
    """Return a remote server's text fit for logs, records and reports: one line, no controls, bounded."""
    text = text.encode("utf-8", "replace").decode("utf-8", "replace")
    return _CONTROLS.sub(" ", text).strip()[:TEXT_LIMIT]


def from_reply(
    code: int, text: str, phase: Phase, *, host: str = "", address: str = "", encrypted: bool = True
) -> Outcome:
    """Judge a server's reply to a command of `phase` (RFC 5321 §4.2.1: the first digit decides).

    `code` -1 stands for a reply that could not be read. `encrypted`: the command went over TLS.
    """
    text = clean(text)
    enhanced, rest = wording.split_enhanced(text)
    if code == 530 and not encrypted:
        # RFC 3207 §4: the server wants TLS first. That there was none may pass, so nothing is refused for good.
        return Deferred(
            diagnosis=_diagnosis(code, "4.7.0", rest, phase, host, address), kind="infrastructure", elsewhere=True
        )
    if phase == "final" and 250 <= code <= 259:
        return Delivered(diagnosis=_diagnosis(code, _agreeing(enhanced, "2"), rest, phase, host, address))
    if 500 <= code <= 599:
        return _permanent(code, enhanced, rest, phase, host, address)
    if 400 <= code <= 499:
        default = {421: "4.3.2", 450: "4.2.0", 451: "4.3.0", 452: "4.3.1"}.get(code, "4.0.0")
        if (code, phase, enhanced) == (452, "rcpt", "") and wording.too_many_recipients(rest):
            default = "4.5.3"  # RFC 5321 §4.5.3.1.10, of a server without enhanced codes
        status = _agreeing(enhanced, "4", default)
        return Deferred(
            diagnosis=_diagnosis(code, status, rest, phase, host, address),
            kind=wording.kind_of(status, rest),
            wait_seconds=wording.wait_hint(rest),
            greylisted=wording.greylisted(rest),
            elsewhere=code == 421 or phase in ("connect", "greeting", "ehlo", "starttls"),
        )
    # RFC 5321 §4.2: a reply outside what the command allows is a protocol error, and nothing is known for sure.
    said = f"unexpected reply {code} {rest}".strip() if code >= 0 else f"unreadable reply: {rest}"
    return Deferred(
        diagnosis=_diagnosis(max(code, 0), "4.5.0", said, phase, host, address),
        kind="infrastructure",
        ambiguous=phase == "final",
        elsewhere=phase != "final",
    )


def lost(
    what: str, phase: Phase, enhanced: str = "4.4.2", *, host: str = "", address: str = "", ambiguous: bool = False
) -> Deferred:
    """Return the outcome of a connection that failed, timed out or was never made."""
    return Deferred(
        diagnosis=_diagnosis(0, enhanced, clean(what), phase, host, address),
        kind="infrastructure",
        ambiguous=ambiguous,
        elsewhere=not ambiguous,
    )


def ours(enhanced: str, text: str) -> Deferred:
    """Return the outcome of a fault of ours: always temporary."""
    return Deferred(diagnosis=Diagnosis(code=0, enhanced=enhanced, text=text, phase="policy"), kind="infrastructure")


def refused(enhanced: str, text: str, phase: Phase, kind: Kind, code: int = 0, *, host: str = "") -> Bounced:
    """Return a permanent outcome that we decided ourselves, without or before asking a server."""
    return Bounced(diagnosis=Diagnosis(code=code, enhanced=enhanced, text=text, phase=phase, host=host), kind=kind)


def suppressed(text: str) -> Suppressed:
    """Return the outcome of a recipient that is not tried because of the suppression list."""
    return Suppressed(diagnosis=Diagnosis(code=0, enhanced="5.7.1", text=text, phase="policy"))


def mailbox_gone(last: Diagnosis) -> bool:
    """Return whether a bounce says that the mailbox does not exist, so that sending again only does harm."""
    if last.phase not in ("rcpt", "data", "final") or last.code == 0:
        return False
    return wording.gone(last.enhanced, last.text)


def _permanent(code: int, enhanced: str, text: str, phase: Phase, host: str, address: str) -> Outcome:
    if phase in ("connect", "greeting", "ehlo", "starttls"):
        # RFC 5321 §4.2.4.2: 5xx before any recipient was named speaks of the host, not of the mailbox.
        status = _agreeing("4" + enhanced[1:] if enhanced else "", "4", "4.3.2")
        return Deferred(
            diagnosis=_diagnosis(code, status, text, phase, host, address),
            kind="reputation" if wording.of_reputation(text) else "infrastructure",
            elsewhere=True,
        )
    unknown = wording.unknown_mailbox(text)
    if phase == "rcpt" and code == 552 and not enhanced and not unknown:
        # RFC 5321 §4.5.3.1.10: an old server's 552 to RCPT means too many recipients, to be treated as 452.
        status = "4.2.2" if wording.short_of_storage(text) else "4.5.3"
        diagnosis = _diagnosis(code, status, text, phase, host, address)
        return Deferred(diagnosis=diagnosis, kind=wording.kind_of(status, text))
    default = {550: "5.0.0", 551: "5.1.0", 552: "5.3.4", 553: "5.1.3", 554: "5.0.0", 556: "5.1.10"}.get(code, "5.0.0")
    if phase == "rcpt" and default in ("5.0.0", "5.3.4") and unknown:
        default = "5.1.1"
    elif default == "5.3.4" and (unknown or wording.full(text)):
        default = "5.1.1" if unknown else "5.2.2"
    status = _agreeing(enhanced, "5", default)
    return Bounced(diagnosis=_diagnosis(code, status, text, phase, host, address), kind=wording.kind_of(status, text))


def _agreeing(enhanced: str, digit: str, default: str = "") -> str:
    """Return the enhanced code if its class agrees with the basic code's, else a default (RFC 2034 §4)."""
    return enhanced if enhanced.startswith(digit) else default or f"{digit}.0.0"


def _diagnosis(code: int, enhanced: str, text: str, phase: Phase, host: str, address: str) -> Diagnosis:
    return Diagnosis(code=code, enhanced=enhanced, text=text, phase=phase, host=host, address=address)
