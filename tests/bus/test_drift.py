"""Somebody changes a stream of the mail path so that it would lose mail: it is seen, and nothing is accepted (B11)."""

import asyncio
from typing import Any

import pytest

from services.ingress.proof import Proof
from shared.bus.drift import drift
from shared.bus.permissions import ADMINISTRATOR
from shared.bus.server_config import MAX_PAYLOAD_BYTES
from tests.bus_server import BusServer

KEPT = {
    "name": "MAIL_0", "storage": "file", "retention": "workqueue", "discard": "new", "max_bytes": 1 << 30, "max_age": 0,
    "max_msgs": -1, "max_msgs_per_subject": -1, "num_replicas": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"persist_mode": "default"}, ""),
        ({"discard": "old", "max_bytes": -1}, ""),  # nothing to discard by: so are the streams of deferred mail
        ({"discard": "old"}, "make room for new ones"),
        ({"max_age": 3_600_000_000_000}, "vanish by age"),
        ({"max_msgs": 10}, "vanish by number"),
        ({"max_msgs_per_subject": 1}, "vanish by number"),
        ({"persist_mode": "async"}, "acknowledges before it syncs"),
        ({"storage": "memory"}, "not stored in files"),
        ({"retention": "interest"}, "not a work queue"),
    ],
)
def test_what_loses_mail(change: dict[str, Any], said: str) -> None:
    """Each change by itself is told in words; what was made is not one."""
    why = drift(KEPT | change, 1)
    assert said in why
    assert bool(why) is bool(said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_age": 3_600_000_000_000}, ""),  # what has long been finished
        ({"max_msgs_per_subject": 1}, "vanish by number"),
        ({"persist_mode": "async"}, "acknowledges before it syncs"),
        ({"retention": "interest"}, "does not keep what was read"),
        ({"retention": "workqueue"}, "does not keep what was read"),
    ],
)
def test_what_loses_commits(change: dict[str, Any], said: str) -> None:
    """Records of attempts may go by age, and by nothing else."""
    why = drift(KEPT | {"name": "STATUS", "retention": "limits", "max_bytes": -1} | change, 1, queue=False)
    assert said in why
    assert bool(why) is bool(said)


def test_fewer_replicas() -> None:
    """A setting asks for three servers, the stream lies on one."""
    assert "fewer than 3" in drift(KEPT, 3)


async def test_a_changed_stream_takes_no_mail_until_it_is_made_right(bus_server: BusServer) -> None:
    """Against the real server: proven, changed, doubted, provisioned again, proven."""
    ingress, administrator = await bus_server.connect("ingress"), await bus_server.connect(ADMINISTRATOR)
    said: list[tuple[bool, str]] = []
    proof = Proof(ingress, 60, False, lambda holds, why: said.append((holds, why)), bus_server.topology.shards)
    assert await ingress.store("postlane.mail.0.transactional.0.c.q", bytes(1 << 20), stream="MAIL_0")
    await proof.check()
    assert said == [(True, "")]
    assert proof.filled == pytest.approx(100 / 4000, rel=0.1)  # of the 4 GB this server may store
    config = (await administrator.api("STREAM.INFO.MAIL_1"))["config"]
    answer = await administrator.api("STREAM.UPDATE.MAIL_1", config | {"discard": "old", "max_age": 3_600_000_000_000})
    assert "error" not in answer
    await proof.check()
    assert not said[-1][0]
    assert "MAIL_1 was changed" in said[-1][1]
    await bus_server.provision()
    await proof.check()
    assert said[-1] == (True, "")
    await ingress.close()
    await administrator.close()


async def test_a_stream_that_is_gone(bus_server: BusServer) -> None:
    """A process that starts without its stream is not ready, and gets ready when the stream is made."""
    administrator = await bus_server.connect(ADMINISTRATOR)
    await administrator.api("STREAM.DELETE.MAIL_0")
    ingress = await bus_server.connect("ingress")
    said: list[tuple[bool, str]] = []
    proof = Proof(ingress, 60, False, lambda holds, why: said.append((holds, why)), bus_server.topology.shards)
    await proof.check()
    assert [holds for holds, _ in said] == [False]
    await bus_server.provision()
    async with asyncio.timeout(60):
        while (True, "") not in said:
            await proof.check()
    await ingress.close()
    await administrator.close()


async def test_what_was_heard_before_a_reconnection_proves_nothing(bus_server: BusServer) -> None:
    """The connection goes and comes to a server that does not sync, while the answer of the other is looked at."""
    ingress = await bus_server.connect("ingress")
    said: list[tuple[bool, str]] = []

    async def read_again(_seconds: float) -> bool:
        if bus_server.sync == "always":
            bus_server.kill()
            bus_server.sync = "2m"
            async with asyncio.timeout(60):
                while ingress.connected:
                    await asyncio.sleep(0.01)
                epoch = ingress.epoch
                bus_server.start()
                while ingress.epoch == epoch:
                    await asyncio.sleep(0.01)
        return True

    proof = Proof(ingress, 60, False, lambda holds, why: said.append((holds, why)), current=read_again)
    await proof.check()
    assert not proof.holds
    await proof.check()
    assert not proof.holds
    assert "does not sync" in said[-1][1]
    assert (True, "") not in said
    await ingress.close()


async def test_relaxed_is_only_what_was_asked_for(bus_server: BusServer) -> None:
    """Without proof of syncing mail is taken, but not before the directory is read again or by a changed stream."""
    bus_server.kill()
    bus_server.sync = "2m"
    bus_server.start()
    ingress = await bus_server.connect("ingress")
    said: list[tuple[bool, str]] = []
    read = False

    async def read_again(_seconds: float) -> bool:
        return read

    proof = Proof(ingress, 60, True, lambda holds, why: said.append((holds, why)), 1, read_again)
    await proof.check()
    assert not await proof.awaited(0)
    assert "not been read again" in said[-1][1]
    read = True
    await proof.check()
    assert await proof.awaited(0)
    assert said[-1] == (True, "")
    await proof._doubt()
    assert not await proof.awaited(0), "the connection came again"
    assert not said[-1][0], "and whoever asks is told"
    await proof.check()
    assert await proof.awaited(0)
    await ingress.store("postlane.mail.0.transactional.0.c.q", bytes(1 << 20), stream="MAIL_0")
    await proof.check()
    assert proof.filled > 0
    await ingress.close()


async def test_messages_the_bus_can_never_take(bus_server: BusServer) -> None:
    """A server whose max_payload is smaller than the largest message is not sent mail to, and why is said."""
    ingress = await bus_server.connect("ingress")
    said: list[tuple[bool, str]] = []
    for largest in (MAX_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES + 1):
        await Proof(ingress, 60, False, lambda holds, why: said.append((holds, why)), largest=largest).check()
    assert said[0] == (True, "")
    assert not said[1][0]
    assert "raise max_payload of nats-server or lower POSTLANE_INGRESS_MESSAGE_BYTES" in said[1][1]
    await ingress.close()
