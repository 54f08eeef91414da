"""No child outlives the process that watches it."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
"""Loaded here: between fork and exec a child must take no lock, another thread may have held it."""


def die_with_parent() -> None:
    """Have the kernel end this process with SIGTERM when its parent ends, however that does; for `preexec_fn`."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
