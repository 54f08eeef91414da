"""Real receivers take our mail over TLS; two hundred nasty messages verify there, by two independent verifiers."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dkim
import pytest

from tests.journeys.test_first_message import published_key
from tests.judges import nasty, receivers
from tests.judges.debian import environment, unpacked
from tests.judges.receivers import Receiver
from tests.system import System, eventually, queue_id_of

pytestmark = pytest.mark.judge

ADDRESSES = {"postfix": "127.0.0.5", "exim": "127.0.0.6", "opensmtpd": "127.0.0.7"}
SECONDS = 180.0


@pytest.fixture(scope="module", params=["postfix", "exim", "opensmtpd"])
def receiver(request: pytest.FixtureRequest, system: System) -> Iterator[Receiver]:
    """Run a receiver that the sandbox's DNS leads to."""
    yield from running(system, request.param)


def running(system: System, name: str) -> Iterator[Receiver]:
    """Start a receiver, publish it, and end it afterwards."""
    start: Callable[[str, int], Receiver] = getattr(receivers, name)
    host = start(ADDRESSES[name], system.ready["sandbox"]["mx"]["port"])
    directory = ("--directory", system.ready["sandbox"]["directory"])
    system.postlane("sandbox", "dns", "set", *directory, f"{name}.example", "MX", f"10 mx.{name}.example.")
    system.postlane("sandbox", "dns", "set", *directory, f"mx.{name}.example", "A", ADDRESSES[name])
    yield host
    host.stop()


def test_nasty_messages_arrive_over_tls_and_verify(system: System, receiver: Receiver, tmp_path: Path) -> None:
    """Each is accepted by us, kept by the receiver, and verifies with dkimpy and with Mail::DKIM; a change does not."""
    to = f"everybody@{receiver.name}.example"
    wanted = nasty.messages(system.tenant["domain"], to)
    session = system.login()
    queue_ids = {}
    for marker, message in wanted.items():
        session.mail(f"app@{system.tenant['domain']}", ["BODY=8BITMIME"])
        session.rcpt(to)
        code, text = session.data(message)
        assert code == 250, (marker, text)
        queue_ids[marker] = queue_id_of(text.decode())
    session.quit()
    try:
        eventually("all are kept", lambda: len(receiver.kept()) >= len(wanted), SECONDS)
    except AssertionError as fault:
        fault.add_note(why_not(system, queue_ids))
        fault.add_note(receiver.log()[-4000:])
        raise
    kept = {found[1].decode(): mail for mail in receiver.kept() if (found := re.search(rb"<(nasty-\d+)@", mail))}
    assert kept.keys() == wanted.keys()
    assert len(receiver.kept()) == len(wanted), "none twice"

    keys = published_key(system)
    failed = [marker for marker, mail in kept.items() if not dkim_ok(mail, keys)]
    assert failed == []
    assert not dkim_ok(kept["nasty-003"].replace(b"b\t", b"c\t", 1), keys), "the verifier accepts a changed body"
    if second := second_verifier(system, kept, tmp_path):
        assert second == dict.fromkeys(kept, "pass")
    assert all(b"TLS" in mail.split(b"\r\n\r\n", 1)[0] for mail in kept.values()), "each came over TLS"


def why_not(system: System, queue_ids: dict[str, str]) -> str:
    """Return what the tracker says of those that are not delivered."""
    told = {
        marker: system.api("GET", f"/v1/postlane/messages/{queue_id}").json() for marker, queue_id in queue_ids.items()
    }
    return "\n".join(f"{marker}: {each.get('why')}" for marker, each in told.items() if each["status"] != "delivered")


def dkim_ok(mail: bytes, keys: dict[bytes, bytes]) -> bool:
    """Ask dkimpy whether our signature, the first one, verifies."""
    start = re.search(rb"^DKIM-Signature:", mail, re.MULTILINE)
    assert start is not None
    return bool(dkim.verify(mail, dnsfunc=lambda name, timeout=5: keys[name]))


def second_verifier(system: System, kept: dict[str, bytes], directory: Path) -> dict[str, str]:
    """Ask Mail::DKIM about each message; skips where it cannot be had."""
    root = unpacked("libmail-dkim-perl")
    program = directory / "verify.pl"
    program.write_text(
        "use strict; use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS::Resolver;\n"
        "my ($port, $directory) = @ARGV;\n"
        "$Mail::DKIM::DNS::RESOLVER = Net::DNS::Resolver->new(\n"
        "  nameservers => ['127.0.0.1'], port => $port, recurse => 1, config_file => '/dev/null');\n"
        'for my $file (sort glob("$directory/*.eml")) {\n'
        "  open(my $in, '<:raw', $file) or die; local $/; my $mail = <$in>;\n"
        "  my $dkim = Mail::DKIM::Verifier->new(); $dkim->PRINT($mail); $dkim->CLOSE;\n"
        "  my @ours = grep { $_->domain eq 'DOMAIN' } $dkim->signatures;\n"
        '  my ($name) = $file =~ m{([^/]+)\\.eml$}; print "$name ", (@ours ? $ours[0]->result : \'none\'), "\\n";\n'
        "}\n".replace("DOMAIN", system.tenant["domain"])
    )
    for marker, mail in kept.items():
        (directory / f"{marker}.eml").write_bytes(mail)
    perl = ":".join(str(root / each) for each in ("usr/share/perl5", "usr/share/perl/5.36"))
    triple = sorted(str(each) for each in root.glob("usr/lib/*/perl5/*"))
    done = subprocess.run(
        ["perl", str(program), str(system.ready["sandbox"]["dns"]["port"]), str(directory)],
        env=environment(root) | {"PERL5LIB": ":".join([perl, *triple])},
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())
