"""Where `make judges` puts programs that are asked, but never run inside the product: `.judges/` at the top."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PYTHON_PROGRAMS = ROOT / ".judges" / "python" / "bin"
NODE_MODULES = ROOT / ".judges" / "node"


def python_program(name: str) -> str:
    """Return the path of a program from PyPI; skip the test with the reason where it could not be had."""
    found = PYTHON_PROGRAMS / name
    if not found.exists():
        pytest.skip(f"{name} is not installed; `make judges` installs it where the package index is reached")
    return str(found)


def node_package(name: str) -> Path:
    """Return the directory with `node_modules` that has a package; skip the test where it could not be had."""
    if not (NODE_MODULES / "node_modules" / name / "package.json").exists():
        pytest.skip(f"{name} is not installed; `make judges` installs it where node and its registry are reached")
    return NODE_MODULES
