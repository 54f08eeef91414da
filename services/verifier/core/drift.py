"""What was seen over time: one sighting per change, and the changes in sentences."""

from datetime import datetime

import msgspec

from shared.contract.standing import Observation, Sighting

SHOWN_LENGTH = 120


def remembered(before: tuple[Sighting, ...], seen: tuple[Observation, ...], kept: int) -> tuple[Sighting, ...]:
    """Add what was seen to a history, newest first: a repeated sight lengthens its sighting, a new one is put in front.

    At most `kept` sightings remain; the last definitive good one of each name is among them.
    """
    history = list(before)
    for observation in seen:
        place = next((i for i, s in enumerate(history) if s.observation.name == observation.name), None)
        if place is not None and _same(history[place].observation, observation):
            history[place] = msgspec.structs.replace(history[place], until=observation.at)
        else:
            history.insert(0, Sighting(observation=observation, until=observation.at))
    surplus = len(history) - kept
    for sighting in reversed(history[:]):
        if surplus <= 0:
            break
        if sighting is not last_good(tuple(history), sighting.observation.name):
            history.remove(sighting)
            surplus -= 1
    return tuple(history)


def last_good(history: tuple[Sighting, ...], name: str) -> Sighting | None:
    """Return the newest sighting of a name that passed."""
    return next((s for s in history if s.observation.name == name and s.observation.verdict == "pass"), None)


def changes(history: tuple[Sighting, ...]) -> tuple[str, ...]:
    """Tell a history in sentences, newest first; sights of nothing definitive are passed over."""
    told = []
    definite = [s for s in history if s.observation.verdict != "unknown"]
    for place, after in enumerate(definite):
        name = after.observation.name
        before = next((s for s in definite[place + 1 :] if s.observation.name == name), None)
        if before is not None and before.observation.values != after.observation.values:
            told.append(_change(before, after))
    return tuple(told)


def disagreements(served: tuple[Observation, ...]) -> tuple[str, ...]:
    """Tell which name servers of a zone serve a good record and which do not, where they differ.

    `resolver` of each observation names the server that was asked.
    """
    told: list[str] = []
    for name in dict.fromkeys(each.name for each in served):
        having = [each.resolver for each in served if each.name == name and each.verdict == "pass"]
        lacking = [each.resolver for each in served if each.name == name and each.verdict == "fail"]
        if having and lacking:
            fault = f"right at {', '.join(having)}, missing or wrong at {', '.join(lacking)}"
            told.append(f"The zone's name servers disagree about {name}: {fault}.")
    return tuple(told)


def _change(before: Sighting, after: Sighting) -> str:
    when = f"between {_clock(before.until)} and {_clock(after.observation.at)}"
    name = after.observation.name
    if not after.observation.values:
        return f"{name} lost its record {when}; it was: {_shown(before)}"
    if not before.observation.values:
        return f"{name} got a record {when}: {_shown(after)}"
    was, now = _terms(before.observation.values), _terms(after.observation.values)
    lost, gained = [t for t in was if t not in now], [t for t in now if t not in was]
    parts = [f"{verb} {', '.join(terms)}" for verb, terms in (("lost", lost), ("gained", gained)) if terms]
    return f"{name} {' and '.join(parts) or 'changed the order of its terms'} {when}"


def _shown(sighting: Sighting) -> str:
    text = "; ".join(sighting.observation.values)
    return text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "…"


def _terms(values: tuple[str, ...]) -> list[str]:
    """Return the terms of an SPF record, or the tags of a DKIM record, in order."""
    terms: list[str] = []
    for value in values:
        pieces = value.split() if value.lower().startswith("v=spf1") else [t.strip() for t in value.split(";")]
        terms.extend(piece for piece in pieces if piece)
    return terms


def _same(one: Observation, other: Observation) -> bool:
    return (one.verdict, one.values, one.detail) == (other.verdict, other.values, other.detail)


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
