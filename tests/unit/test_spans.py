"""Spans of addresses against sets of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from shared.contract.spans import Span, merged, without

span = st.tuples(st.sampled_from([4, 6]), st.integers(0, 40), st.integers(0, 12)).map(
    lambda each: (each[0], each[1], each[1] + each[2])
)
some = st.lists(span, max_size=12)


def numbers(spans: list[Span]) -> set[tuple[int, int]]:
    return {(version, number) for version, first, last in spans for number in range(first, last + 1)}


@given(some, some)
def test_spans_are_sets(left: list[Span], right: list[Span]) -> None:
    """What is united and what is taken away is what sets of the numbers would be; no two results touch."""
    whole, holes = merged(left), merged(right)
    assert numbers(whole) == numbers(left)
    found = without(whole, holes)
    assert numbers(found) == numbers(left) - numbers(right)
    for result in (whole, found):
        assert result == sorted(result)
        assert len(numbers(result)) == sum(last - first + 1 for _, first, last in result)
    assert merged(whole) == whole
