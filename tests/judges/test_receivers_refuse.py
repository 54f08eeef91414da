"""Postfix, Exim and OpenSMTPD refuse a recipient: the next message goes over the same connection, after RSET."""

import asyncio

import pytest

from tests.delivery.conftest import world
from tests.delivery.house import delivering
from tests.delivery.test_policies import authority
from tests.judges.test_receivers_under_policies import TAPPED, Scene, receiver, scene

__all__ = ["authority", "receiver", "scene", "world"]

pytestmark = pytest.mark.judge


async def test_refused_and_used_again(scene: Scene) -> None:
    """What is refused bounces, what follows arrives, and each server is content with how it is spoken to."""
    scene.tap.strip = True  # so that the tap understands
    world = scene.world
    world.dns.set("foreign.example", "MX", f"10 mx.{scene.domain}.")
    world.dns.set(f"mx.{scene.domain}", "A", TAPPED)
    settings = world.settings(retry_waits_seconds=(3600,), mta_sts=False, connection_idle_seconds=60.0)
    async with delivering(world.server, settings):
        refused = await world.tenant.accept("x@foreign.example", sender="")
        event = await world.watcher.until(refused, "bounced", "deferred", "delivered")
        last = event.recipients[0].last
        assert last is not None
        assert (event.status, last.code // 100, last.phase) == ("bounced", 5, "rcpt")
        for number in range(2):
            marker = f"marker-{number}-after-refusal\r\n".encode()
            taken = await world.tenant.accept(f"everybody@{scene.domain}", text=marker, sender="")
            event = await world.watcher.until(taken, "delivered", "deferred", "bounced")
            assert event.status == "delivered", event.recipients
            async with asyncio.timeout(60):
                await scene.kept(marker.rstrip())
    heard = bytes(scene.tap.heard)
    assert heard.count(b"EHLO ") == 1
    assert heard.count(b"RSET\r\n") == 1
    assert b"RSET\r\nMAIL FROM:<>" in heard
    assert heard.count(b"QUIT\r\n") == 1
