"""The data directory of `postlane up`: secrets, certificates, stores, logs. Made once, then always the same."""

import fcntl
import json
import secrets
from pathlib import Path
from typing import IO

import msgspec

from shared.bus.permissions import users
from shared.contract.errors import PostlaneError
from shared.runtime.certificates import CA_FILE, CERTIFICATE_FILE, KEY_FILE, ensure_certificates
from shared.runtime.clock import now
from shared.runtime.sealing import new_master_key


class WorkspaceUnusable(PostlaneError):
    """The directory cannot be made or written; the text names the option that chooses another."""


class WorkspaceBusy(PostlaneError, RuntimeError):
    """Another `postlane up` runs on this data directory."""


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """The demo tenant, as the ready file shows it."""

    instance_id: str
    configuration_id: str
    domain: str
    username: str
    password: str
    api_key: str


class Workspace:
    """Paths and secrets below one directory; `release` gives up the lock on it."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._lock: IO[str] | None = None

    def prepare(self) -> None:
        """Lock the directory and make what is missing in it.

        Errors: `WorkspaceBusy`; `WorkspaceUnusable` if the directory cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (self.root / "lock").open("w")
        except OSError as fault:
            raise WorkspaceUnusable(
                f"the data cannot be kept in {self.root} ({fault.strerror}): name another directory with --data"
            ) from fault
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise WorkspaceBusy(
                f"another postlane up runs on {self.root}: stop it, or name another directory with --data"
            ) from fault
        for name in ("secrets", "logs", "run", "nats", "tracker"):
            (self.root / name).mkdir(exist_ok=True, mode=0o700)
        ensure_certificates(self.root / "tls", ("localhost", "127.0.0.1", "::1"), now())
        for user in users():
            self._ensure_secret(f"bus-{user}", secrets.token_urlsafe(24))
        self._ensure_secret("master-key", new_master_key())

    def release(self) -> None:
        """Give up the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def secret_file(self, name: str) -> Path:
        """Return the file of a secret."""
        return self.root / "secrets" / name

    def secret(self, name: str) -> str | None:
        """Return a secret, or None if it was never made."""
        file = self.secret_file(name)
        return file.read_text().strip() if file.exists() else None

    def keep_secret(self, name: str, text: str) -> None:
        """Write a secret, readable by its owner only, in one step."""
        draft = self.root / "secrets" / f".{name}"
        draft.touch(mode=0o600)
        draft.write_text(text + "\n")
        draft.replace(self.secret_file(name))

    def _ensure_secret(self, name: str, fresh: str) -> None:
        if not self.secret_file(name).exists():
            self.keep_secret(name, fresh)

    @property
    def ca_file(self) -> Path:
        """The certificate that clients must trust."""
        return self.root / "tls" / CA_FILE

    @property
    def certificate_file(self) -> Path:
        """Certificate chain of the SMTP listeners."""
        return self.root / "tls" / CERTIFICATE_FILE

    @property
    def key_file(self) -> Path:
        """Private key of the SMTP listeners."""
        return self.root / "tls" / KEY_FILE

    def log_file(self, child: str) -> Path:
        """Where a child process writes."""
        return self.root / "logs" / f"{child}.log"

    def pid_file(self, child: str) -> Path:
        """Where a child's process ID stands while it runs."""
        return self.root / "run" / f"{child}.pid"

    def tenant(self) -> Tenant | None:
        """Return the demo tenant, if it was made."""
        text = self.secret("demo-tenant")
        return msgspec.json.decode(text, type=Tenant) if text else None

    def keep_tenant(self, tenant: Tenant) -> None:
        """Remember the demo tenant for the next start."""
        self.keep_secret("demo-tenant", json.dumps(msgspec.to_builtins(tenant)))
