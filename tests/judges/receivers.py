"""Postfix, Exim and OpenSMTPD as the recipients' exchangers: instances of ours on loopback that keep what they get.

Each listens on an address of its own and the sandbox's exchanger port, offers STARTTLS, and writes Maildirs.
"""

import os
import pwd
import shutil
import socket
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.runtime.certificates import ensure_certificates
from tests.judges.debian import environment, released, unpacked
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
acl_smtp_rcpt = recipients
acl_smtp_data = all
begin acl
recipients:
  deny domains = foreign.example
       message = we do not relay
  accept
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

OPENSMTPD = """\
pki own cert "{here}/cert.pem"
pki own key "{here}/key.pem"
smtp max-message-size 40M
listen on {address} port {port} {tls} hostname mx.opensmtpd.example
table everybody {{ "@" = "{owner}" }}
action keep maildir "{here}/Maildir" virtual <everybody>
match from any for domain "foreign.example" reject
match from any for any action keep
"""
# Its paths and users are built into it: it gets a root of its own, mounted where only it and its children see it.
OPENSMTPD_START = """\
set -e
new="$HERE/root"; mkdir "$new"; mount --bind "$ROOT" "$new"
for place in etc var run tmp; do mkdir -p "$new/$place"; mount -t tmpfs -o mode=755 none "$new/$place"; done
mkdir -p "$new/var/spool/smtpd" "$new/var/lib/opensmtpd/empty" "$new/dev" "$new/proc" "$new$HERE"
ln -s /run "$new/var/run"
chmod 711 "$new/var/spool/smtpd"
chmod 1777 "$new/tmp"
cp "$HERE/passwd" "$HERE/group" "$new/etc/"
mkdir -p "$new/etc/ssl/certs"; cp "$HERE/cert.pem" "$new/etc/ssl/certs/ca-certificates.crt"  # it wants some
mount --rbind /dev "$new/dev"; mount --rbind /proc "$new/proc"; mount --bind "$HERE" "$new$HERE"
exec chroot "$new" /usr/sbin/smtpd -d -f "$HERE/smtpd.conf"
"""


class Receiver(SmartHost):
    """A mail server that takes mail for everybody, but not for `foreign.example`, and keeps it."""

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
                    probe.settimeout(20)
                    return probe.recv(3) == b"220"
            except OSError:
                return False

        try:
            eventually(f"{self.name} listens", answers)
        except AssertionError:
            self.stop()
            raise


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
        "mynetworks": "127.0.0.0/8", "smtpd_relay_restrictions": "reject_unauth_destination", "smtputf8_enable": "yes",
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


def opensmtpd(address: str, port: int, tls: str = "tls pki own") -> Receiver:
    """Start OpenSMTPD, which appends to a Maildir; `tls` is what its `listen` line says about it."""
    host = Receiver("opensmtpd", address, port)
    root = released("opensmtpd", "trixie", "base-files", "dash")  # TLS of bookworm's fails with its own OpenSSL
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        shutil.rmtree(host.here)
        pytest.skip("OpenSMTPD needs the right to mount what is built into it")
    users_with(host.here, "opensmtpd", "opensmtpq")
    for file in ("cert.pem", "key.pem"):
        shutil.chown(host.here / file, "root", "root")
    (host.here / "key.pem").chmod(0o600)
    (host.here / "Maildir").mkdir()
    shutil.chown(host.here / "Maildir", OWNER, OWNER)
    (host.here / "smtpd.conf").write_text(
        OPENSMTPD.format(here=host.here, address=address, port=port, tls=tls, owner=OWNER)
    )
    variables = os.environ | {"ROOT": str(root), "HERE": str(host.here)}
    host._run(["unshare", "--mount", "--propagation", "private", "sh", "-c", OPENSMTPD_START], variables)
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
