"""Programs from Debian packages, unpacked beside the system and never installed: packages may exclude each other.

`unpacked` downloads once into `.judges/debian/`; nothing of a package starts by itself or touches `/etc`.
"""

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.judges.toolbox import ROOT

STORE = ROOT / ".judges" / "debian"
DOWNLOAD_SECONDS = 300
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def unpacked(package: str) -> Path:
    """Return the root under which a package and what it needs lie; skip the test where it cannot be had."""
    target = STORE / package
    if not (target / ".complete").exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            pytest.skip(f"{package} can only be had where there are Debian packages")
        STORE.mkdir(parents=True, exist_ok=True)
        with (STORE / f"{package}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (target / ".complete").exists():
                _fetch(package, target)
    return target


def released(package: str, release: str, *more: str) -> Path:
    """Return a root with a package of another Debian release, all it needs, libc included, and `more`: for chroot."""
    target = STORE / f"{package}-{release}"
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip(f"{package} can only be had where there are Debian packages")
    STORE.mkdir(parents=True, exist_ok=True)
    with (STORE / f"{package}-{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / ".complete").exists():
            _fetch_released(package, release, more, target)
    return target


def environment(root: Path) -> dict[str, str]:
    """Return the variables with which programs under a root find each other and their libraries."""
    triple = f"{platform.machine()}-linux-gnu"
    libraries = [
        f"usr/lib/{triple}",
        f"usr/lib/{triple}/blas",
        f"lib/{triple}",
        "usr/lib",
        "usr/lib/postfix",
        "usr/lib/rspamd",
    ]
    programs = ["usr/sbin", "usr/bin", "sbin", "bin"]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(str(root / each) for each in libraries),
        "PATH": ":".join([*(str(root / each) for each in programs), os.environ.get("PATH", "")]),
    }


def _fetch(package: str, target: Path) -> None:
    archives = STORE / f"{package}.archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    options = ["-qq", "-y", "--no-install-recommends", "--reinstall", "--download-only"]
    places = ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1"]
    wish = ["apt-get", *options, *places, "install", package]
    done = subprocess.run(wish, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    found = sorted(archives.glob("*.deb"))
    if done.returncode != 0 or not any(each.name.startswith(f"{package}_") for each in found):
        pytest.skip(f"{package} could not be downloaded: {done.stderr.strip()[-200:]}")
    for each in found:
        subprocess.run(["dpkg", "-x", str(each), str(target)], check=True)
    (target / ".complete").touch()
    shutil.rmtree(archives)


def _fetch_released(package: str, release: str, more: tuple[str, ...], target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="judge-apt-") as directory:
        here = Path(directory)
        here.chmod(0o755)
        for name in ("lists/partial", "cache/archives/partial"):
            (here / name).mkdir(parents=True)
        (here / "status").touch()  # nothing is installed: all of it is wanted
        (here / "sources").write_text(f"deb [signed-by={KEYRING}] http://deb.debian.org/debian {release} main\n")
        places = {
            "Dir::Etc::sourcelist": "sources", "Dir::Etc::sourceparts": "none", "Dir::State::lists": "lists",
            "Dir::State::status": "status", "Dir::Cache": "cache",
        }  # fmt: skip
        options = [f"-o{name}={here / place}" for name, place in places.items()]
        apt = ["apt-get", "-qq", "-y", "-oDebug::NoLocking=1", *options]
        wish = [*apt, "--no-install-recommends", "--download-only", "install", package, *more]
        for command in ([*apt, "update"], wish):
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
        found = sorted((here / "cache" / "archives").glob("*.deb"))
        if done.returncode != 0 or not any(each.name.startswith(f"{package}_") for each in found):
            pytest.skip(f"{package} of {release} could not be downloaded: {done.stderr.strip()[-200:]}")
        # The links /bin, /lib and /sbin come with base-files, and must be there before anything goes through them.
        for each in sorted(found, key=lambda file: not file.name.startswith("base-files_")):
            subprocess.run(["dpkg", "-x", str(each), str(target)], check=True)
    (target / ".complete").touch()
