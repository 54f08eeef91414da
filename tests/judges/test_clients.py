"""Independent clients submit; each gets a queue ID, its message arrives, verifies, and is tracked as delivered."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import dkim
import pytest

from tests.journeys.test_first_message import arrived, published_key
from tests.judges.debian import environment, unpacked
from tests.judges.toolbox import node_package
from tests.system import System, eventually, queue_id_of

pytestmark = pytest.mark.judge


def need(program: str) -> str:
    """Return the program's path, or skip saying that it is not to be had."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed and could not be")
    return path


def run(command: list[str], text: str = "", variables: dict[str, str] | None = None) -> str:
    """Run a client and return all it printed."""
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False, env=variables)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def by_swaks(system: System, marker: str, _directory: Path) -> str:
    """Submit with the line that `postlane up` prints."""
    tenant = system.tenant
    return run(
        [need("swaks"), "--server", "127.0.0.1", "--port", str(system.ready["smtp"]["port"]), "--tls"]
        + ["--auth", "LOGIN", "--auth-user", tenant["username"], "--auth-password", tenant["password"]]
        + ["--from", f"app@{tenant['domain']}", "--to", "delivered@inbox.example", "--header", f"Subject: {marker}"]
    )


def by_curl(system: System, marker: str, directory: Path) -> str:
    """Submit with curl over STARTTLS, certificate checked."""
    tenant = system.tenant
    mail = directory / "mail.eml"
    mail.write_bytes(system.message("delivered@inbox.example", marker))
    return run(
        [need("curl"), "-v", "--ssl-reqd", "--cacert", system.ready["ca_file"]]
        + ["--url", f"smtp://127.0.0.1:{system.ready['smtp']['port']}"]
        + ["--user", f"{tenant['username']}:{tenant['password']}", "--noproxy", "*"]
        + ["--mail-from", f"app@{tenant['domain']}", "--mail-rcpt", "delivered@inbox.example"]
        + ["--upload-file", str(mail)]
    )


