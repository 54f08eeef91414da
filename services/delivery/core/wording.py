"""What servers' words mean: enhanced status codes wherever they are put, mailboxes that are gone, waits asked for."""

import re
from typing import Literal

Kind = Literal["mailbox", "full", "size", "content", "policy", "reputation", "routing", "infrastructure", "other"]

_ENHANCED = re.compile(r"[\s(\[]*#?([245])\.(\d{1,3})\.(\d{1,3})(?=[\s;,:)\]-]|\.(?!\d)|$)")
"""At the front, as RFC 2034 §4 has it, also in the brackets some put around it; never the front of an address."""
_ENHANCED_WITHIN = re.compile(r"\(#([245])\.(\d{1,3})\.(\d{1,3})\b")
"""qmail's way to put it."""
_HINT = re.compile(
    r"(?:\b(?:try|retry|come\s+back|return|resend)\b[a-z\s]{0,20}?\b(?:in|after)|\bwait|retry-after:?"
    r"|(?:gr[ea]y[\s_-]?list\w*|deferred|delayed)\s+for)"
    r"\s+(?:(?:for|at\s+least|about|approximately|another)\s+){0,2}"
    r"(?:(\d{1,2}):(\d\d):(\d\d)"
    r"|(\d{1,9})\s*(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?)?(?![\w:]|\.\d))",
    re.I,
)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
HINT_LIMIT_SECONDS = 4 * 3600
_UNKNOWN_MAILBOX = re.compile(
    r"user\s+(?:is\s+)?unknown|unknown\s+(?:user|recipient|mailbox)"
    r"|no\s+such\s+(?:user|recipient|mailbox|person|address|account)"
    r"|(?:mailbox|user|recipient|account|address)\b.{0,40}(?:does\s*n[o']t\s+exist|not\s+(?:found|exist)|is\s+invalid)"
    r"|recipient\s*not\s*found|no\s+mailbox\s+here|invalid\s+(?:recipient|mailbox)"
    r"|user\s+doesn't\s+have\s+an?\b.{0,40}\baccount",
    re.I,
)
_NO_RECIPIENT = re.compile(r"recipient\s+address\s+rejected:\s+access\s+denied", re.I)
"""Of a directory that does not know the recipient, or not yet."""
_ABOUT_SENDER = re.compile(
    r"\bsender\s+(?:address|domain|verif|callout|rejected|denied|unknown|is\s+unknown)|\bsender\s+does\s*n[o']t\s+exist"
    r"|verify\s+sender|return[\s-]?path",
    re.I,
)
_TOO_FAST = re.compile(r"receiving\s+mail\s+(?:too\s+quickly|at\s+a\s+rate)", re.I)
_FULL = re.compile(
    r"(?:mailbox|inbox|account|user|recipient)\b.{0,40}\bfull\b|over\s*-?\s*quota|quota\s+(?:is\s+)?exceeded"
    r"|exceed\w*\s+.{0,20}\bquota|out\s+of\s+storage",
    re.I,
)
_TOO_MANY_RECIPIENTS = re.compile(r"\b(?:too\s+many|max\w*|limit)\b.{0,40}\b(?:recipients?|rcpts?)\b", re.I)
_STORAGE = re.compile(r"storage", re.I)
_REPUTATION = re.compile(
    r"block\s?list|black\s?list|\brbl\b|dnsbl|spamhaus|poor\s+reputation|reputation|too\s+many\s+connections"
    r"|rate\s*limit|throttl|spam\s+source|unusual\s+rate|unexpected\s+volume|user\s+complaints|permanently\s+deferred"
    r"|banned\s+(?:sending\s+)?ip|\bipcheck\.",
    re.I,
)
_OF_ONE_SENDER = re.compile(
    r"\b(?:sender'?s?|sending|spf|dkim|dmarc|from|envelope|header)\s+domains?\b"
    r"|\burls?\b|\blinks?\b|\bdbl\b|\bsurbl\b|\bsender\s+address|\bmessage\s+content",
    re.I,
)
"""Of the domain in a mail's addresses and signatures, or of what stands in it; other tenants have others."""
_GREYLISTED = re.compile(r"gr[ea]y[\s_-]*list|postgrey", re.I)
_CONTENT = re.compile(r"\bspam\b|virus|malware|content\s+rejected|message\s+content", re.I)
_GONE = frozenset({"5.1.1", "5.1.6", "5.2.1"})
"""Permanent states that say a mailbox does not exist."""
_VAGUE = frozenset({"5.0.0", "5.1.0", "5.1.10", "5.2.0", "5.5.0"})
"""States that some servers give for it, and others for much else: there the words decide."""


