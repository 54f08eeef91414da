"""How many requests a caller may make: per API key, and per address for those that show no good one."""

import math
import time
from collections import OrderedDict

from services.control.core.fault import Fault
from services.control.core.rate import Bucket, take
from services.control.refusal import Refused

REMEMBERED = 10_000
"""Callers whose allowance is remembered; the one not heard of for longest is forgotten first."""


class Limits:
    """Allowances of this replica's callers."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def count(self, caller: str) -> None:
        """Count one request of a caller.

        Errors: `Refused` (429) with the time to wait.
        """
        bucket, wait = take(self._buckets.get(caller), time.monotonic(), self._per_second, self._burst)
        self._buckets[caller] = bucket
        self._buckets.move_to_end(caller)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if wait:
            seconds = math.ceil(wait)
            raise Refused(
                429, Fault("too_many_requests", f"too many requests: try again in {seconds} s"), retry_after=seconds
            )
