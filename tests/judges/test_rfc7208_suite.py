"""The public test suite of RFC 7208 judges our SPF evaluation.

The suite is not part of this repository: `make judges` takes it from the source package of pyspf, which carries it.
POSTLANE_SPF_SUITE names a copy of the file to use instead of asking the package index.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.verifier.core.answer import Absent, Answer, Question, Records, Unknown
from services.verifier.core.spf import Outcome, check_host

pytestmark = pytest.mark.judge
PACKAGE = "pyspf==2.0.14 --hash=sha256:57a7ef01bda090173aafb6af0106251686ed73f03db4e911fcd34c57fc347186\n"
SUITE = "rfc7208-tests.yml"
TIMEOUT = Unknown("the name servers did not answer in time")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the text of the suite."""
    if named := os.environ.get("POSTLANE_SPF_SUITE"):
        return Path(named).read_text(encoding="utf-8")
    place = tmp_path_factory.mktemp("pyspf")
    (place / "wanted.txt").write_text(PACKAGE)
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes", "--requirement", "wanted.txt"]
    for python in (sys.executable, getattr(sys, "_base_executable", sys.executable)):  # a venv of uv has no pip
        command = [python, "-m", "pip", "download", *options]
        fetched = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
        if fetched.returncode == 0:
            break
    packages = list(place.glob("pyspf-*.tar.gz"))
    if not packages:
        pytest.skip(f"the source package of pyspf could not be fetched: {fetched.stderr[-300:]}")
    with tarfile.open(packages[0]) as package:
        member = next(m for m in package.getmembers() if m.name.endswith(f"/test/{SUITE}"))
        content = package.extractfile(member)
        assert content is not None
        return content.read().decode("utf-8")


def test_every_case_of_the_rfc_7208_suite_has_an_allowed_result(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each test of the suite ends in one of the results it allows."""
    total, wrong = 0, []
    for scenario in yaml.safe_load_all(suite):
        zone = _zone(scenario["zonedata"])
        for name, case in scenario["tests"].items():
            total += 1
            allowed = case["result"] if isinstance(case["result"], list) else [case["result"]]
            outcome = _evaluate(case, zone)
            if outcome.result not in allowed:
                wrong.append(f"{name}: {outcome.result} ({outcome.reason}), allowed {allowed}")
    with capsys.disabled():
        print(f"\nRFC 7208 suite: {total - len(wrong)}/{total} passed")
    assert total > 200, "the suite is not the whole one"
    assert not wrong, "\n".join(wrong)


def _evaluate(case: dict[str, Any], zone: dict[str, list[Any]]) -> Outcome:
    helo, sender = case["helo"], case["mailfrom"] or ""
    identity = sender if sender else f"postmaster@{helo}"  # RFC 7208 §2.4
    evaluation = check_host(case["host"], identity.rpartition("@")[2], identity, helo)
    try:
        question = next(evaluation)
        while True:
            question = evaluation.send(_answer(question, zone))
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome


def _zone(data: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Lower-case the names, and let records of type SPF stand for TXT where a name has none, as the suite asks."""
    zone = {}
    for name, entries in data.items():
        has_txt = any(isinstance(e, dict) and "TXT" in e for e in entries)
        records: list[Any] = []
        for entry in entries:
            if isinstance(entry, dict) and "SPF" in entry:
                if not has_txt:
                    records.append({"TXT": entry["SPF"]})
            elif isinstance(entry, dict) and entry.get("TXT") == "NONE":
                continue
            else:
                records.append(entry)
        zone[name.lower()] = records
    return zone


def _answer(question: Question, zone: dict[str, list[Any]], depth: int = 0) -> Answer:
    entries = zone.get(question.name.lower(), [])
    values: list[str] = []
    for entry in entries:
        if entry == "TIMEOUT":
            return TIMEOUT if not values else Records(tuple(values))
        ((kind, value),) = entry.items()
        if kind == "CNAME" and depth < 8:
            return _answer(Question(value.rstrip("."), question.kind), zone, depth + 1)
        if kind == question.kind:
            if value == "TIMEOUT":
                return TIMEOUT
            values.extend(_texts(kind, value))
    return Records(tuple(values)) if values else Absent()


def _texts(kind: str, value: Any) -> Iterator[str]:
    if kind == "TXT":
        strings = value if isinstance(value, list) else [value]
        # the suite writes octets as characters; a record without strings is a record all the same
        yield "".join(strings)
    elif kind == "MX":
        yield value[1].rstrip(".")
    else:
        yield str(value).rstrip(".")
