"""Quotas: what a configuration, and each of its users, has sent this second, this hour and this day.

Hours and days are those of UTC, so that everybody can say when a quota starts anew. What sibling processes have told
counts like our own; the owner passes the time, in seconds since 1970. Counts are told in parts, by key, so that little
is said when little has changed.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from zlib import crc32

import msgspec

HOUR = 3_600
DAY = 86_400
SMOOTHING_SECONDS = 1.0
"""Over so long the rate of messages per second is averaged for the siblings."""
SIBLING_SECONDS = 2.0
"""A sibling's rate per second counts for so long after it was told; its hours and days count to their end."""

PARTS = 8
HURRY_SHARE = 8
"""Siblings are told at once when so small a part of what is left of a quota was taken without their knowing."""


class Rates(msgspec.Struct, frozen=True):
    """Most messages in each span; 0 is unlimited."""

    per_second: int = 0
    per_hour: int = 0
    per_day: int = 0


class Wait(msgspec.Struct, frozen=True):
    """Which quota is used up, and for how many seconds."""

    quota: str
    seconds: int


class Told(msgspec.Struct, frozen=True):
    """What a process has accepted: the counts of its hour and its day, and its present rate."""

    at: float
    this_second: Mapping[str, float]
    this_hour: Mapping[str, int]
    this_day: Mapping[str, int]
    held: Mapping[str, int]


@lru_cache(65_536)
def part_of(key: str) -> int:
    """Return the part a key is told in."""
    return crc32(key.encode()) % PARTS


class _Pace:
    """Messages of one key, smoothed: how many may still go at once, and how fast they have come."""

    __slots__ = ("at", "left", "rate", "told")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.rate = self.told = 0.0
        self.at = at

    def faded(self, now: float) -> float:
        """Return the rate as it is now."""
        return self.rate * math.exp(-max(0.0, now - self.at) / SMOOTHING_SECONDS)


class _Part:
    """Counts of the keys of one part: ours, those of each sibling, and the siblings' added up for a quick look."""

    def __init__(self) -> None:
        self.this_hour: dict[str, int] = {}
        self.this_day: dict[str, int] = {}
        self.paces: dict[str, _Pace] = {}
        self.held: dict[str, dict[str, int]] = {}
        self.untold: dict[str, int] = {}
        self.siblings: dict[str, Told] = {}
        self.others_hour: dict[str, int] = {}
        self.others_day: dict[str, int] = {}
        self.others_rates: dict[str, list[tuple[float, float]]] = {}
        self.summed_for = (-1, -1)

    def sum_up(self, hour: int, day: int) -> None:
        """Add up what the siblings have told for this hour and this day."""
        self.others_hour, self.others_day, self.others_rates = {}, {}, {}
        for told in self.siblings.values():
            if told.at // DAY == day:
                _add(self.others_day, told.this_day)
            if told.at // HOUR == hour:
                _add(self.others_hour, told.this_hour)
            for key, rate in told.this_second.items():
                self.others_rates.setdefault(key, []).append((told.at, rate))
        self.summed_for = (hour, day)

    def hour(self, key: str) -> int:
        """Return the messages of a key in this hour, by every process."""
        return self.this_hour.get(key, 0) + self.others_hour.get(key, 0)

    def day(self, key: str) -> int:
        """Return the messages of a key in this day, by every process."""
        return self.this_day.get(key, 0) + self.others_day.get(key, 0)

    def pace(self, key: str, per_second: int, now: float) -> _Pace:
        """Return a key's pace, refilled as of now."""
        pace = self.paces.get(key)
        if pace is None:
            pace = self.paces[key] = _Pace(float(per_second), now)
        others = [rate for at, rate in self.others_rates.get(key, ()) if now - at <= SIBLING_SECONDS]
        # What the siblings send at present is not ours to send; an equal part of the rate always is.
        ours = max(per_second - sum(others), per_second / (1 + len(others)))
        pace.left = min(float(max(1.0, ours)), pace.left + max(0.0, now - pace.at) * ours)
        pace.rate = pace.faded(now)
        pace.at = max(pace.at, now)
        return pace


