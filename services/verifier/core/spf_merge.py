"""The SPF record a domain should publish: what it publishes today, with what is missing put in."""

from typing import NamedTuple

from services.verifier.core.answer import printable
from services.verifier.core.spf_record import SyntaxFault, is_spf, parse

LENGTH_LIMIT = 450
"""Octets beyond which the reply may no longer fit a packet of 512 (RFC 7208 §3.4)."""


class Merged(NamedTuple):
    """The value to publish, and what the customer should know of it."""

    value: str
    notes: tuple[str, ...]


def merge(published: tuple[str, ...], advised: str) -> Merged:
    """Merge the TXT values of a domain with the value advised: its own terms stay, in their order.

    Several SPF records become one, since a domain may have only one (RFC 7208 §3.2).
    """
    present = [value for value in published if is_spf(value)]
    wanted = [t for t in _terms(advised) if not _is_last(t)]
    if not present:
        return Merged(advised, ())
    notes: list[str] = []
    for value in present:
        parsed = parse(value)
        if isinstance(parsed, SyntaxFault):
            note = f"The published SPF record is in error and cannot be merged: {parsed.reason}. Replace it."
            return Merged(advised, (printable(note),))
    if len(present) > 1:
        notes.append(f"The domain has {len(present)} SPF records, which no receiver accepts: replace them by this one.")
    terms = list(dict.fromkeys(term for value in present for term in _terms(value) if not _is_last(term)))
    terms += [term for term in wanted if term.lower() not in {t.lower().removeprefix("+") for t in terms}]
    last = _last([term for value in present for term in _terms(value) if _is_last(term)])
    value = " ".join(["v=spf1", *terms, *last])
    if len(value) > LENGTH_LIMIT:
        notes.append(f"The record has {len(value)} octets; beyond {LENGTH_LIMIT} some receivers cannot read it.")
    return Merged(printable(value), tuple(notes))


def _terms(value: str) -> list[str]:
    return value.split()[1:]


def _is_last(term: str) -> bool:
    """Tell whether nothing may follow a term: all, or redirect."""
    return term.lower().lstrip("+-?~") == "all" or term.lower().startswith("redirect=")


def _last(terms: list[str]) -> list[str]:
    """Return the one term that ends the record: an `all` makes redirects void (RFC 7208 §6.1)."""
    every = [term for term in terms if not term.lower().startswith("redirect=")]
    return (every or terms)[:1]
