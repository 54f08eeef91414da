"""What the compose file promises and no test without a container engine could see otherwise."""

from pathlib import Path

import yaml

COMPOSE = Path(__file__).parents[2] / "compose.yaml"


def test_the_bus_starts_anew_with_each_version_of_init() -> None:
    """`init` writes the permissions of its version; tests/stack tries that the engine does so."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]

    assert services["nats"]["depends_on"]["init"]["restart"] is True


def test_one_service_builds_the_image_of_all() -> None:
    """Built for several, it would be another one each time, and `up` would make anew what has not changed."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    ours = {name: each for name, each in services.items() if each["image"].startswith("postlane:")}

    assert [name for name, each in ours.items() if "build" in each] == ["init"]
    assert {each["pull_policy"] for name, each in ours.items() if name != "init"} == {"never"}
