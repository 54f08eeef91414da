"""What a disk holds after a power cut, told from a trace of every write and every sync of a program.

The model is a journalling file system over a disk that honours fsync. Octets survive once a sync that began after their
write has ended. Names (files made, renamed, removed) survive from the next sync of anything on, for the journal is
written in order; they may also get there before any sync does, and then without their octets. A cut is taken in both
ways. Of octets that were not synced either nothing survives or the beginning of what was added.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

Names = Literal["early", "late"]

CALLS = (
    "openat,open,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,ftruncate,truncate,rename,renameat,renameat2,"
    "link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,fsync,fdatasync,sync_file_range,fallocate,copy_file_range,sendfile"
)
LONGEST = 1 << 20
_LINE = re.compile(r"(\d+) +(\d+\.\d+) (?:<\.\.\. \w+ resumed>(.*)|(\w+\(.*))")
_ENDED = re.compile(r"(\w+)\((.*)\) += (-?\d+)(<[^>]*>)?.*?(?:<(\d+\.\d+)>)?$")
_HANDLE = re.compile(r"(?:(\d+)|AT_FDCWD)<([^>]*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_UNFINISHED = " <unfinished ...>"


def tracing(trace: Path) -> tuple[str, ...]:
    """Return the options of strace; the program it runs is a child of who started it, not of strace."""
    return ("-D", "-f", "--seccomp-bpf", "-q", "-ttt", "-T", "-y", "-xx", "-s", str(LONGEST), "-e", f"trace={CALLS}",
            "-o", str(trace))  # fmt: skip


class Call(msgspec.Struct, frozen=True):
    """A system call that came to its end."""

    name: str
    arguments: str
    result: int
    result_path: str
    began: float
    ended: float


def calls(trace: Path) -> Iterator[Call]:
    """Read a trace, in the order in which the calls ended as far as the trace tells."""
    begun: dict[str, tuple[float, str]] = {}
    with trace.open() as lines:
        for line in lines:
            found = _LINE.match(line.rstrip("\n"))
            if not found:
                continue
            thread, moment, rest, text = found[1], float(found[2]), found[3], found[4]
            if text is not None and text.endswith(_UNFINISHED):
                begun[thread] = (moment, text.removesuffix(_UNFINISHED))
                continue
            at, text = (moment, text) if text is not None else (begun[thread][0], begun.pop(thread)[1] + rest)
            ended = _ENDED.match(text)
            if ended is None or int(ended[3]) < 0:
                continue
            until = moment if rest is not None else moment + float(ended[5] or 0)
            path = _decoded(ended[4][1:-1]) if ended[4] else ""
            yield Call(ended[1], ended[2], int(ended[3]), path, at, until)


def _decoded(text: str) -> str:
    return bytes.fromhex(text.replace("\\x", "")).decode() if text.startswith("\\x") else text


def _texts(arguments: str) -> list[bytes]:
    found = []
    for text, cut in _TEXT.findall(arguments):
        if cut:
            raise ValueError("the trace has not all the octets")
        found.append(bytes.fromhex(text.replace("\\x", "")))
    return found


class _File:
    """One file: its octets as the program sees them, and what of it a sync has brought to the disk."""

    def __init__(self) -> None:
        self.octets = bytearray()
        self.synced = b""
        self.shortest = 0
        """How many of the synced octets no cut to a shorter length has taken since."""

    def write(self, at: int, octets: bytes) -> None:
        if len(self.octets) < at:
            self.octets.extend(bytes(at - len(self.octets)))
        self.octets[at : at + len(octets)] = octets

    def cut(self, length: int) -> None:
        del self.octets[length:]
        self.octets.extend(bytes(length - len(self.octets)))
        self.shortest = min(self.shortest, length)

    def sync(self, octets: bytes) -> None:
        self.synced, self.shortest = octets, len(octets)

    def survives(self, names: Names, dice: random.Random | None) -> bytes:
        kept = self.synced[: self.shortest] if names == "early" else self.synced
        more = bytes(self.octets[len(kept) :])
        return kept + more[: dice.randrange(len(more) + 1)] if dice and self.octets.startswith(kept) else kept


class Disk:
    """The files below a directory, followed through a trace."""

    def __init__(self, root: Path, trace: Path) -> None:
        self._root = str(root)
        self._names: dict[str, _File | None] = {}
        """None: a directory."""
        self._synced_names: dict[str, _File | None] = {}
        self._handles: dict[int, tuple[bool, int]] = {}
        """Of each open file whether its writes sync, and where it writes next."""
        self._begun: dict[Call, tuple[bytes, dict[str, _File | None]]] = {}
        """Syncs that have not ended: what they will have brought to the disk."""
        self._steps = self._ordered(trace)
        self._step = next(self._steps, None)

    def advance(self, moment: float) -> None:
        """Go on to a moment, in seconds since 1970."""
        while self._step is not None and self._step[0] <= moment:
            self._do(*self._step[1:])
            self._step = next(self._steps, None)

    def put(self, target: Path, names: Names, dice: random.Random | None) -> None:
        """Write what is left after a cut now; `dice` decide how much of what was not synced is left too."""
        for name, file in sorted((self._names if names == "early" else self._synced_names).items()):
            path = target / PurePosixPath(name).relative_to(self._root)
            if file is None:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.survives(names, dice))

    def differs(self) -> list[str]:
        """Return the files below the directory that are not as the trace tells, or are there or missing against it."""
        found = [path for path in Path(self._root).rglob("*") if path.is_file()]
        real = {str(path): path.read_bytes() for path in found}
        told = {name: bytes(file.octets) for name, file in self._names.items() if file is not None}
        return sorted(name for name in real.keys() | told.keys() if real.get(name) != told.get(name))

    @staticmethod
    def _ordered(trace: Path) -> Iterator[tuple[float, Call, bool]]:
        """Yield when something happens: the end of each call, and of a sync also its beginning."""
        steps: list[tuple[float, int, Call, bool]] = []
        for number, call in enumerate(calls(trace)):
            if call.name in {"fsync", "fdatasync"}:
                steps.append((call.began, number, call, False))
            steps.append((call.ended, number, call, True))
        for moment, _, call, over in sorted(steps, key=lambda step: step[:2]):
            yield moment, call, over

    def _do(self, call: Call, over: bool) -> None:
        handle = _HANDLE.match(call.arguments)
        if call.name in {"openat", "open", "creat"}:
            self._open(call)
        elif call.name in {"fsync", "fdatasync"} and handle and self._below(path := _decoded(handle[2])):
            self._sync(call, path, over)
        elif call.name in {"write", "pwrite64"} and handle and self._below(path := _decoded(handle[2])):
            self._write(call, int(handle[1]), path)
        elif call.name == "lseek" and handle and int(handle[1]) in self._handles:
            self._handles[int(handle[1])] = (self._handles[int(handle[1])][0], call.result)
        elif call.name == "ftruncate" and handle and self._below(path := _decoded(handle[2])):
            file = self._names.get(path)
            if file is not None:
                file.cut(int(call.arguments.rpartition(", ")[2]))
        elif call.name in {"rename", "renameat", "renameat2"}:
            self._rename(*self._paths(call))
        elif call.name in {"unlink", "unlinkat", "rmdir"}:
            for path in self._paths(call):
                self._names.pop(path, None)
        elif call.name in {"mkdir", "mkdirat"}:
            for path in filter(self._below, self._paths(call)):
                self._names[path] = None
        elif handle and self._below(_decoded(handle[2])):
            raise ValueError(f"no model of {call.name}")

    def _below(self, path: str) -> bool:
        return path.startswith(self._root)

    def _paths(self, call: Call) -> list[str]:
        return [text.decode() for text in _texts(call.arguments)]

    def _open(self, call: Call) -> None:
        if not self._below(call.result_path):
            self._handles.pop(call.result, None)
            return
        flags = call.arguments
        file = self._names.setdefault(call.result_path, _File()) if "O_CREAT" in flags else None
        file = file or self._names.get(call.result_path)
        if file is not None and "O_TRUNC" in flags:
            file.cut(0)
        at = len(file.octets) if file is not None and "O_APPEND" in flags else 0
        self._handles[call.result] = ("SYNC" in flags, at)

    def _write(self, call: Call, handle: int, path: str) -> None:
        file = self._names.get(path)
        if file is None:
            return  # removed while it was open
        syncs, at = self._handles[handle]
        octets = b"".join(_texts(call.arguments))[: call.result]
        if call.name == "write":
            self._handles[handle] = (syncs, at + len(octets))
        else:
            at = int(call.arguments.rpartition(", ")[2])
        file.write(at, octets)
        if syncs:
            file.sync(bytes(file.octets))
            self._synced_names = dict(self._names)

    def _sync(self, call: Call, path: str, over: bool) -> None:
        file = self._names.get(path)
        if not over:
            self._begun[call] = (bytes(file.octets) if file is not None else b"", dict(self._names))
            return
        octets, names = self._begun.pop(call)
        if file is not None:
            file.sync(octets)
        self._synced_names = names

    def _rename(self, old: str, new: str) -> None:
        for name in [name for name in self._names if name == old or name.startswith(f"{old}/")]:
            self._names[new + name.removeprefix(old)] = self._names.pop(name)
