"""`postlane apply`: a file becomes instances, zones, rules, domains and users; a second run has nothing to do."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.testing

from services.__main__ import _mount_administration, app
from services.command.admin.exits import DONE, INVALID, NEGATIVE, NOT_ALLOWED, UNKNOWN
from services.command.admin.questionnaire import EXAMPLE as QUESTIONS
from services.command.admin.wishes import EXAMPLE
from tests.control_world import World

Run = Callable[..., typer.testing.Result]
PASSWORD = re.compile(r"password (\S{32}), shown this once")


@pytest.fixture
def run(world: World, tmp_path: Path) -> Run:
    """Run `postlane apply` on a file's text, as the operator or with another key."""
    if not any(group.name == "domain" for group in app.registered_groups):
        _mount_administration()
    answers = QUESTIONS.replace('= ""', '= "As usual"').replace("= false", "= true")
    (tmp_path / "answers.toml").write_text(answers)

    def invoke(text: str, *options: str, key: str = "", status: int = DONE) -> typer.testing.Result:
        file = tmp_path / "postlane.toml"
        file.write_text(text)
        environment = {
            "POSTLANE_URL": world.control.url,
            "POSTLANE_API_KEY": key or world.key,
            "POSTLANE_PROFILE": str(tmp_path / "none.toml"),
        }
        result = typer.testing.CliRunner().invoke(app, ("apply", "-f", str(file), *options), env=environment)
        assert result.exit_code == status, result.output
        return result

    return invoke


def test_the_example_is_planned_made_and_then_there_is_nothing_to_do(world: World, run: Run) -> None:
    """The plan changes nothing; the run makes it all, and shows the password once; a third one finds it as it is."""
    before = world.records()
    planned = run(EXAMPLE, "--plan", status=NEGATIVE).stdout
    assert world.records() == before
    done = run(EXAMPLE).stdout
    assert PASSWORD.search(done)
    assert [line.partition(":")[0] for line in planned.splitlines()[:-1]] == [
        line.partition(":")[0] for line in done.splitlines()
    ]
    assert done.splitlines()[0] == "+ instance acme"
    after = world.records()
    again = run(EXAMPLE)
    assert "everything is as the file says" in again.stdout
    assert not PASSWORD.search(again.stdout)
    assert run(EXAMPLE, "--plan").exit_code == DONE
    assert world.records() == after


def test_only_what_differs_is_changed(world: World, run: Run) -> None:
    """Each kind of object is compared field by field; what the file does not name stays."""
    text = EXAMPLE.replace("acme", "beta").replace("example.com", "beta.example")
    run(text)
    changed = (
        text.replace('"2001:db8::/48"', '"198.51.100.7"')
        .replace('zones = ["office"]', 'zones = ["office"]\nendpoints = ["private"]')
        .replace("10000", "500")
        .replace('html_policy = "warn"', 'html_policy = "refuse"\nhold_cap = 7')
        .replace("networks =", 'senders = ["jira@beta.example"]\nnetworks =')
    )
    said = run(changed).stdout.splitlines()
    assert said == [
        "~ zone office: addresses 203.0.113.0/24 2001:db8::/48 → 203.0.113.0/24 198.51.100.7",
        "~ rule office: endpoints nothing → private",
        "~ domain beta.example: hold_cap 10000 → 7, html_policy warn → refuse",
        "~ approval of beta.example: messages_per_hour 10000 → 500",
        "~ user jira of beta.example: senders nothing → jira@beta.example",
    ]
    assert "everything is as the file says" in run(changed).stdout
    assert "everything is as the file says" in run('[instances.beta.domains."beta.example"]\nhold_cap = 7\n').stdout


def test_a_domain_in_letters_of_its_own_script_is_made_once(run: Run) -> None:
    """It is kept in A-labels, and known again in either form."""
    text = '[instances.epsilon.domains."Bücher-apply.example"]\nhtml_policy = "warn"'
    run(text)
    assert "everything is as the file says" in run(text).stdout
    assert "everything is as the file says" in run(text.replace("Bücher-apply", "xn--bcher-apply-thb")).stdout


def test_a_name_that_two_instances_have_is_not_guessed(run: Run, world: World) -> None:
    """What would be done to one of them by chance is not done; an ID says which is meant."""
    two = [world.operator.post("/v1/postlane/instances", json={"name": "twins"}).json()["id"] for _ in range(2)]
    text = '[instances.twins.zones.home]\naddresses = ["192.0.2.1"]'
    said = run(text, status=INVALID).stderr
    assert all(identity in said for identity in two)
    assert "+ zone home" in run(text.replace("twins", f'"{two[0]}"')).stdout


def test_what_cannot_be_applied_is_said(run: Run, world: World) -> None:
    """A wrong file changes nothing; a rule of an unknown zone stops there; a reader's key may not."""
    before = world.records()
    wrong = {
        "instances = 1": "instances",
        "[instances.gamma.zones.home]\nadresses = []": "adresses",
        "[instances.gamma": "table declaration",
        '[instances.gamma.rules.r]\nzones = ["x"]\nenforcement = "on"': "enforcement",
    }
    for text, named in wrong.items():
        assert named in run(text, status=INVALID).stderr
    assert world.records() == before
    run('[instances.gamma.rules.r]\nzones = ["nowhere"]', "--plan", status=UNKNOWN)
    run('[instances.gamma.rules.r]\nzones = ["nowhere"]', status=UNKNOWN)
    tenant = world.tenant()
    reader = tenant.reader.headers["authorization"].removeprefix("Bearer ")
    run(EXAMPLE.replace("acme", "delta"), key=reader, status=NOT_ALLOWED)
