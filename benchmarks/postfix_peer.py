"""A Postfix of our own beside ingress, from its unpacked Debian package: private directories, loopback only.

It takes the same submissions with TLS and AUTH, and syncs each message to disk as it always does. Then it keeps it in
its hold queue, so that only acceptance is measured, or has OpenDKIM sign it and relays it. Passwords are answered by a
thread here, in the protocol of Dovecot, for any password: Postfix does not pay for verifying one, and ingress has
verified each before the load begins.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.smtp_load import Server, family
from services.command.ports import free_port
from tests.judges.debian import environment, unpacked
from tests.judges.smart_hosts import GROUP, MASTER, OWNER, POSTFIX_QUEUE, SmartHost

START_SECONDS = 20.0
WRAPPED = "{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n"
GREETING = b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00112233445566778899aabbccddeeff\nDONE\n"


class PostfixPeer:
    """Runs until `stop`."""

    def __init__(self, certificate: Path, key: Path, *, relay_to: int = 0, milter: int = 0) -> None:
        """Start it with ingress's certificate and wait until it listens.

        `relay_to`: a port of loopback all mail goes to, signed by the milter on another; without it mail is kept.
        """
        self._host = SmartHost("postfix")
        here, port = self._host.here, self._host.port
        root = unpacked("postfix")
        queue = here / "queue"
        for directory in (queue, *(queue / name for name in POSTFIX_QUEUE), here / "data"):
            directory.mkdir()
            if directory != queue and directory.name != "pid":
                shutil.chown(directory, OWNER, GROUP if directory.name in ("maildrop", "public") else OWNER)
        for name, file in (("cert.pem", certificate), ("key.pem", key)):
            shutil.copyfile(file, here / name)
        library = root / "usr" / "lib" / "postfix"
        settings = {
            "compatibility_level": "3.6", "mail_owner": OWNER, "setgid_group": GROUP, "default_privs": "nobody",
            "queue_directory": queue, "data_directory": here / "data", "daemon_directory": library / "sbin",
            "command_directory": root / "usr" / "sbin", "shlib_directory": library, "meta_directory": here,
            "import_environment": "LD_LIBRARY_PATH MAIL_CONFIG TZ LANG=C",
            "export_environment": "LD_LIBRARY_PATH TZ LANG=C",
            "maillog_file": here / "log", "maillog_file_prefixes": here, "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4", "myhostname": "relay.client.example", "mydestination": "", "alias_maps": "",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "smtpd_tls_security_level": "may", "smtpd_tls_cert_file": here / "cert.pem",
            "smtpd_tls_key_file": here / "key.pem", "smtpd_tls_auth_only": "yes", "smtpd_tls_loglevel": "0",
            "smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": "private/auth",
            "smtpd_client_connection_rate_limit": "0", "smtpd_client_connection_count_limit": "0",
        }  # fmt: skip
        if relay_to:
            settings |= {
                "relayhost": f"[127.0.0.1]:{relay_to}", "smtpd_milters": f"inet:127.0.0.1:{milter}",
                "milter_default_action": "tempfail", "smtp_tls_security_level": "may",
            }  # fmt: skip
        else:
            settings |= {"smtpd_data_restrictions": "check_client_access static:HOLD"}
        (here / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
        tls_port = free_port()
        master = MASTER.format(port=f"127.0.0.1:{port}") + WRAPPED.format(port=f"127.0.0.1:{tls_port}")
        (here / "master.cf").write_text(master)
        (here / "dynamicmaps.cf").write_text("")
        self._passwords = socket.socket(socket.AF_UNIX)
        self._passwords.bind(str(queue / "private" / "auth"))
        (queue / "private" / "auth").chmod(0o666)
        self._passwords.listen(100)
        threading.Thread(target=self._answer_all, daemon=True).start()
        self._host._run([str(library / "sbin" / "master"), "-c", str(here), "-d"], environment(root))
        self.server = Server(port, tls_port, "alice")
        _wait(port, "Postfix", self._host.log)

    def pids(self) -> list[int]:
        """Return its processes."""
        assert self._host._process is not None
        return family(self._host._process.pid)

    def stop(self) -> None:
        """End it and remove its directories."""
        self._passwords.close()
        self._host.stop()

    def _answer_all(self) -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                asking, _ = self._passwords.accept()
                threading.Thread(target=_answer, args=(asking,), daemon=True).start()


class OpenDkim:
    """The milter that signs for Postfix. Runs until `stop`."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        """Start it with a key and wait until it listens."""
        self.port = free_port()
        self._here = Path(tempfile.mkdtemp(prefix="opendkim-"))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self._here / "key.pem").write_bytes(pem)
        (self._here / "key.pem").chmod(0o600)
        settings = {
            "Mode": "s", "Domain": "shop.example", "Selector": "s", "KeyFile": self._here / "key.pem",
            "Canonicalization": "relaxed/relaxed", "Socket": f"inet:{self.port}@127.0.0.1", "Background": "no",
            "RequireSafeKeys": "no", "Syslog": "no", "InternalHosts": "0.0.0.0/0", "OversignHeaders": "From",
            "SignatureAlgorithm": "rsa-sha256",
        }  # fmt: skip
        (self._here / "conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        root = unpacked("opendkim")
        program = root / "usr" / "sbin" / "opendkim"
        self._process = subprocess.Popen([str(program), "-f", "-x", str(self._here / "conf")], env=environment(root))
        _wait(self.port, "OpenDKIM", lambda: "")

    def pids(self) -> list[int]:
        """Return its processes."""
        return family(self._process.pid)

    def stop(self) -> None:
        """End it and remove its directory."""
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._here)


def _wait(port: int, name: str, log: Callable[[], str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not start:\n{log()}")
        time.sleep(0.1)


def _answer(asking: socket.socket) -> None:
    """Speak with one smtpd: each AUTH request is answered with success."""
    with contextlib.suppress(OSError), asking, asking.makefile("rb") as lines:
        asking.sendall(GREETING)
        for line in lines:
            words = line.decode().rstrip("\n").split("\t")
            if words[0] == "AUTH":
                asking.sendall(f"OK\t{words[1]}\tuser=alice\n".encode())
