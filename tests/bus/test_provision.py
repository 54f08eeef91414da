"""Provisioning an existing server: what is there is kept, also what can no longer be changed."""

from typing import Any

import pytest

from services.delivery.core import sts
from shared.bus.provision import provision
from tests.bus_server import BusServer


async def test_a_second_time_changes_nothing(bus_server: BusServer) -> None:
    """Everything is as declared."""
    bus = await bus_server.connect("provision")
    done = await provision(bus, bus_server.settings("provision"), bus_server.topology)
    assert (done.created, done.updated) == (0, 0)
    await bus.close()


async def test_a_stream_of_an_earlier_version_is_taken_on(bus_server: BusServer) -> None:
    """It denies for ever that messages are deleted; that is no reason to fail."""
    bus = await bus_server.connect("provision")
    declared = (await bus.api("STREAM.INFO.MAIL_0"))["config"]
    assert not declared.get("deny_delete")
    assert "error" not in await bus.api("STREAM.UPDATE.MAIL_0", {**declared, "deny_delete": True, "description": "old"})
    done = await provision(bus, bus_server.settings("provision"), bus_server.topology)
    assert (done.created, done.updated) == (0, 1)
    assert (await bus.api("STREAM.INFO.MAIL_0"))["config"]["deny_delete"]
    await bus.close()


async def test_refusals_forget_the_oldest(bus_server: BusServer) -> None:
    """They do not fill the store mail lies in, and a stream that had no such bound is given it."""
    bus = await bus_server.connect("provision")
    declared = (await bus.api("STREAM.INFO.REFUSALS"))["config"]
    assert (declared["max_bytes"], declared["discard"]) == (bus_server.topology.mail_bytes // 8, "old")
    await bus.api("STREAM.UPDATE.REFUSALS", {**declared, "max_bytes": -1, "discard": "new"})
    done = await provision(bus, bus_server.settings("provision"), bus_server.topology)
    assert (done.created, done.updated) == (0, 1)
    assert (await bus.api("STREAM.INFO.REFUSALS"))["config"] == declared
    await bus.close()


async def test_policies_of_destinations_go_in_the_end(bus_server: BusServer) -> None:
    """They come from strangers; one that nobody has needed for longer than it can hold takes no room for ever."""
    bus = await bus_server.connect("provision")
    declared = (await bus.api("STREAM.INFO.KV_policies"))["config"]
    assert declared["max_age"] > sts.LONGEST_SECONDS * 10**9
    assert "error" not in await bus.api("STREAM.UPDATE.KV_policies", {**declared, "max_age": 0})
    done = await provision(bus, bus_server.settings("provision"), bus_server.topology)
    assert (done.created, done.updated) == (0, 1)
    assert (await bus.api("STREAM.INFO.KV_policies"))["config"] == declared
    await bus.close()


@pytest.mark.parametrize("change", [{"max_msgs_per_subject": 5}, {"max_msg_size": 1000}, {"no_ack": True}])
async def test_what_somebody_has_set_is_put_right(bus_server: BusServer, change: dict[str, Any]) -> None:
    """Ingress takes no mail then, or only small mail, and says that provisioning helps."""
    bus = await bus_server.connect("provision")
    for stream in ("MAIL_1", "KV_logins"):
        declared = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
        assert "error" not in await bus.api(f"STREAM.UPDATE.{stream}", {**declared, **change})
        done = await provision(bus, bus_server.settings("provision"), bus_server.topology)
        assert (done.created, done.updated) == (0, 1)
        assert (await bus.api(f"STREAM.INFO.{stream}"))["config"] == declared
    await bus.close()
