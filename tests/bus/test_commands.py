"""Verbs of credentials, guard rails, lists and reports, as a person types them, against a real control."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.testing

from services.__main__ import _mount_administration, app
from services.command.admin.exits import CONFLICT, DONE, INVALID, NEGATIVE, NOT_ALLOWED, UNKNOWN
from tests.control_world import ANSWERS, Tenant, World

Run = Callable[..., typer.testing.Result]


@pytest.fixture
def run(world: World, tenant: Tenant, tmp_path: Path) -> Run:
    """Run a verb as the tenant's manager, or as the operator."""
    if not any(group.name == "domain" for group in app.registered_groups):
        _mount_administration()

    def invoke(*arguments: str, operator: bool = False, status: int = DONE) -> typer.testing.Result:
        key = world.key if operator else tenant.manager.headers["authorization"].removeprefix("Bearer ")
        environment = {
            "POSTLANE_URL": world.control.url,
            "POSTLANE_API_KEY": key,
            "POSTLANE_INSTANCE": tenant.id,
            "POSTLANE_PROFILE": str(tmp_path / "none.toml"),
        }
        result = typer.testing.CliRunner().invoke(app, arguments, env=environment)
        assert result.exit_code == status, result.output
        return result

    return invoke


def test_passwords_are_listed_and_revoked(tenant: Tenant, run: Run) -> None:
    """Rotate, see both, end the first by the beginning of its ID; the last one stays."""
    user = (tenant.domain, tenant.user["username"])
    run("user", "rotate", *user)
    first, second = (json.loads(line) for line in run("user", "passwords", *user, "-o", "json").stdout.splitlines())
    table = run("user", "passwords", *user).stdout
    assert table.splitlines()[0].split() == [
        "ID", "CREATED", "AT", "WORKS", "HASH", "EXPIRES", "AT", "LAST", "USED", "ADDRESS", "BANNER",
    ]  # fmt: skip
    assert table.count("never") == 2
    run("user", "expire", *user, first["id"][:8], "--in-hours", "1")
    run("user", "expire", *user, first["id"], "--never")
    run("user", "expire", *user, first["id"], "--never", "--at", "2099-01-01T00:00:00Z", status=INVALID)
    run("user", "expire", *user, second["id"], "--at", "2020-01-01T00:00:00Z", status=INVALID)
    assert "Nothing was done" in run("user", "revoke", *user, first["id"], status=INVALID).output
    run("user", "revoke", *user, first["id"][:8], "--yes")
    run("user", "revoke", *user, first["id"], "--yes", status=UNKNOWN)
    assert "rotate first" in run("user", "revoke", *user, second["id"], "--yes", status=CONFLICT).output


def test_guard_rails_are_set_and_lifted(tenant: Tenant, run: Run) -> None:
    """Repeated options are a list, what is not named stays, `--lift` takes a limit away."""
    user = (tenant.domain, tenant.user["username"])
    run("user", "limit", *user, "--sender", f"jira@{tenant.domain}", "--sender", "*-bot@*", "--per-hour", "5")
    shown = run("user", "limit", *user, "--recipient", "client.example", "--staging", "capture").stdout
    assert f"jira@{tenant.domain}, *-bot@*" in shown
    assert "*@client.example" in shown
    rails = json.loads(run("user", "limit", *user, "--lift", "senders", "--per-hour", "0", "-o", "json").stdout)
    assert rails["guard_rails"]["senders"] == []
    assert (rails["guard_rails"]["messages_per_hour"], rails["guard_rails"]["staging"]) == (0, "capture")
    assert json.loads(run("user", "show", *user, "-o", "json").stdout) == rails
    assert "did you mean" in run("user", "limit", *user, "--network", "10.0.0.1/8", status=INVALID).output
    run("user", "limit", *user, status=INVALID)
    run("user", "limit", *user, "--lift", "everything", status=INVALID)
    assert "redirect_to" in run("user", "limit", *user, "--staging", "redirect", status=INVALID).output


def test_a_list_is_imported_from_a_file_and_migrated(tenant: Tenant, run: Run, tmp_path: Path) -> None:
    """Comments and empty lines do not count; explain says what the list does; a dry run says what would be done."""
    file = tmp_path / "allowed.txt"
    file.write_text("# the old list\n198.51.100.7  # jira\n\n203.0.113.0/24\n")
    run("rule", "import", tenant.domain, "--from-file", str(file), status=NOT_ALLOWED)
    run("rule", "import", tenant.domain, status=INVALID)
    assert "rule migrate" in run("rule", "import", tenant.domain, "--from-file", str(file), operator=True).output
    explained = run("rule", "explain", "--address", "203.0.113.9").stdout
    assert f"the imported list of {tenant.domain} admits it for that domain until" in explained
    run("rule", "explain", "--address", "203.0.114.9", status=NEGATIVE)
    dry = run("rule", "migrate", "--dry-run").stdout
    assert "would be put into a new zone 'allowed " in dry
    assert f"rule {tenant.rule['id']} would be changed to let in" in dry
    run("rule", "migrate")
    assert "admitted: every enabled rule" in run("rule", "explain", "--address", "203.0.113.9").stdout
    assert "nothing to do" in run("rule", "migrate").stdout


def test_reports_and_keys(tenant: Tenant, run: Run) -> None:
    """A list with nothing in it says so; a key shows its last use."""
    assert "no rule in report mode would have refused anybody" in run("rule", "report").output
    assert "LAST USED" in run("key", "ls").stdout
    key = tenant.manager.headers["authorization"].split("_")[1]
    assert "role" in run("key", "show", key).stdout
    run("key", "show", "0" * 12, status=UNKNOWN)


def test_a_quota_and_its_use(tenant: Tenant, run: Run) -> None:
    """Without a quota everything is unlimited; a user's own limit has a line of its own."""
    run("user", "limit", tenant.domain, tenant.user["username"], "--per-hour", "7")
    shown = run("quota", tenant.domain).stdout
    assert "unlimited" in shown
    assert f"user {tenant.user['username']}, an hour" in shown
    assert json.loads(run("quota", tenant.domain, "-o", "json").stdout)["users"][0]["messages_per_hour"] == 7


def test_domain_show_tells_the_quota(tenant: Tenant, run: Run) -> None:
    """One line of what is approved and what was sent; nothing where nothing is limited."""
    assert "quota" not in run("domain", "show", tenant.domain).stdout
    tenant.manager.put(f"{tenant.own}/authorization", json=ANSWERS)
    said = run("domain", "approve", tenant.domain, operator=True).output
    assert "without limits of its own" in said  # those of before are lifted, which is said
    said = run("domain", "approve", tenant.domain, "--per-second", "5", "--per-hour", "100", operator=True).output
    assert "at most 5 messages a second, 100 messages an hour" in said
    assert "messages: 5 a second; 100 an hour, 0 sent" in run("domain", "show", tenant.domain).stdout
