"""A new user's path from an empty system to a first message, with commands only; exit statuses and output forms."""

import json
import re
import smtplib
import tomllib
from pathlib import Path

import pytest
import typer.testing

from services.__main__ import _mount_administration, app
from services.command.admin.exits import CONFLICT, INVALID, NEGATIVE, NOT_ALLOWED, UNKNOWN, UNREACHABLE
from services.command.customer import ApiRefused, Customer
from tests.system import System, eventually, queue_id_of

DOMAIN = "newcomer.example"


def lines(system: System, *arguments: str) -> list[dict[str, object]]:
    """Run a verb with JSON output; return its objects."""
    return [json.loads(line) for line in system.postlane(*arguments, "-o", "json").stdout.splitlines()]


def inside(system: System, *arguments: str) -> typer.testing.Result:
    """Run a verb in this process: as the command does, without the start of an interpreter."""
    if not any(group.name == "domain" for group in app.registered_groups):
        _mount_administration()
    return typer.testing.CliRunner().invoke(app, arguments, env=system._environment)


def publish(system: System, name: str, value: str) -> None:
    """Publish a TXT record in the sandbox's DNS."""
    system.postlane(
        "sandbox", "dns", "set", "--directory", system.ready["sandbox"]["directory"], name.rstrip("."), "TXT", value
    )


def answers(system: System) -> str:
    """Return the file of a filled-in questionnaire, made from the template."""
    template = system.postlane("domain", "authorize", "--example").stdout
    assert tomllib.loads(template)["only_to_requesters"] is False
    file = system.directory / "answers.toml"
    file.write_text(template.replace('= ""', '= "As usual"').replace("= false", "= true"))
    return str(file)


def test_from_an_empty_tenant_to_a_delivered_message(system: System) -> None:
    """Instance, domain, records, verification, authorization, user, zone, rule, message: each with one command."""
    (instance,) = lines(system, "instance", "add", "newcomer")
    where = ("--instance", "newcomer")
    text = system.postlane("domain", "add", DOMAIN, *where).stdout
    assert "domain wait" in text
    records = {str(each["kind"]): each for each in lines(system, "domain", "records", DOMAIN, *where)}
    assert {kind: record["state"] for kind, record in records.items()}.keys() == {
        "dkim", "spf", "dmarc", "return-path",
    }  # fmt: skip
    assert system.postlane("domain", "verify", DOMAIN, *where, check=False).returncode == NEGATIVE
    zone_file = system.postlane("domain", "records", DOMAIN, *where, "-o", "zone").stdout
    for line in zone_file.splitlines():
        if match := re.fullmatch(r'(\S+) 3600 IN TXT ("[^"]{1,255}"(?: "[^"]{1,255}")*)', line):
            publish(system, match[1], "".join(re.findall(r'"([^"]*)"', match[2])))
    assert {each["kind"]: each["state"] for each in lines(system, "domain", "records", DOMAIN, *where)} == {
        "dkim": "fine", "spf": "fine", "dmarc": "fine", "return-path": "missing",
    }  # fmt: skip
    assert "aws_route53_record" in system.postlane("domain", "records", DOMAIN, *where, "--format", "terraform").stdout
    assert "verified" in system.postlane("domain", "wait", DOMAIN, *where, "--timeout", "60").stdout
    assert (
        "domain approve"
        in system.postlane("domain", "authorize", DOMAIN, "--from-file", answers(system), *where).stdout
    )
    system.postlane("domain", "approve", DOMAIN, "--rate", "1000", *where)
    system.postlane("domain", "wait", DOMAIN, "--sending", "--timeout", "60", *where)
    (user,) = lines(system, "user", "add", DOMAIN, "--description", "newcomer", *where)
    system.postlane("zone", "add", "home", "127.0.0.0/8", *where)
    system.postlane("rule", "add", "--zone", "home", *where)

    def accepted() -> str:
        with smtplib.SMTP("127.0.0.1", system.ready["smtp"]["port"], timeout=30) as session:
            session.starttls(context=system.trust())
            try:
                session.login(str(user["username"]), str(user["password"]))
            except smtplib.SMTPAuthenticationError:
                return ""
            if session.mail(f"app@{DOMAIN}")[0] != 250:  # ingress hears of the directory and of the standing apart
                return ""
            session.rcpt("delivered@inbox.example")
            message = f"From: app@{DOMAIN}\r\nTo: delivered@inbox.example\r\nSubject: newcomer\r\n\r\nHello.\r\n"
            code, reply = session.data(message)
            return queue_id_of(reply.decode()) if code == 250 else ""

    queue_ids: list[str] = []

    def sent() -> bool:
        queue_ids.append(accepted())
        return bool(queue_ids[-1])

    eventually("the rule is in force", sent)
    eventually("it is tracked", lambda: system.status(queue_ids[-1]) != "")
    followed = system.postlane("track", queue_ids[-1], "--follow", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["type"] for line in followed] == ["message.accepted.v1", "message.attempted.v1"]
    assert queue_ids[-1] in system.postlane("search", "--domain", DOMAIN, *where).stdout
    assert instance["id"] == lines(system, "domain", "show", DOMAIN, *where)[0]["overview"]["instance"]  # type: ignore[index]


