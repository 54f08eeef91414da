"""The ports of `postlane up`: fixed ones that are checked before anything starts, or free ones."""

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from shared.contract.errors import PostlaneError


class PortTaken(PostlaneError, OSError):
    """A port is in use; the text names the port and the option that changes it."""


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """TCP ports on loopback (`dns` also UDP). The option of each is its name with `--` and `-port`."""

    smtp: int = 2587
    smtps: int = 2465
    private_smtp: int = 2588
    http: int = 8580
    nats: int = 4222
    dns: int = 5353
    mx: int = 2525


LOWEST_FREE = 10_000
USUAL_FIRST = 32_768
KERNELS_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
SANDBOX = frozenset({"dns", "mx"})
STRIPE = 100
"""So many ports beside each other are one process's own."""
STRIPES = 25
"""A process that has had so many stripes begins again with its first."""
_own: dict[int, socket.socket] = {}
_turns: Iterator[int] = iter(())


def free_port(udp_too: bool = False) -> int:
    """Return a port of loopback that is free now, for TCP and, if asked, for UDP.

    It lies below those that the kernel gives to outgoing connections: one of these could take it before it is used. No
    process is given the same one twice until many others had their turn, nor one of those of another process.
    """
    while True:
        port = _next()
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                if udp_too:
                    udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _next() -> int:
    """Return the next port of those that are this process's own."""
    global _turns
    while (port := next(_turns, None)) is None:
        stripes = range(LOWEST_FREE // STRIPE, _first_of_the_kernel() // STRIPE)
        others = [] if len(_own) == STRIPES else random.sample(stripes, len(stripes))
        if stripe := next(filter(_hold, others), None):
            _turns = iter(range(stripe * STRIPE, (stripe + 1) * STRIPE))
        else:
            _turns = (each * STRIPE + port for each in _own or others for port in range(STRIPE))
    return port


def _hold(stripe: int) -> bool:
    """Make a stripe this process's own for as long as it lives, if it is nobody's.

    There are seconds between the choice of a port and its use, in which another process could choose the same. The
    name is of no file: it goes with the process, however that ends, and belongs to the same network as the ports.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0postlane-ports-{stripe}")
    except OSError:  # somebody's; or this is not Linux, which alone has such names
        held.close()
        return False
    _own[stripe] = held
    return True


def _first_of_the_kernel() -> int:
    try:
        first = int(KERNELS_RANGE.read_text().split()[0])
    except (OSError, ValueError, IndexError):  # not Linux
        return USUAL_FIRST
    return first if first > LOWEST_FREE + 1_000 else USUAL_FIRST


def free_ports() -> Ports:
    """Return a set of free ports."""
    return Ports(**{name: free_port(name == "dns") for name in Ports.__struct_fields__})


def check(ports: Ports, sandbox: bool) -> None:
    """Make sure that every port can be had.

    Errors: `PortTaken` lists all that cannot.
    """
    taken: list[str] = []
    for name in Ports.__struct_fields__:
        if name in SANDBOX and not sandbox:
            continue
        port = getattr(ports, name)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) if name == "dns" else (socket.SOCK_STREAM,):
            with socket.socket(type=kind) as probe:
                if kind == socket.SOCK_STREAM:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as fault:
                    option = "--" + name.replace("_", "-") + "-port"
                    taken.append(f"port {port} cannot be used ({fault.strerror}): choose another with {option}")
                    break
    if taken:
        raise PortTaken("\n".join(taken) + "\nor let free ports be chosen with --auto-ports")