def by_openssl(system: System, marker: str, _directory: Path) -> str:
    """Type the dialogue of the product description, in lower case, into openssl s_client."""
    tenant = system.tenant
    openssl = need("openssl")
    dialogue = [
        ("auth login", "334 VXNlcm5hbWU6"),
        (base64.b64encode(tenant["username"].encode()).decode(), "334 UGFzc3dvcmQ6"),
        (base64.b64encode(tenant["password"].encode()).decode(), "235 2.7.0 Authentication successful"),
        (f"mail from: <app@{tenant['domain']}>", "250 2.1.0 Ok"),
        # In upper case, R at the start of a line would be openssl's own command to renegotiate.
        ("rcpt to: <delivered@inbox.example>", "250 2.1.5 Ok"),
        ("data", "354 End data with <CR><LF>.<CR><LF>"),
        (f"from: Mailer <app@{tenant['domain']}>\nto: Recipient <delivered@inbox.example>\nSubject: {marker}\n\nHi\n.",
         "250 2.0.0 Ok: queued as "),
        ("quit", "221 2.0.0"),
    ]  # fmt: skip
    client = subprocess.Popen(
        [openssl, "s_client", "-quiet", "-crlf", "-starttls", "smtp"]
        + ["-CAfile", system.ready["ca_file"], "-connect", f"127.0.0.1:{system.ready['smtp']['port']}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    heard = ""
    for line, answer in dialogue:
        client.stdin.write(line + "\n")
        client.stdin.flush()
        while True:
            reply = client.stdout.readline()
            assert reply, f"the server closed before {answer!r}: {heard}"
            heard += reply
            if reply.startswith("250 ") and heard.count("\n") == 1:
                continue  # the end of openssl's own EHLO
            assert reply.startswith(answer), f"{reply!r} instead of {answer!r}"
            break
    client.stdin.close()
    client.wait(60)
    return heard


def by_msmtp(system: System, marker: str, directory: Path) -> str:
    """Submit with msmtp, which chooses AUTH PLAIN and checks the certificate."""
    tenant = system.tenant
    account = directory / "msmtprc"
    account.write_text(
        f"account default\nhost 127.0.0.1\nport {system.ready['smtp']['port']}\n"
        f"tls on\ntls_starttls on\ntls_trust_file {system.ready['ca_file']}\n"
        f"auth on\nuser {tenant['username']}\npassword {tenant['password']}\nfrom app@{tenant['domain']}\n"
    )
    account.chmod(0o600)
    return run(
        [need("msmtp"), "-v", "-C", str(account), "--", "delivered@inbox.example"],
        system.message("delivered@inbox.example", marker).decode().replace("\r\n", "\n"),
    )


def by_s_nail(system: System, marker: str, _directory: Path) -> str:
    """Submit with s-nail, as scripts on Debian do."""
    tenant, root = system.tenant, unpacked("s-nail")
    login = f"{tenant['username']}:{quote(tenant['password'], safe='')}"
    settings = ["v15-compat", f"mta=smtp://{login}@localhost:{system.ready['smtp']['port']}", "smtp-use-starttls"]
    settings += [f"tls-ca-file={system.ready['ca_file']}", "tls-ca-no-defaults", "tls-verify=strict"]
    settings += ["smtp-auth=login", f"from=app@{tenant['domain']}", "hostname=client.example", "sendwait"]
    options = [each for setting in settings for each in ("-S", setting)]
    return run(
        [str(root / "usr/bin/s-nail"), "-:/", "-vv", *options, "-s", marker, "delivered@inbox.example"],
        "Hello from s-nail.\n",
        environment(root),
    )


def by_nodemailer(system: System, marker: str, _directory: Path) -> str:
    """Submit with nodemailer."""
    tenant = system.tenant
    wish = {
        "port": system.ready["smtp"]["port"], "ca": system.ready["ca_file"], "username": tenant["username"],
        "password": tenant["password"],
        "message": {
            "from": f"App <app@{tenant['domain']}>", "to": "delivered@inbox.example", "subject": marker,
            "text": "Hello in plain text, with ünïcode.", "html": "<p>Hello in <b>HTML</b>, with ünïcode.</p>",
        },
    }  # fmt: skip
    packages = node_package("nodemailer")
    return run(
        [need("node"), str(Path(__file__).parent / "tools" / "submission.js")],
        json.dumps(wish),
        {"NODE_PATH": str(packages / "node_modules"), "PATH": "/usr/bin:/bin"},
    )


@pytest.mark.parametrize("client", [by_swaks, by_curl, by_openssl, by_msmtp, by_s_nail, by_nodemailer])
def test_a_clients_message_is_delivered_and_verifies(
    system: System, tmp_path: Path, client: Callable[[System, str, Path], str]
) -> None:
    """Queue ID, Maildir, dkimpy and `postlane track` agree."""
    marker = client.__name__.replace("_", "-")
    queue_id = queue_id_of(client(system, marker, tmp_path))
    keys = published_key(system)

    assert dkim.verify(arrived(system, marker), dnsfunc=lambda name, timeout=5: keys[name])
    eventually("delivered", lambda: system.status(queue_id) == "delivered")
    assert system.postlane("track", queue_id).returncode == 0


def test_openssl_without_crlf_is_told_the_cure(system: System) -> None:
    """A line that ends in a bare LF gets 500 5.5.2 naming -crlf."""
    client = subprocess.Popen(
        [need("openssl"), "s_client", "-quiet", "-starttls", "smtp"]
        + ["-connect", f"127.0.0.1:{system.ready['smtp']['port']}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("auth login\n")
    client.stdin.flush()
    reply = client.stdout.readline()
    client.kill()
    client.wait(60)

    assert reply.startswith("500 5.5.2")
    assert "-crlf" in reply