def test_lists_are_tables_for_people_and_lines_for_programs(system: System) -> None:
    """Each list has both forms, and they agree."""
    for noun, column in (("domain", "domain"), ("zone", "name"), ("rule", "id"), ("key", "id"), ("instance", "name")):
        listed = [json.loads(line) for line in inside(system, noun, "ls", "-o", "json").stdout.splitlines()]
        table = inside(system, noun, "ls").stdout
        assert listed, noun
        assert all(str(each[column]) in table for each in listed), noun
    assert "anybody in by" not in inside(system, "endpoints").stderr
    inside(system, "instance", "add", "closed")
    assert "no rule of this instance lets anybody in" in inside(system, "endpoints", "--instance", "closed").stderr
    (endpoint,) = lines(system, "endpoints")
    assert endpoint["public"] == f"127.0.0.1:{system.ready['smtp']['port']}"


def test_each_kind_of_failure_has_its_status_and_a_sentence(system: System) -> None:
    """Unknown, invalid, conflicting, not allowed, unreachable: one sentence on standard error, never a traceback."""
    domain = system.tenant["domain"]
    cases = [
        (UNKNOWN, ("domain", "show", "nobody.example")),
        (UNKNOWN, ("track", "0" * 30)),
        (UNKNOWN, ("refused", "R-0000000000")),
        (UNKNOWN, ("user", "rm", domain, "nobody", "--yes")),
        (UNKNOWN, ("domain", "ls", "--instance", "nobody")),
        (INVALID, ("domain", "add", "no_domain")),
        (INVALID, ("zone", "add", "x", "192.0.2.7/24")),
        (INVALID, ("domain", "authorize", domain, "--from-file", "/nowhere")),
        (INVALID, ("key", "rm", "pl_abc")),
        (CONFLICT, ("domain", "add", domain)),
        (CONFLICT, ("zone", "rm", "demo clients", "--yes")),
        (INVALID, ("zone", "rm", "demo clients")),
        (NEGATIVE, ("domain", "wait", "late.example", "--timeout", "0")),
    ]
    system.postlane("domain", "add", "late.example")
    waited = ""

    def looked_at() -> bool:
        nonlocal waited
        waited = inside(system, "domain", "wait", "late.example", "--timeout", "0").stderr
        return "have not been checked yet" not in waited

    eventually("the verifier has looked for the first time", looked_at)
    assert "There is no SPF record at late.example: publish the TXT record" in waited
    assert "72 hours" in waited
    assert "still pending after 0 s" in waited
    for status, arguments in cases:
        result = inside(system, *arguments)
        assert result.exit_code == status, (arguments, result.stdout, result.stderr)
        assert result.stderr.startswith("postlane: ") or status == NEGATIVE, arguments
        assert "Traceback" not in result.stderr
    system.postlane("domain", "rm", "late.example", "--yes")