class Tally:
    """Counts of this process and of its siblings, for all keys with a quota."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._hour = self._day = 0
        self._turns_at = 0.0
        self._parts = tuple(_Part() for _ in range(PARTS))
        self.changed: set[int] = set()
        """Parts in which something was counted since they were told."""
        self.hurry: set[int] = set()
        """Parts in which a quota is so near to its end, or a rate so new, that the siblings should know now."""

    def wait(self, key: str, rates: Rates, now: float) -> Wait | None:
        """Return which quota keeps the next message of a key waiting, None if none does."""
        part = self._part(key, now)
        if rates.per_day and part.day(key) >= rates.per_day:
            return Wait(f"{rates.per_day} messages a day", math.ceil(DAY - now % DAY))
        if rates.per_hour and part.hour(key) >= rates.per_hour:
            return Wait(f"{rates.per_hour} messages an hour", math.ceil(HOUR - now % HOUR))
        if rates.per_second and part.pace(key, rates.per_second, now).left < 1.0:
            return Wait(f"{rates.per_second} messages a second", 1)
        return None

    def take(self, key: str, rates: Rates, now: float) -> None:
        """Count one message of a key."""
        if not (rates.per_second or rates.per_hour or rates.per_day):
            return
        part = self._part(key, now)
        self.changed.add(part_of(key))
        for counts in (part.this_hour, part.this_day, part.untold):
            counts[key] = counts.get(key, 0) + 1
        alone = part.untold[key] * HURRY_SHARE
        if (rates.per_hour and alone >= rates.per_hour - part.hour(key)) or (
            rates.per_day and alone >= rates.per_day - part.day(key)
        ):
            self.hurry.add(part_of(key))
        if rates.per_second:
            pace = part.pace(key, rates.per_second, now)
            pace.left -= 1.0
            pace.rate += 1.0 / SMOOTHING_SECONDS
            if pace.rate >= 2.0 * pace.told + rates.per_second / HURRY_SHARE:
                self.hurry.add(part_of(key))

    def give(self, key: str) -> None:
        """Take back one count: the message was not stored."""
        part = self._parts[part_of(key)]
        for counts in (part.this_hour, part.this_day):
            if counts.get(key):
                counts[key] -= 1
                self.changed.add(part_of(key))

    def hold(self, configuration: str, since: str, cap: int) -> None:
        """Count one message that is held because of a suspension; earlier suspensions are over."""
        part = self._parts[part_of(configuration)]
        self.changed.add(part_of(configuration))
        part.held[configuration] = {since: part.held.get(configuration, {}).get(since, 0) + 1}
        key = f"{configuration} held"
        part.untold[key] = part.untold.get(key, 0) + 1
        if part.untold[key] * HURRY_SHARE >= cap - self.held(configuration, since):
            self.hurry.add(part_of(configuration))

    def release(self, configuration: str, since: str) -> None:
        """Take back one count of held mail: the message was not stored."""
        held = self._parts[part_of(configuration)].held.get(configuration, {})
        if held.get(since):
            held[since] -= 1
            self.changed.add(part_of(configuration))

    def held(self, configuration: str, since: str) -> int:
        """Return the messages held because of a suspension, by every process."""
        part = self._parts[part_of(configuration)]
        others = (told.held.get(f"{configuration} {since}", 0) for told in part.siblings.values())
        return part.held.get(configuration, {}).get(since, 0) + sum(others)

    def spent(self, key: str, now: float) -> tuple[int, int]:
        """Return the messages of a key in this hour and in this day, by every process."""
        part = self._part(key, now)
        return part.hour(key), part.day(key)

    def heard(self, sibling: str, part: int, told: Told | None) -> None:
        """Take up what a sibling has counted in one part; None: its entry is gone."""
        siblings = self._parts[part].siblings
        if told is None:
            siblings.pop(sibling, None)
        else:
            siblings[sibling] = told
        self._parts[part].summed_for = (-1, -1)

    def told(self, number: int, now: float) -> Told:
        """Return our own counts of one part, for the siblings."""
        self._turn(now)
        part = self._parts[number]
        self.changed.discard(number)
        self.hurry.discard(number)
        part.untold.clear()
        rates = {key: rate for key, pace in part.paces.items() if (rate := round(pace.faded(now), 3)) > 0.0}
        part.paces = {key: part.paces[key] for key in rates}
        for key, rate in rates.items():
            part.paces[key].told = rate
        held = {f"{name} {since}": count for name, each in part.held.items() for since, count in each.items()}
        return Told(now, rates, dict(part.this_hour), dict(part.this_day), held)

    def _part(self, key: str, now: float) -> _Part:
        self._turn(now)
        part = self._parts[part_of(key)]
        if part.summed_for != (self._hour, self._day):
            part.sum_up(self._hour, self._day)
        return part

    def _turn(self, now: float) -> None:
        """Begin a new hour or day with nothing spent; a clock set back a little keeps the counts.

        One set back by more had been wrong, and its hour must not last until it is right.
        """
        if self._turns_at - 2 * HOUR <= now < self._turns_at:
            return
        self._hour, day = int(now // HOUR), int(now // DAY)
        self._turns_at = float((self._hour + 1) * HOUR)
        for number, part in enumerate(self._parts):
            part.this_hour = {}
            if day != self._day:
                part.this_day = {}
                if part.held:
                    self.changed.add(number)  # told again, for entries lapse and held mail outlasts days
        self._day = day


def _add(sums: dict[str, int], counts: Mapping[str, int]) -> None:
    for key, count in counts.items():
        sums[key] = sums.get(key, 0) + count
