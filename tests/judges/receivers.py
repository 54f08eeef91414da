"""Postfix and Exim as the recipients' exchangers: instances of ours on loopback that keep what they get.

Each listens on an address of its own and the sandbox's exchanger port, offers STARTTLS, and writes Maildirs.
"""

import pwd
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

from shared.runtime.certificates import ensure_certificates
from tests.judges.debian import environment, unpacked
from tests.judges.smart_hosts import GROUP, MASTER, OWNER, POSTFIX_QUEUE, SmartHost
from tests.system import eventually

EXIM = """\
primary_hostname = mx.exim.example
exim_path = {program}
exim_user = {owner}
exim_group = {owner}
spool_directory = {here}/spool
log_file_path = {here}/%slog
pid_file_path = {here}/pid
local_interfaces = {address}
daemon_smtp_ports = {port}
keep_environment = LD_PRELOAD : LD_LIBRARY_PATH : NSS_WRAPPER_PASSWD : NSS_WRAPPER_GROUP
never_users =
tls_advertise_hosts = *
tls_certificate = {here}/cert.pem
tls_privatekey = {here}/key.pem
message_size_limit = 40M
accept_8bitmime = true
smtputf8_advertise_hosts = *
allow_utf8_domains = true
acl_smtp_rcpt = all
acl_smtp_data = all
begin acl
all:
  accept
begin routers
keep:
  driver = accept
  transport = keep
begin transports
keep:
  driver = appendfile
  directory = {here}/Maildir
  maildir_format
  create_directory
  user = {owner}
  group = {owner}
  message_prefix =
  message_suffix =
"""


class Receiver(SmartHost):
    """A mail server that takes mail for everybody and keeps it."""

    def __init__(self, name: str, address: str, port: int) -> None:
        """Prepare one that will listen on `address`:`port`."""
        super().__init__(name)
        self.address, self.port = address, port
        ensure_certificates(self.here / "tls", (f"mx.{name}.example",), datetime.now(UTC))
        for file in ("cert.pem", "key.pem"):
            shutil.copy(self.here / "tls" / file, self.here / file)
            shutil.chown(self.here / file, OWNER, OWNER)

    def kept(self) -> list[bytes]:
        """Return every message it has, with the line ends it had on the wire."""
        files = (path for path in self.here.glob("**/new/*") if path.is_file())
        return [file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for file in files]

    def listening(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            try:
                with socket.create_connection((self.address, self.port), 2) as probe:
                    probe.settimeout(5)
                    return probe.recv(3) == b"220"
            except OSError:
                return False

        eventually(f"{self.name} listens", answers, 30)


def postfix(address: str, port: int) -> Receiver:
    """Start Postfix with its virtual delivery agent."""
    host = Receiver("postfix", address, port)
    root = unpacked("postfix")
    variables = environment(root)
    queue, owner = host.here / "queue", pwd.getpwnam(OWNER)
    (host.here / "Maildir").mkdir()
    shutil.chown(host.here / "Maildir", OWNER, OWNER)
    for directory in (queue, *(queue / name for name in POSTFIX_QUEUE), host.here / "data"):
        directory.mkdir()
        if directory != queue and directory.name != "pid":
            shutil.chown(directory, OWNER, GROUP if directory.name in ("maildrop", "public") else OWNER)
    library = root / "usr" / "lib" / "postfix"
    settings = {
        "compatibility_level": "3.6", "mail_owner": OWNER, "setgid_group": GROUP, "default_privs": "nobody",
        "queue_directory": queue, "data_directory": host.here / "data", "daemon_directory": library / "sbin",
        "command_directory": root / "usr" / "sbin", "shlib_directory": library, "meta_directory": host.here,
        "import_environment": "LD_LIBRARY_PATH MAIL_CONFIG TZ LANG=C",
        "export_environment": "LD_LIBRARY_PATH TZ LANG=C",
        "maillog_file": host.here / "log", "maillog_file_prefixes": host.here, "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4", "myhostname": "mx.postfix.example", "mydestination": "", "alias_maps": "",
        "mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions": "permit_mynetworks, reject", "smtputf8_enable": "yes",
        "virtual_mailbox_domains": "postfix.example", "virtual_mailbox_base": host.here,
        "virtual_mailbox_maps": "static:Maildir/", "virtual_uid_maps": f"static:{owner.pw_uid}",
        "virtual_gid_maps": f"static:{owner.pw_gid}", "virtual_minimum_uid": "1", "virtual_mailbox_limit": "0",
        "message_size_limit": "41943040", "smtpd_tls_security_level": "may",
        "smtpd_tls_cert_file": host.here / "cert.pem",
        "smtpd_tls_key_file": host.here / "key.pem", "smtpd_tls_loglevel": "1", "smtpd_tls_received_header": "yes",
        "smtpd_peername_lookup": "no",
    }  # fmt: skip
    (host.here / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    agents = "virtual unix - n n - - virtual\n"
    (host.here / "master.cf").write_text(MASTER.format(port=f"{address}:{port}") + agents)
    (host.here / "dynamicmaps.cf").write_text("")
    host._run([str(library / "sbin" / "master"), "-c", str(host.here), "-d"], variables)
    host.listening()
    return host


def exim(address: str, port: int) -> Receiver:
    """Start Exim, which appends to a Maildir."""
    host = Receiver("exim", address, port)
    root, wrapper = unpacked("exim4-daemon-light"), unpacked("libnss-wrapper")
    variables = environment(root) | users_with(host.here, "Debian-exim")
    variables["LD_PRELOAD"] = str(next(wrapper.rglob("libnss_wrapper.so")))
    (host.here / "spool").mkdir()
    shutil.chown(host.here / "spool", OWNER, OWNER)
    shutil.chown(host.here, OWNER, OWNER)
    program = host.here / "exim4"
    shutil.copyfile(root / "usr" / "sbin" / "exim4", program)
    program.chmod(0o755)  # without the package's setuid bit, with which it would not see the wrapper
    configuration = host.here / "exim.conf"
    configuration.write_text(EXIM.format(program=program, here=host.here, owner=OWNER, address=address, port=port))
    shutil.chown(configuration, "root", OWNER)
    configuration.chmod(0o640)
    host._run([str(program), "-C", str(configuration), "-bdf", "-q5s"], variables)
    host.listening()
    return host


def users_with(here: Path, *names: str) -> dict[str, str]:
    """Return the variables that make more users known to a program: names built into it need not exist here."""
    owner = pwd.getpwnam(OWNER)
    added = [f"{name}:x:{owner.pw_uid}:{owner.pw_gid}::/:/bin/false" for name in names]
    users = [":".join(map(str, each)) for each in pwd.getpwall()]
    (here / "passwd").write_text("\n".join([*users, *added]) + "\n")
    groups = Path("/etc/group").read_text()
    (here / "group").write_text(groups + "".join(f"{name}:x:{owner.pw_gid}:\n" for name in names))
    return {"NSS_WRAPPER_PASSWD": str(here / "passwd"), "NSS_WRAPPER_GROUP": str(here / "group")}
