"""Do the servers of the bus sync each message? Read from what they say of themselves, every one of a cluster.

A message lies with a majority of its stream's servers, and any server may be one of them, so each one must sync.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec


class Server(msgspec.Struct, frozen=True):
    """What one server says."""

    name: str
    syncs: bool
    cluster: int
    """Servers of its cluster, itself among them; 1 if it stands alone."""
    filled: float = 0.0
    """How much of all it may store is used, in percent."""


def servers(answers: Sequence[bytes]) -> tuple[Server, ...]:
    """Read the answers of servers to JSZ; one without a store counts as none, one that cannot be read does not sync."""
    found: dict[str, Server] = {}
    for number, answer in enumerate(answers):
        try:
            page: dict[str, Any] = json.loads(answer)
            data = page["data"]
            if data.get("disabled"):
                continue
            name = str(page.get("server", {}).get("name") or data.get("server_id") or number)
            size = int(data.get("meta_cluster", {}).get("cluster_size") or 1)
            most = float(data["config"].get("max_storage") or 0)
            filled = 100 * float(data.get("storage") or 0) / most if most > 0 else 0.0
            found[name] = Server(name, data["config"].get("sync_always") is True, size, filled)
        except (ValueError, KeyError, TypeError, AttributeError):
            found[f"answer {number}"] = Server("one that cannot be understood", False, 1)
    return tuple(found.values())


def all_heard(heard: Sequence[Server]) -> bool:
    """Whether every server that the others know of has answered."""
    return bool(heard) and len(heard) >= max(server.cluster for server in heard)


def doubt(heard: Sequence[Server]) -> str:
    """Return "" if what was heard proves that messages are synced, else why it does not.

    One that is down may be missing, for it stores nothing; fewer than a majority prove nothing.
    """
    careless = sorted(server.name for server in heard if not server.syncs)
    if careless:
        return f"the bus does not sync each message to disk ({', '.join(careless)}); set sync_interval: always on it"
    size = max((server.cluster for server in heard), default=1)
    if len(heard) <= size // 2:
        return f"{len(heard)} of the {size} servers of the bus say how they store messages, a majority is needed"
    return ""
