"""Postfix and Exim as an office's own mail server: instances of ours, on loopback, that relay through a smart host.

Each runs from its unpacked package with a configuration in a directory of its own; `stop` ends it.
"""

import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from services.command.ports import free_port
from tests.judges.debian import environment, unpacked
from tests.system import eventually

OWNER, GROUP = "backup", "games"
"""Accounts every Debian has, which own nothing that matters here."""
POSTFIX_QUEUE = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "pid", "private", "public",
    "saved", "trace", "maildrop",
)  # fmt: skip
MASTER = """\
{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 1 1 qmgr
tlsmgr unix - - n 1 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
EXIM = """\
primary_hostname = relay.client.example
exim_path = {program}
exim_user = {owner}
exim_group = {owner}
spool_directory = {here}/spool
log_file_path = {here}/%slog
pid_file_path = {here}/pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
keep_environment = LD_PRELOAD : LD_LIBRARY_PATH : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
never_users =
deliver_drop_privilege
tls_advertise_hosts =
acl_smtp_rcpt = all
acl_smtp_data = all
begin acl
all:
  accept
begin routers
smart:
  driver = manualroute
  transport = smart
  route_list = * localhost::{to} byname
  self = send
begin transports
smart:
  driver = smtp
  allow_localhost
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates = {ca}
  tls_verify_hosts = *
  authenticated_sender = $sender_address
begin retry
* * F,1h,2s
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{username}^{password}
"""


class Upstream(NamedTuple):
    """The smart host, and the credentials there."""

    port: int
    ca: str
    username: str
    password: str


class SmartHost:
    """A mail server that takes mail on `port` and relays all of it."""

    def __init__(self, name: str) -> None:
        """Make a directory its own users can enter, unlike those of pytest."""
        if os.geteuid() != 0:
            pytest.skip(f"{name} needs root to become its own users")
        self.name = name
        self.here = Path(tempfile.mkdtemp(prefix=f"judge-{name}-"))
        self.here.chmod(0o755)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def _run(self, command: list[str], variables: dict[str, str]) -> None:
        with (self.here / "output").open("wb") as output:
            self._process = subprocess.Popen(
                command, env=variables, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def log(self) -> str:
        """Return all it has logged."""
        files = [path for path in self.here.glob("*log*") if path.is_file()]
        return "".join(path.read_text(errors="replace") for path in (*files, self.here / "output"))

    def stop(self) -> None:
        """End it and what it has started, and remove its directory."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(20)
        shutil.rmtree(self.here)


