"""Whether a stream of the mail path keeps what it acknowledged: somebody may have changed it since it was made."""

from collections.abc import Mapping
from typing import Any


def drift(config: Mapping[str, Any], replicas: int, *, queue: bool = True) -> str:
    """Return "" if a stream of mail loses nothing, else what was changed on it; `config` as the server tells it.

    With `queue` false it is one of records, which may vanish by age but by nothing else.
    """
    bounded = config.get("max_bytes", -1) > 0
    wrong = [
        said
        for said, is_so in (
            ("it is not stored in files", config.get("storage") != "file"),
            ("it is not a work queue", queue and config.get("retention") != "workqueue"),
            ("it does not keep what was read", not queue and config.get("retention") != "limits"),
            ("messages vanish by age", queue and bool(config.get("max_age"))),
            ("messages vanish by number", config.get("max_msgs", -1) > 0 or config.get("max_msgs_per_subject", -1) > 0),
            ("old messages make room for new ones", bounded and config.get("discard") != "new"),
            # `async` outweighs `sync_interval: always`
            ("it acknowledges before it syncs", config.get("persist_mode", "default") not in ("", "default")),
            (f"it has fewer than {replicas} replicas", config.get("num_replicas", 1) < replicas),
        )
        if is_so
    ]
    return (
        f"the stream {config.get('name', '')} was changed: {', '.join(wrong)}; run `postlane provision`"
        if wrong
        else ""
    )