def test_without_key_or_server_the_command_says_what_to_do(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key, a wrong one, a server that does not answer."""
    environment = system._environment
    monkeypatch.setitem(environment, "POSTLANE_PROFILE", str(system.directory / "none.toml"))
    result = system.postlane("domain", "ls", check=False)
    assert (result.returncode, "POSTLANE_API_KEY" in result.stderr) == (NOT_ALLOWED, True)
    monkeypatch.setitem(environment, "POSTLANE_API_KEY", "wrong")
    monkeypatch.setitem(environment, "POSTLANE_URL", system.ready["http"])
    result = system.postlane("domain", "ls", check=False)
    assert (result.returncode, "API key" in result.stderr) == (NOT_ALLOWED, True)
    monkeypatch.setitem(environment, "POSTLANE_URL", "http://127.0.0.1:1")
    result = system.postlane("domain", "ls", check=False)
    assert (result.returncode, "does not answer" in result.stderr) == (UNREACHABLE, True)


def test_a_login_is_kept_and_a_wrong_one_is_not(system: System) -> None:
    """The profile has what was proven to work; the explanation of an address uses it."""
    file = system.directory / "login.toml"
    system_environment = {"POSTLANE_PROFILE": str(file), "POSTLANE_API_KEY": None, "POSTLANE_URL": None}
    runner = typer.testing.CliRunner(env=system_environment)
    inside(system, "--help")

    def run(*arguments: str) -> typer.testing.Result:
        return runner.invoke(app, arguments)

    url = ("--url", system.ready["http"])
    assert run("login", *url, "--api-key", "wrong").exit_code == NOT_ALLOWED
    assert not file.exists()
    key = system.ready["tenant"]["api_key"]
    assert run("login", *url, "--api-key", key).exit_code == 0
    assert file.stat().st_mode & 0o077 == 0
    assert run("rule", "explain", "--address", "127.0.0.1").exit_code == 0
    assert run("rule", "explain", "--address", "192.0.2.1").exit_code == NEGATIVE


def test_several_profiles_on_one_machine(system: System) -> None:
    """Each login keeps its own; a verb names one, or uses the chosen one; nobody else reads them."""
    directory = system.directory / "profiles"
    directory.mkdir()
    environment = {
        "POSTLANE_PROFILE": str(directory / "profile.toml"), "POSTLANE_API_KEY": None, "POSTLANE_URL": None,
        "POSTLANE_PROFILE_NAME": None,
    }  # fmt: skip
    inside(system, "--help")

    def run(*arguments: str) -> typer.testing.Result:
        return typer.testing.CliRunner(env=environment).invoke(app, arguments)

    url = ("--url", system.ready["http"])
    operator, manager = system.ready["operator"]["api_key"], system.ready["tenant"]["api_key"]
    assert run("login", *url, "--api-key", operator).exit_code == 0
    assert run("--profile", "customer", "login", *url, "--api-key", manager).exit_code == 0
    listed = [json.loads(line) for line in run("profile", "ls", "-o", "json").stdout.splitlines()]
    assert [(each["name"], each["in_use"]) for each in listed] == [("default", False), ("customer", True)]
    assert all(file.stat().st_mode & 0o077 == 0 for file in directory.iterdir())
    assert run("instance", "add", "mine").exit_code == NOT_ALLOWED
    assert run("--profile", "default", "instance", "add", "mine").exit_code == 0
    assert run("profile", "use", "default").exit_code == 0
    assert run("instance", "add", "another").exit_code == 0
    assert run("profile", "rm", "customer", "--yes").exit_code == 0
    missing = run("--profile", "customer", "domain", "ls")
    assert "there is no profile 'customer'" in str(missing.exception)
    assert operator not in run("profile", "ls", "-o", "json").stdout


def test_keys_of_a_manager_reach_one_instance(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key made by the command works by environment, needs no --instance, and ends when it is revoked."""
    (made,) = lines(system, "key", "add", "--role", "reader", "--instance", system.tenant["instance_id"])
    environment = system._environment
    with monkeypatch.context() as patch:
        patch.setitem(environment, "POSTLANE_PROFILE", str(system.directory / "none.toml"))
        patch.setitem(environment, "POSTLANE_URL", system.ready["http"])
        patch.setitem(environment, "POSTLANE_API_KEY", str(made["api_key"]))
        assert system.tenant["domain"] in system.postlane("domain", "ls").stdout
        result = system.postlane("domain", "add", "reader.example", check=False)
        assert (result.returncode, "may only read" in result.stderr) == (NOT_ALLOWED, True)
    system.postlane("key", "rm", str(made["id"]), "--yes")
    (listed,) = [each for each in lines(system, "key", "ls") if each["id"] == made["id"]]
    assert listed["state"] == "revoked"
    assert "key." + str(made["id"]) in system.postlane("audit").stdout


def test_what_cannot_be_meant_is_refused_with_what_can(system: System) -> None:
    """A status that does not exist, a reference that is none: each is told what would do."""
    nonsense = inside(system, "search", "--status", "nonsense")
    assert nonsense.exit_code == INVALID
    assert "queued, held, deferred, delivered, bounced, expired, suppressed, dropped, captured" in nonsense.stderr
    assert "2026-11-01T00:00:00Z" in inside(system, "search", "--since", "yesterday").stderr
    assert inside(system, "queue", "hold", "--lane", "fast", "--dry-run").exit_code == INVALID
    elsewhere = inside(system, "connect", "jira", system.tenant["domain"], "--sender", "a@other.example", "--no-watch")
    assert (elsewhere.exit_code, "would be refused" in elsewhere.stderr) == (INVALID, True)
    reference = inside(system, "refused", "foo")
    assert reference.exit_code == UNKNOWN
    assert "foo is not the reference of a refusal: it looks like R-" in reference.stderr


def test_a_domain_is_known_as_it_is_written_and_as_it_is_kept(system: System) -> None:
    """Letters of another script, capitals, a dot at the end, A-labels: one domain."""
    where = ("--instance", system.tenant["instance_id"])
    assert inside(system, "domain", "add", "Bücher.example", *where).exit_code == 0
    for name in ("bücher.example", "BÜCHER.example", "bücher.example.", "xn--bcher-kva.example"):
        assert inside(system, "domain", "set", name, *where).exit_code == 0, name
    assert inside(system, "domain", "set", "bucher.example", *where).exit_code == UNKNOWN
    assert inside(system, "domain", "rm", "bücher.example", "--yes", *where).exit_code == 0


def test_reports_go_where_a_domain_says(system: System) -> None:
    """Named, shown, and taken away."""
    inside(system, "domain", "add", "reports.example")
    assert (
        "bounces@" in inside(system, "domain", "set", "reports.example", "--reply-to", "bounces@reports.example").stdout
    )
    assert "bounces@reports.example" in inside(system, "domain", "set", "reports.example").stdout
    assert "bounces@" not in inside(system, "domain", "set", "reports.example", "--reply-to", "").stdout
    inside(system, "domain", "rm", "reports.example", "--yes")


def test_a_user_of_a_domain_that_is_not_open_is_told_what_is_missing(system: System) -> None:
    """The credentials are made; that they do not work yet is said at once, with what to do."""
    inside(system, "domain", "add", "early.example")
    made = inside(system, "user", "add", "early.example")
    assert made.exit_code == 0
    assert "early.example cannot send yet: " in made.stderr
    assert "questionnaire has not been submitted (postlane domain show early.example)" in made.stderr
    inside(system, "domain", "rm", "early.example", "--yes")


async def test_what_a_broken_off_start_has_left_is_made_anew(system: System) -> None:
    """The domain of the demo tenant can be had again by the next start, and nobody else's goes."""
    customer = Customer(system.ready["http"], system.ready["operator"]["api_key"])
    try:
        left, present, foreign = [await customer.instance(name) for name in ("left", "left", "foreign")]
        await customer.configuration(left, "left.example")
        await customer.configuration(left, "not.left.example")
        with pytest.raises(ApiRefused, match="409"):
            await customer.configuration(present, "left.example")
        await customer.forget("left", "left.example")
        await customer.configuration(present, "left.example")
        with pytest.raises(ApiRefused, match="409"):
            await customer.configuration(foreign, "not.left.example")
    finally:
        await customer.close()


def test_times_look_the_same_wherever_people_read_them(system: System) -> None:
    """Fields, timeline and sentences: to the second, in UTC."""
    queue_id = system.send("delivered@inbox.example", "times")
    eventually("delivered", lambda: system.status(queue_id) == "delivered")
    shown = inside(system, "track", queue_id).stdout
    times = re.findall(r"\d{4}-\d\d-\d\d.\d\d:\d\d:\d\d\S*", shown)
    assert len(times) >= 4
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ[:,;.]?", each) for each in times), shown


def test_the_queue_shows_domains_and_a_second_start_says_what_waits(tmp_path: Path) -> None:
    """What was not finished when `up` ended is named by sender domain, and announced when it starts again."""
    again = System(tmp_path / "again", POSTLANE_DELIVERY_RETRY_WAITS_SECONDS="600")
    again.start()
    try:
        queue_id = again.send("defer+5x@inbox.example", "waits")
        eventually("deferred", lambda: again.status(queue_id) == "deferred")
        again.stop()
        again.start()
        assert "1 message of the last time wait" in again.output.read_text()
        (entry,) = lines(again, "queue", "ls")
        assert (entry["queue_id"], entry["domain"], entry["where"]) == (queue_id, again.tenant["domain"], "later")
        assert again.tenant["domain"] in inside(again, "queue", "ls").stdout
    finally:
        again.stop()
