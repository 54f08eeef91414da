"""Feeds the parsers with octets guided by coverage: `python -m benchmarks.fuzz_parsers [TARGET …] [--seconds 60]`.

Needs atheris, which is no part of the product: `pip install --target .judges/fuzz atheris` (as `make judges` does).
Each target runs in a process of its own, begins with the corpus kept in `tests/fuzz/corpus/`, and reports its cases and
coverage. A case that breaks a rule is written beside the corpus as `crash-…`. `--keep` adds to the kept corpus what was
found, smallest cases first, as far as each adds coverage.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / ".judges" / "fuzz"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
LONGEST_BYTES = 2_048
INSTRUMENTED = ("services", "shared", "tests.fuzz")
CHILD = "POSTLANE_FUZZ_TARGET"
SEED = 5321
_DONE = re.compile(r"Done (\d+) runs in (\d+) second")
_FAULT = "Uncaught Python exception"
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


Step = tuple[str, int, int]


class Run(NamedTuple):
    """What one target's run gave."""

    target: str
    cases: int
    seconds: int
    edges: int
    corpus: int
    crash: str


def child(target: str, arguments: list[str]) -> None:
    """Be the process of one target; libFuzzer never returns."""
    sys.path.insert(0, str(LIBRARY))
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([target, *arguments], TARGETS[target])
    atheris.Fuzz()


def fuzz(target: str, seconds: float, keep: bool, cases: int = -1) -> Run:
    """Run one target for some time, at random; with a number of cases always the same ones, within that time."""
    kept = CORPUS / target
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as found:
        options = [f"-max_total_time={seconds:.0f}", f"-max_len={LONGEST_BYTES}", f"-artifact_prefix={kept}/"]
        if cases >= 0:
            options += [f"-runs={cases}", f"-seed={SEED}"]
        said = _child(target, [*options, "-print_final_stats=1", found, str(kept)])
        if keep:
            _keep(target, kept, Path(found))
    done, coverage = _DONE.search(said), _COVERAGE.findall(said)
    edges, corpus = (int(coverage[-1][0]), int(coverage[-1][2])) if coverage else (0, 0)
    crash = "" if done else said[max(0, said.find(_FAULT)) :][:3000]
    return Run(target, int(done[1]) if done else 0, int(done[2]) if done else 0, edges, corpus, crash)


def _keep(target: str, kept: Path, found: Path) -> None:
    """Keep of all cases, smallest first, those that take a step between lines no other one took."""
    from tests.fuzz.targets import TARGETS

    cases = {case.read_bytes() for place in (kept, found) for case in place.iterdir() if case.is_file()}
    seeds = {case.read_bytes() for case in kept.glob("seed-*")}
    seen: set[Step] = set()
    for octets in sorted(cases, key=lambda each: (each not in seeds, len(each), each)):
        steps = _steps(TARGETS[target], octets)
        if not steps <= seen and octets not in seeds:
            (kept / hashlib.sha256(octets).hexdigest()[:16]).write_bytes(octets)
        seen |= steps


def _steps(target: Callable[[bytes], None], octets: bytes) -> set[Step]:
    """Return the steps from line to line of our own code that a case takes."""
    steps: set[Step] = set()

    def follow(frame: FrameType, _event: str, _argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(str(ROOT)) or "/.venv/" in file:
            return None
        last = frame.f_lineno

        def line(inner: FrameType, event: str, _what: Any) -> Any:
            nonlocal last
            if event == "line":
                steps.add((file, last, inner.f_lineno))
                last = inner.f_lineno
            return line

        return line

    sys.settrace(follow)
    try:
        target(octets)
    finally:
        sys.settrace(None)
    return steps


def _report() -> None:
    """Print, for each module the targets reach, how many lines of its functions the kept corpus covers."""
    from tests.fuzz.targets import TARGETS

    taken: dict[str, set[int]] = {}
    for case in sorted(CORPUS.glob("*/*")):
        for file, _, line in _steps(TARGETS[case.parent.name], case.read_bytes()):
            taken.setdefault(file, set()).add(line)
    print("| module | lines of functions | covered |\n|---|---|---|")
    for file in sorted(taken):
        name = str(Path(file).relative_to(ROOT))
        lines = _lines(compile(Path(file).read_text(), file, "exec"), top=True)
        if lines and not name.startswith("tests/"):
            print(f"| `{name}` | {len(lines)} | {100 * len(taken[file] & lines) // len(lines)} % |")


def _lines(code: CodeType, top: bool = False) -> set[int]:
    """Return the lines of the functions in a piece of code, without their first."""
    found = set() if top else {line for _, _, line in code.co_lines() if line and line > code.co_firstlineno}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= _lines(inner, top=top and inner.co_name[:1].isupper())
    return found


def _child(target: str, arguments: list[str]) -> str:
    command = [sys.executable, "-m", "benchmarks.fuzz_parsers", *arguments]
    environment = {**os.environ, CHILD: target, "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def main() -> int:
    """Run the targets one after the other; 1 if a case broke a rule."""
    if target := os.environ.get(CHILD):
        child(target, sys.argv[1:])
    if not (LIBRARY / "atheris").exists():
        print(f"atheris is not there: {sys.executable} -m pip install --target {LIBRARY.relative_to(ROOT)} atheris")
        return 2
    from tests.fuzz.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--coverage", action="store_true", help="only say what the kept corpus covers")
    wish = parser.parse_args()
    if wish.coverage:
        _report()
        return 0
    print("| target | cases | seconds | branches reached | cases of interest |\n|---|---|---|---|---|", flush=True)
    broken = False
    for target in wish.targets or TARGETS:
        run = fuzz(target, wish.seconds, wish.keep)
        print(f"| {run.target} | {run.cases:,} | {run.seconds} | {run.edges} | {run.corpus} |", flush=True)
        if run.crash:
            broken = True
            print(run.crash)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