def split_enhanced(text: str) -> tuple[str, str]:
    """Take an enhanced status code off the front of a reply's text (RFC 2034 §4), and repetitions of it."""
    found = _ENHANCED.match(text)
    if found is None:
        within = _ENHANCED_WITHIN.search(text)
        return (_written(within) if within else ""), text
    return _written(found), text[found.end() :].lstrip(" :;,.)]-").rstrip().replace(f" {found[0].strip()} ", " ")


def _written(found: re.Match[str]) -> str:
    return f"{found[1]}.{int(found[2])}.{int(found[3])}"


def unknown_mailbox(text: str) -> bool:
    """Return whether a text says in so many words that the recipient's mailbox does not exist."""
    return _UNKNOWN_MAILBOX.search(text) is not None and _ABOUT_SENDER.search(text) is None


def full(text: str) -> bool:
    """Return whether a text says that a mailbox is full."""
    return _FULL.search(text) is not None


def short_of_storage(text: str) -> bool:
    """Return whether a text speaks of room that is lacking."""
    return full(text) or _STORAGE.search(text) is not None


def too_many_recipients(text: str) -> bool:
    """Return whether a text says that one transaction has enough recipients."""
    return _TOO_MANY_RECIPIENTS.search(text) is not None


def greylisted(text: str) -> bool:
    """Return whether a text names greylisting, as nearly every server that does it does."""
    return _GREYLISTED.search(text) is not None


def of_reputation(text: str) -> bool:
    """Return whether a text speaks of the sending address."""
    return _REPUTATION.search(text) is not None


def of_one_sender(text: str) -> bool:
    """Return whether a text speaks of a sender's domain or of a mail's content, not of the sending address."""
    return _OF_ONE_SENDER.search(text) is not None


def gone(status: str, text: str) -> bool:
    """Return whether a permanent reply says that the mailbox does not exist, so that sending again only does harm.

    Servers that could not verify the sender say much the same of that.
    """
    if _ABOUT_SENDER.search(text) or _TOO_FAST.search(text):
        return False
    if status in _GONE:
        return True
    unavailable = status == "5.5.0" and "mailbox unavailable" in text.lower()  # so says Outlook.com
    return unavailable or (status in _VAGUE and unknown_mailbox(text))


def kind_of(status: str, text: str) -> Kind:
    """Classify a failure by its enhanced status code and, where that is vague, by its text."""
    _, subject, detail = status.split(".")
    if subject == "1":
        if detail in ("7", "8") or _ABOUT_SENDER.search(text):  # RFC 3463 §3.2: of the sender's address
            return "policy"
        return "routing" if detail in ("2", "10") and not unknown_mailbox(text) else "mailbox"
    if subject == "2":
        if _TOO_FAST.search(text):
            return "policy"
        return "full" if detail == "2" else "size" if detail == "3" else "mailbox"
    if (subject, detail) == ("3", "4"):
        return "size"
    if subject == "6":
        return "content"
    if _REPUTATION.search(text):
        return "reputation"
    if unknown_mailbox(text) or _NO_RECIPIENT.search(text) or gone(status, text):
        return "mailbox"
    if subject == "7":
        return "content" if _CONTENT.search(text) else "policy"
    if subject == "4":
        return "routing"
    if subject in ("3", "5"):
        return "infrastructure"
    if full(text):
        return "full"
    return "content" if _CONTENT.search(text) else "other"


def wait_hint(text: str) -> int:
    """Return the seconds a temporary reply asks us to wait, bounded, or 0."""
    found = _HINT.search(text)
    if found is None:
        return 0
    if found[4]:
        seconds = int(found[4]) * _UNITS[(found[5] or "")[:1].lower()]
    else:
        seconds = int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3])
    return min(seconds, HINT_LIMIT_SECONDS)
