"""The steps of an onboarding behind a balancer: replicas and rooms that have not heard yet are asked again."""

from collections.abc import Iterator

import httpx
import pytest

from services.command import customer
from services.command.customer import ApiRefused, Customer


def behind(answers: Iterator[int], patience_seconds: float) -> Customer:
    """Return a customer whose calls are answered with these statuses, one after the other."""
    made = Customer("http://control.test", "key", patience_seconds)

    def answer(_: httpx.Request) -> httpx.Response:
        status = next(answers)
        if status == 0:
            raise httpx.ConnectError("nobody listens")
        return httpx.Response(status, json={"id": "i-1"} if status == 201 else {"errors": [{"message": "why not"}]})

    made._client = httpx.AsyncClient(base_url="http://control.test", transport=httpx.MockTransport(answer))
    return made


async def test_what_is_not_there_yet_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key or a tenant that another replica has just made, a room that starts, a balancer without a server."""
    monkeypatch.setattr(customer, "PAUSE_SECONDS", 0.0)
    answers = iter([401, 404, 0, 502, 503, 504, 201])
    assert await behind(answers, 60.0).instance("demo") == "i-1"
    assert list(answers) == []


@pytest.mark.parametrize(("status", "patience_seconds"), [(503, 0.0), (400, 60.0), (409, 60.0)])
async def test_other_refusals_are_told_at_once(status: int, patience_seconds: float) -> None:
    """Without patience, or where waiting changes nothing, the first answer counts."""
    answers = iter([status, 201])
    with pytest.raises(ApiRefused, match="why not"):
        await behind(answers, patience_seconds).instance("demo")
    assert list(answers) == [201]
