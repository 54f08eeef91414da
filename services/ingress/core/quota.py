"""Quotas: what a configuration, and each of its users, has sent this second, this hour and this day.

Hours and days are those of UTC, so that everybody can say when a quota starts anew. What sibling processes have told
counts like our own; the owner passes the time, in seconds since 1970. Counts are told in parts, by key, so that little
is said when little has changed.
"""

import math
from collections.abc import Iterable, Mapping
from zlib import crc32

import msgspec

HOUR = 3_600
DAY = 86_400
SMOOTHING_SECONDS = 1.0
"""Over so long the rate of messages per second is averaged for the siblings."""
SIBLING_SECONDS = 2.0
"""A sibling's rate per second counts for so long after it was told; its hours and days count to their end."""

PARTS = 16
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


def part_of(key: str) -> int:
    """Return the part a key is told in."""
    return crc32(key.encode()) % PARTS


class _Pace:
    """Messages of one key, smoothed: how many may still go at once, and how fast they have come."""

    __slots__ = ("at", "left", "rate")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.rate = 0.0
        self.at = at


class Tally:
    """Counts of this process and of its siblings, for all keys with a quota."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self._hour = self._day = 0
        self._this_hour: dict[str, int] = {}
        self._this_day: dict[str, int] = {}
        self._paces: dict[str, _Pace] = {}
        self._held: dict[str, dict[str, int]] = {}
        self._untold: dict[str, int] = {}
        self._siblings: tuple[dict[str, Told], ...] = tuple({} for _ in range(PARTS))
        self.changed: set[int] = set()
        """Parts in which something was counted since they were told."""
        self.hurry = False
        """A quota is so near to its end that the siblings should know now."""

    def wait(self, key: str, rates: Rates, now: float) -> Wait | None:
        """Return which quota keeps the next message of a key waiting, None if none does."""
        self._turn(now)
        if rates.per_day and self._spent(key, self._this_day, "day", now) >= rates.per_day:
            return Wait(f"{rates.per_day} messages a day", math.ceil(DAY - now % DAY))
        if rates.per_hour and self._spent(key, self._this_hour, "hour", now) >= rates.per_hour:
            return Wait(f"{rates.per_hour} messages an hour", math.ceil(HOUR - now % HOUR))
        if rates.per_second and self._refilled(key, rates.per_second, now).left < 1.0:
            return Wait(f"{rates.per_second} messages a second", 1)
        return None

    def take(self, key: str, rates: Rates, now: float) -> None:
        """Count one message of a key."""
        self._turn(now)
        if not (rates.per_second or rates.per_hour or rates.per_day):
            return
        self.changed.add(part_of(key))
        self._this_hour[key] = self._this_hour.get(key, 0) + 1
        self._this_day[key] = self._this_day.get(key, 0) + 1
        self._untold[key] = untold = self._untold.get(key, 0) + 1
        hour, day = self.spent(key, now)
        left = min(
            rates.per_hour - hour if rates.per_hour else math.inf, rates.per_day - day if rates.per_day else math.inf
        )
        self.hurry = self.hurry or untold * HURRY_SHARE >= left
        if rates.per_second:
            pace = self._refilled(key, rates.per_second, now)
            pace.left -= 1.0
            pace.rate += 1.0 / SMOOTHING_SECONDS

    def give(self, key: str) -> None:
        """Take back one count: the message was not stored."""
        for counts in (self._this_hour, self._this_day):
            if counts.get(key):
                counts[key] -= 1
                self.changed.add(part_of(key))

    def hold(self, configuration: str, since: str, cap: int) -> None:
        """Count one message that is held because of a suspension; earlier suspensions are over."""
        self.changed.add(part_of(configuration))
        self._held[configuration] = {since: self._held.get(configuration, {}).get(since, 0) + 1}
        self._untold[f"{configuration} held"] = untold = self._untold.get(f"{configuration} held", 0) + 1
        self.hurry = self.hurry or untold * HURRY_SHARE >= cap - self.held(configuration, since)

    def release(self, configuration: str, since: str) -> None:
        """Take back one count of held mail: the message was not stored."""
        held = self._held.get(configuration, {})
        if held.get(since):
            held[since] -= 1
            self.changed.add(part_of(configuration))

    def held(self, configuration: str, since: str) -> int:
        """Return the messages held because of a suspension, by every process."""
        others = (told.held.get(f"{configuration} {since}", 0) for told in self._told_of(configuration))
        return self._held.get(configuration, {}).get(since, 0) + sum(others)

    def spent(self, key: str, now: float) -> tuple[int, int]:
        """Return the messages of a key in this hour and in this day, by every process."""
        self._turn(now)
        return self._spent(key, self._this_hour, "hour", now), self._spent(key, self._this_day, "day", now)

    def heard(self, sibling: str, part: int, told: Told | None) -> None:
        """Take up what a sibling has counted in one part; None: its entry is gone."""
        if told is None:
            self._siblings[part].pop(sibling, None)
        else:
            self._siblings[part][sibling] = told

    def told(self, part: int, now: float) -> Told:
        """Return our own counts of one part, for the siblings."""
        self._turn(now)
        self.changed.discard(part)
        self._untold = {key: count for key, count in self._untold.items() if part_of(key.partition(" ")[0]) != part}
        rates = {key: round(self._decayed(p, now), 3) for key, p in self._paces.items() if part_of(key) == part}
        self._paces = {key: pace for key, pace in self._paces.items() if rates.get(key, 1.0) > 0.0}
        return Told(
            now,
            {key: rate for key, rate in rates.items() if rate > 0.0},
            {key: count for key, count in self._this_hour.items() if part_of(key) == part},
            {key: count for key, count in self._this_day.items() if part_of(key) == part},
            {f"{c} {since}": n for c, held in self._held.items() if part_of(c) == part for since, n in held.items()},
        )

    def _told_of(self, key: str) -> Iterable[Told]:
        return self._siblings[part_of(key)].values()

    def _spent(self, key: str, own: Mapping[str, int], span: str, now: float) -> int:
        length = HOUR if span == "hour" else DAY
        return own.get(key, 0) + sum(
            (told.this_hour if span == "hour" else told.this_day).get(key, 0)
            for told in self._told_of(key)
            if told.at // length == now // length
        )

    def _refilled(self, key: str, per_second: int, now: float) -> _Pace:
        pace = self._paces.get(key)
        if pace is None:
            pace = self._paces[key] = _Pace(float(per_second), now)
        others = [
            told.this_second[key]
            for told in self._told_of(key)
            if now - told.at <= SIBLING_SECONDS and key in told.this_second
        ]
        # What the siblings send at present is not ours to send; an equal part of the rate always is.
        ours = max(per_second - sum(others), per_second / (1 + len(others)))
        pace.left = min(float(max(1.0, ours)), pace.left + max(0.0, now - pace.at) * ours)
        pace.rate = self._decayed(pace, now)
        pace.at = max(pace.at, now)
        return pace

    @staticmethod
    def _decayed(pace: _Pace, now: float) -> float:
        return pace.rate * math.exp(-max(0.0, now - pace.at) / SMOOTHING_SECONDS)

    def _turn(self, now: float) -> None:
        """Begin a new hour or day with nothing spent; a clock set back keeps the counts."""
        hour, day = int(now // HOUR), int(now // DAY)
        if hour > self._hour:
            self._hour, self._this_hour = hour, {}
        if day > self._day:
            self._day, self._this_day = day, {}
            # Told again, for entries lapse: held mail outlasts days.
            self.changed.update(part_of(configuration) for configuration in self._held)