def postfix(upstream: Upstream) -> SmartHost:
    """Start Postfix; it logs in, checks the certificate, and says AUTH=<> on MAIL."""
    host = SmartHost("postfix")
    root, modules = unpacked("postfix"), unpacked("libsasl2-modules")
    variables = environment(root)
    variables["SASL_PATH"] = str(next(modules.glob("usr/lib/*/sasl2")))
    queue = host.here / "queue"
    for directory in (queue, *(queue / name for name in POSTFIX_QUEUE), host.here / "data"):
        directory.mkdir()
        if directory != queue and directory.name != "pid":
            shutil.chown(directory, OWNER, GROUP if directory.name in ("maildrop", "public") else OWNER)
    (host.here / "passwords").write_text(f"[localhost]:{upstream.port} {upstream.username}:{upstream.password}\n")
    (host.here / "passwords").chmod(0o600)
    library = root / "usr" / "lib" / "postfix"
    settings = {
        "compatibility_level": "3.6", "mail_owner": OWNER, "setgid_group": GROUP, "default_privs": "nobody",
        "queue_directory": queue, "data_directory": host.here / "data", "daemon_directory": library / "sbin",
        "command_directory": root / "usr" / "sbin", "shlib_directory": library, "meta_directory": host.here,
        "import_environment": "LD_LIBRARY_PATH SASL_PATH MAIL_CONFIG TZ LANG=C",
        "export_environment": "LD_LIBRARY_PATH SASL_PATH TZ LANG=C",
        "maillog_file": host.here / "log", "maillog_file_prefixes": host.here, "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4", "myhostname": "relay.client.example", "mydestination": "", "alias_maps": "",
        "mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions": "permit_mynetworks, reject", "smtputf8_enable": "yes",
        "relayhost": f"[localhost]:{upstream.port}", "smtp_host_lookup": "native", "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": f"texthash:{host.here}/passwords", "smtp_sasl_security_options": "noanonymous",
        "smtp_tls_security_level": "verify", "smtp_tls_CAfile": upstream.ca, "smtp_tls_loglevel": "1",
        "smtp_dummy_mail_auth": "yes", "minimal_backoff_time": "2s", "queue_run_delay": "2s",
    }  # fmt: skip
    (host.here / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    (host.here / "master.cf").write_text(MASTER.format(port=f"127.0.0.1:{host.port}"))
    (host.here / "dynamicmaps.cf").write_text("")
    host._run([str(library / "sbin" / "master"), "-c", str(host.here), "-d"], variables)
    _listening(host)
    return host


def exim(upstream: Upstream) -> SmartHost:
    """Start Exim; it logs in, checks the certificate, and says AUTH=<sender> on MAIL."""
    host = SmartHost("exim")
    root, wrapper = unpacked("exim4-daemon-light"), unpacked("libnss-wrapper")
    owner = pwd.getpwnam(OWNER)
    # The user's name is built into the program, and need not exist on this machine.
    users = [
        *pwd.getpwall(),
        pwd.struct_passwd(("Debian-exim", "x", owner.pw_uid, owner.pw_gid, "", "/", "/bin/false")),
    ]
    groups = [*grp.getgrall(), grp.struct_group(("Debian-exim", "x", owner.pw_gid, []))]
    (host.here / "passwd").write_text("".join(":".join(map(str, user)) + "\n" for user in users))
    (host.here / "group").write_text("".join(f"{each[0]}:x:{each[2]}:{','.join(each[3])}\n" for each in groups))
    variables = environment(root)
    variables["LD_PRELOAD"] = str(next(wrapper.rglob("libnss_wrapper.so")))
    variables["NSS_WRAPPER_PASSWD"] = str(host.here / "passwd")
    variables["NSS_WRAPPER_GROUP"] = str(host.here / "group")
    (host.here / "spool").mkdir()
    shutil.chown(host.here / "spool", OWNER, OWNER)
    shutil.chown(host.here, OWNER, OWNER)
    program = host.here / "exim4"
    shutil.copyfile(root / "usr" / "sbin" / "exim4", program)
    program.chmod(0o755)  # without the package's setuid bit, with which it would not see the wrapper
    authority = host.here / "ca.pem"
    shutil.copyfile(upstream.ca, authority)
    configuration = host.here / "exim.conf"
    configuration.write_text(
        EXIM.format(
            program=program, here=host.here, owner=OWNER, port=host.port, to=upstream.port, ca=authority,
            username=upstream.username, password=upstream.password,
        )
    )  # fmt: skip
    shutil.chown(configuration, "root", OWNER)
    configuration.chmod(0o640)
    host._run([str(program), "-C", str(configuration), "-bdf", "-q2s"], variables)
    _listening(host)
    return host


def _listening(host: SmartHost) -> None:
    import socket

    def answers() -> bool:
        assert host._process is not None
        assert host._process.poll() is None, host.log()
        try:
            with socket.create_connection(("127.0.0.1", host.port), 2) as probe:
                probe.settimeout(20)
                return probe.recv(3) == b"220"
        except OSError:
            return False

    try:
        eventually(f"{host.name} listens", answers)
    except AssertionError as fault:
        said = host.log()
        host.stop()
        raise AssertionError(f"{fault}\n{said}") from fault
