"""Answers of the DNS are kept for as long as they hold, and no longer; not knowing is not kept."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.delivery.core.route import Found, MxFound, NoAnswer, NoData, NoName
from services.delivery.exchangers import RECORDS_KEPT, TEXT_KEPT, Exchangers
from tests.delivery.house import delivery_settings
from tests.dns_server import DnsServer, Fault


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    """Give a test a name server whose answers hold for a minute."""
    async with DnsServer(ttl=60) as server:
        server.set("rcpt.test", "MX", "10 mx.rcpt.test.")
        server.set("mx.rcpt.test", "A", "192.0.2.1")
        server.set("rcpt.test", "TXT", "v=1")
        yield server


def made(dns: DnsServer, directory: Path, **settings: object) -> Exchangers:
    """Return exchangers that ask this server."""
    return Exchangers(delivery_settings(directory, resolvers=(dns.where,), **settings))


async def look(exchangers: Exchangers) -> None:
    """Ask all there is to ask about a domain."""
    assert await exchangers.mx("rcpt.test") == MxFound(((10, "mx.rcpt.test"),))
    assert (await exchangers.addresses("mx.rcpt.test"))[1] == Found(("192.0.2.1",))
    assert await exchangers.texts("rcpt.test") == ("v=1",)
    assert await exchangers.texts("none.test") == ()
    assert await exchangers.mx("none.test") == NoName()


async def test_answers_are_asked_for_once(dns: DnsServer, tmp_path: Path) -> None:
    """What is, and what is not; until they are dropped on purpose."""
    exchangers = made(dns, tmp_path)
    await look(exchangers)
    asked = len(dns.asked)
    for _ in range(3):
        await look(exchangers)
    assert len(dns.asked) == asked
    exchangers.forget()
    await look(exchangers)
    assert len(dns.asked) == 2 * asked


async def test_answers_end_with_their_ttl(dns: DnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it the server is asked again, and the new answer counts."""
    exchangers = made(dns, tmp_path)
    await look(exchangers)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 61)
    dns.set("mx.rcpt.test", "A", "192.0.2.2")
    assert (await exchangers.addresses("mx.rcpt.test"))[1] == Found(("192.0.2.2",))


async def test_no_answer_is_kept_for_more_than_a_day(
    dns: DnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its TTL: a mistake of a zone must end."""
    dns.ttl = 2**31 - 1
    exchangers = made(dns, tmp_path)
    await look(exchangers)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 86_401)
    dns.set("rcpt.test", "MX", "10 other.test.")
    dns.set("none.test", "MX", "10 other.test.")
    for name in ("rcpt.test", "none.test"):
        assert await exchangers.mx(name) == MxFound(((10, "other.test"),))


async def test_answers_end_with_a_clock_that_is_put_back(
    dns: DnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for while the clock was a year ahead would else hold for that year, also that there is nothing."""
    exchangers = made(dns, tmp_path)
    now = time.time
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time", lambda: now() + 365 * 86_400)
        await look(exchangers)
    dns.set("none.test", "MX", "10 other.test.")
    assert await exchangers.mx("none.test") == MxFound(((10, "other.test"),))


async def test_an_alias_that_is_not_followed(dns: DnsServer, tmp_path: Path) -> None:
    """Half an answer is none; and once the alias leads to a name without such records, that is one."""
    exchangers = made(dns, tmp_path)
    dns.alias_only = True
    dns.set("alias.test", "CNAME", "rcpt.test.")
    assert isinstance(await exchangers.mx("alias.test"), NoAnswer)
    dns.alias_only = False
    assert await exchangers.mx("alias.test") == MxFound(((10, "mx.rcpt.test"),))
    dns.set("bare.test", "CNAME", "mx.rcpt.test.")
    assert await exchangers.mx("bare.test") == NoData()


@pytest.mark.parametrize("fault", ["SERVFAIL", "LAME"])
async def test_not_knowing_is_not_kept(fault: Fault, dns: DnsServer, tmp_path: Path) -> None:
    """A server that fails, or only refers to others, is asked again at once."""
    exchangers = made(dns, tmp_path)
    dns.fail("rcpt.test", fault)
    assert isinstance(await exchangers.mx("rcpt.test"), NoAnswer)
    dns.fail("rcpt.test", None)
    assert isinstance(await exchangers.mx("rcpt.test"), MxFound)


async def test_no_more_answers_are_kept_than_set(dns: DnsServer, tmp_path: Path) -> None:
    """`dns_cache_entries` bounds what is kept; the oldest goes first."""
    exchangers = made(dns, tmp_path, dns_cache_entries=3)
    for number in range(10):
        dns.set(f"d{number}.test", "MX", "10 mx.rcpt.test.")
        await exchangers.mx(f"d{number}.test")
        assert len(exchangers._kept) <= 3
    asked = len(dns.asked)
    await exchangers.mx("d9.test")
    assert len(dns.asked) == asked
    await exchangers.mx("d0.test")
    assert len(dns.asked) == asked + 1


async def test_little_is_kept_of_a_large_answer(dns: DnsServer, tmp_path: Path) -> None:
    """Thousands of records under each name must not fill the memory; the best exchangers are among what is kept."""
    dns.set("big.test", "MX", *(f"{1000 - n} mx{n}.big.test." for n in range(1000)))
    dns.set("big.test", "A", *(f"192.0.2.{n}" for n in range(250)))
    dns.set("big.test", "TXT", *(" ".join(['"' + f"{n:03}" + "y" * 200 + '"'] * 5) for n in range(50)))
    exchangers = made(dns, tmp_path)
    found = await exchangers.mx("big.test")
    assert isinstance(found, MxFound)
    assert len(found.values) == RECORDS_KEPT
    assert found.values[0] == (1, "mx999.big.test")
    four = (await exchangers.addresses("big.test"))[1]
    assert isinstance(four, Found)
    assert len(four.values) == RECORDS_KEPT
    texts = await exchangers.texts("big.test")
    assert len(texts) == RECORDS_KEPT
    assert {len(text) for text in texts} == {TEXT_KEPT}
