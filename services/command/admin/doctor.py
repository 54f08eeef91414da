"""`postlane doctor`: what is well, what is not, what to do; also from here to the endpoints, as clients see them."""

import smtplib
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from services.command.admin.client import Client
from services.command.admin.exits import DONE, NEGATIVE
from services.command.admin.output import Form, Output, fields, say, table
from services.command.profile import profile_file, read_profile

CONNECT_SECONDS = 10.0
CLOCK_SECONDS = 5.0
READABLE_BY_OTHERS = 0o077
MARKS = {"ok": "ok", "warning": "WARN", "bad": "BAD"}


def doctor(
    egress: Annotated[
        str, typer.Option(help="exchanger (host name) that delivery shall try to reach on port 25, such as your own MX")
    ] = "",
    data: Annotated[
        Path, typer.Option(help="directory of a `postlane up` on this machine, looked at if the API does not answer")
    ] = Path("var/postlane"),
    output: Output = Form.table,
) -> None:
    """Examine bus, store, rooms, name servers, certificates and endpoints. Status 1 if something is bad."""
    remarks: list[dict[str, Any]] = []
    try:
        with Client() as client:
            before = time.time()
            found = client.get("/v1/postlane/doctor", egress=egress)
            answered = client.answer("GET", "/healthz").headers.get("date", "")
            remarks = [*found["remarks"], *_clock(answered, before)]
            for endpoint in client.get("/v1/postlane/endpoints")["endpoints"]:
                remarks += _reached(endpoint)
    except typer.Exit:
        for remark in _children(data):
            say(f"{remark['sentence']}; {remark['advice']}", Form.json)
        raise
    remarks += _profile()
    if output is Form.json:
        for remark in remarks:
            fields(remark, output)
    else:
        _print(remarks)
    raise typer.Exit(NEGATIVE if any(each["state"] == "bad" for each in remarks) else DONE)


def _print(remarks: list[dict[str, Any]]) -> None:
    several = {
        each["where"] for each in remarks if len({o["process"] for o in remarks if o["where"] == each["where"]}) > 1
    }
    cells = []
    for each in remarks:
        where = f"{each['where']} {each['process']}" if each["where"] in several and each["process"] else each["where"]
        cells.append([MARKS[each["state"]], where, each["check"], each["sentence"]])
    table(["", "where", "check", "found"], cells)
    advice = [each for each in remarks if each["advice"]]
    if advice:
        say("\nWhat to do:")
    for each in advice:
        say(f"  {each['where']}, {each['check']}: {each['advice']}")


def _remark(check: str, state: str, sentence: str, advice: str = "") -> dict[str, Any]:
    return {"where": "here", "process": "", "check": check, "state": state, "sentence": sentence, "advice": advice}


def _clock(date: str, here: float) -> Iterator[dict[str, Any]]:
    try:
        there = datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return
    off = abs(there - here)
    if off > CLOCK_SECONDS:
        yield _remark("clock", "warning", f"this machine's clock and control's are {off:.0f} s apart", "use NTP")


def _profile() -> Iterator[dict[str, Any]]:
    file = profile_file()
    if file.exists() and file.stat().st_mode & READABLE_BY_OTHERS:
        yield _remark("profile", "bad", f"others can read {file}, and the key in it", f"chmod 600 {file}")


def _reached(endpoint: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Speak to each public endpoint as a client would."""
    ca_file = read_profile().get("ca_file") or None
    for kind in ("public", "public_tls"):
        if endpoint[kind]:
            host, _, port = endpoint[kind].rpartition(":")
            yield _greeted(f"{endpoint['region']} {endpoint[kind]}", host.strip("[]"), int(port), kind, ca_file)


def _greeted(name: str, host: str, port: int, kind: str, ca_file: str | None) -> dict[str, Any]:
    trust = ssl.create_default_context(cafile=ca_file)
    try:
        if kind == "public_tls":
            session: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=CONNECT_SECONDS, context=trust)
        else:
            session = smtplib.SMTP(host, port, timeout=CONNECT_SECONDS)
            session.starttls(context=trust)
        with session:
            session.ehlo()
            offered = "AUTH" if session.has_extn("auth") else "no AUTH"
    except ssl.SSLCertVerificationError as fault:
        advice = "the certificate must be for this host name, by a CA that clients trust"
        return _remark("endpoint", "bad", f"{name}: {fault.verify_message}", advice)
    except (OSError, smtplib.SMTPException) as fault:
        advice = (
            "is ingress running, do firewalls let this machine through, and is that how clients reach it from here?"
        )
        return _remark("endpoint", "warning", f"{name}: {fault}", advice)
    return _remark("endpoint", "ok", f"{name} speaks TLS with a good certificate and offers {offered}")


def _children(data: Path) -> Iterator[dict[str, Any]]:
    """Look for the processes of a `postlane up` whose API does not answer."""
    run = data / "run"
    if not run.is_dir():
        return
    for log in sorted((data / "logs").glob("*.log")):
        file = run / f"{log.stem}.pid"
        pid = file.read_text().strip() if file.exists() else ""
        if not pid or not Path(f"/proc/{pid}").exists():
            yield _remark("running", "bad", f"{log.stem} is not running", f"see the end of {log}")
