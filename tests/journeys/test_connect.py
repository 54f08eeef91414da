"""`postlane connect`: exact settings for a client, then its first connection told live."""

import json
import re
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.system import System, eventually, queue_id_of


@contextmanager
def coached(system: System, tmp_path: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `postlane connect` beside the test; hand over its process and the file of what it says."""
    said = tmp_path / "said"
    command = [sys.executable, "-m", "services", "connect", *arguments, "--timeout", "60"]
    with said.open("wb") as output:
        process = subprocess.Popen(command, env=system._environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        eventually("the coach waits", lambda: b"Waiting for" in said.read_bytes() or process.poll() is not None, 60)
        yield process, said
    finally:
        process.kill()
        process.wait()


def hears(said: Path, what: str) -> None:
    """Wait until the coach has said something."""
    eventually(f"the coach says {what!r}", lambda: what in said.read_text())


def test_the_first_connection_is_told_from_its_mistakes_to_the_accepted_message(system: System, tmp_path: Path) -> None:
    """Wrong port, no TLS, wrong certificate, wrong password, wrong sender, and then right: each is told live."""
    place = ("127.0.0.1", system.ready["smtp"]["port"])
    tenant = system.tenant
    with coached(system, tmp_path, "swaks", tenant["domain"], "--user", tenant["username"]) as (process, said):
        text = said.read_text()
        assert f"swaks --server 127.0.0.1 --port {place[1]} --tls --auth LOGIN --auth-user {tenant['username']}" in text
        assert f"--auth-password '{tenant['password']}'" in text
        assert system.ready["ca_file"] in text
        socket.create_connection(place).close()
        hears(said, "left without a word SMTP knows")
        with smtplib.SMTP(*place) as session:
            session.ehlo("app.demo.example")
        hears(said, "127.0.0.1 (app.demo.example) connected, said EHLO, and left without STARTTLS")
        with smtplib.SMTP(*place) as session, pytest.raises(ssl.SSLCertVerificationError):
            session.starttls(context=ssl.create_default_context())  # what the machine trusts, not this CA
        hears(said, "give it the CA")
        with smtplib.SMTP(*place) as session:
            session.starttls(context=system.trust())
            with pytest.raises(smtplib.SMTPAuthenticationError):
                session.login(tenant["username"], "wrong")
        hears(said, "AUTH failed")
        session = system.login()
        assert session.mail("jira@old.example")[0] == 550
        hears(said, "127.0.0.1 (")
        hears(said, "From is jira@old.example: not in your domain")
        code, reply = system.submit(session, "delivered@inbox.example", "coached")
        session.quit()
        assert code == 250
        assert process.wait(30) == 0
        assert f"accepted as {queue_id_of(reply)}" in said.read_text()
        assert re.search(r"connected to the public endpoint, TLS ok \(TLSv1\.3 \S+\), AUTH ok", said.read_text())


def test_a_tenant_does_not_see_strangers(system: System) -> None:
    """The stream of a manager's key has its own users' doings; who has not shown whose they are is the operator's."""
    tenant = system.tenant
    path = f"/v1/postlane/instances/{tenant['instance_id']}/configurations/{tenant['configuration_id']}/clients/events"
    strangers = {"client.seen.v1left", "submission.refused.v1", "client.seen.v1logged-in"}
    heard: list[list[str]] = []
    for key, wanted in (
        (tenant["api_key"], {"client.seen.v1logged-in"}),
        (system.ready["operator"]["api_key"], strangers),
    ):
        events: list[str] = []
        with httpx.stream(
            "GET",
            f"{system.ready['http']}{path}?seconds=30",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
            trust_env=False,
        ) as answer:
            assert answer.status_code == 200
            for line in answer.iter_lines():
                if line == "event: watching":
                    socket.create_connection(("127.0.0.1", system.ready["smtp"]["port"])).close()
                    with smtplib.SMTP("127.0.0.1", system.ready["smtp"]["port"]) as session:
                        session.docmd("MAIL FROM:<a@b.example>")
                    system.login().quit()
                if line.startswith("data: {") and (event := json.loads(line.removeprefix("data: "))):
                    events.append(event["type"] + event.get("stage", ""))
                    if wanted <= set(events):  # each of another connection: in any order
                        break
        heard.append(events)
    own, all_ = heard
    assert own == ["client.seen.v1logged-in"]
    assert set(all_) >= strangers


def test_settings_alone(system: System) -> None:
    """Without watching it ends at once; JSON has the values; what is missing or unknown is said."""
    tenant = system.tenant
    arguments = ("connect", "postfix", tenant["domain"], "--user", tenant["username"], "--no-watch", "-o", "json")
    found = json.loads(system.postlane(*arguments, "--endpoint", "private").stdout)
    assert found["port"] == str(system.ready["private_smtp"]["port"])
    assert f"relayhost = [127.0.0.1]:{found['port']}" in found["text"]
    listed = system.postlane("connect").stdout
    assert all(name in listed for name in ("jira", "servicenow", "nodemailer", "cron"))
    unknown = system.postlane("connect", "fax", check=False)
    assert unknown.returncode == 7
    assert "jira" in unknown.stderr
