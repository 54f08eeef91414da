"""The allowance of a caller."""

from hypothesis import given
from hypothesis import strategies as st

from services.control.core.rate import Bucket, take


def test_a_burst_then_the_rate() -> None:
    """Three at once, then one per two seconds; the wait is what is missing."""
    bucket: Bucket | None = None
    waits = []
    for now in (0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 2.0):
        bucket, wait = take(bucket, now, 0.5, 3)
        waits.append(wait)
    assert waits == [0, 0, 0, 2, 1, 0, 2]


@given(st.lists(st.floats(0, 10), max_size=50), st.floats(0.1, 10), st.integers(1, 10))
def test_never_more_than_the_burst_and_the_rate(pauses: list[float], rate: float, burst: int) -> None:
    """Over any stretch of time no more is admitted than the burst and what has flowed in."""
    bucket, now, admitted = None, 0.0, 0
    for pause in pauses:
        now += pause
        bucket, wait = take(bucket, now, rate, burst)
        admitted += wait == 0
    assert admitted <= burst + now * rate + 1e-6
