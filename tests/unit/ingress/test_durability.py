"""What servers say of their store, and what it proves."""

import json

import pytest

from services.ingress.core.durability import all_heard, doubt, servers


def says(name: str, syncs: object = True, cluster: int = 0, **more: object) -> bytes:
    """Make a server's answer."""
    data: dict[str, object] = {"config": {"sync_always": syncs}, **more}
    if cluster:
        data["meta_cluster"] = {"name": "c", "cluster_size": cluster}
    return json.dumps({"server": {"name": name}, "data": data}).encode()


@pytest.mark.parametrize(
    ("answers", "complete", "why"),
    [
        ([says("n1")], True, ""),
        ([says("n1", False)], True, "does not sync each message to disk (n1)"),
        ([b"nonsense"], True, "does not sync"),
        ([json.dumps({"server": {"name": "n1"}, "data": {"config": {}}}).encode()], True, "(n1)"),
        ([b'{"data": 1}'], True, "does not sync"),
        ([b"[]"], True, "does not sync"),
        ([says("n1", cluster=3)], False, "1 of the 3 servers"),
        ([says("n1", cluster=3), says("n1", cluster=3)], False, "1 of the 3 servers"),
        ([says("n1", cluster=3), says("n2", cluster=3)], False, ""),
        ([says(f"n{n}", cluster=3) for n in range(3)], True, ""),
        ([says("n1", cluster=3), says("n2", cluster=3), says("n3", False, 3)], True, "(n3)"),
        ([says("n1"), says("leaf", disabled=True)], True, ""),
        ([says("leaf", disabled=True)], False, "0 of the 1"),
        ([], False, "0 of the 1"),
    ],
)
def test_every_server_that_may_store_must_sync(answers: list[bytes], complete: bool, why: str) -> None:
    """One careless server of a cluster is enough to doubt; one that is down is not."""
    heard = servers(answers)
    assert all_heard(heard) is complete
    assert why in doubt(heard)
    assert bool(doubt(heard)) is bool(why)


def test_how_full_a_store_is() -> None:
    """In percent of what a server may store; one that does not say counts as empty."""
    config = {"sync_always": True, "max_storage": 4000}
    (half,) = servers([says("n1", config=config, storage=2000)])
    (silent,) = servers([says("n1")])
    assert (half.filled, silent.filled) == (50.0, 0.0)
