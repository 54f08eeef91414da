"""What the compose file promises and no test without a container engine could see otherwise."""

from pathlib import Path

import yaml

COMPOSE = Path(__file__).parents[2] / "compose.yaml"


def test_the_bus_starts_anew_with_each_version_of_init() -> None:
    """`init` writes the permissions of its version; tests/stack tries that the engine does so."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]

    assert services["nats"]["depends_on"]["init"]["restart"] is True


def test_three_servers_are_told_to_every_room() -> None:
    """Whoever talks to the bus is given all three, and that everything is kept three times."""
    alone = yaml.safe_load(COMPOSE.read_text())["services"]
    three = yaml.safe_load((COMPOSE.parent / "deploy" / "three-servers.yaml").read_text())["services"]
    rooms = {name for name, each in alone.items() if "POSTLANE_BUS_URL" in (each.get("environment") or {})}

    assert len(rooms) == 7
    for name in rooms:
        assert three[name]["environment"]["POSTLANE_BUS_URL"].count("nats://") == 3
        assert three[name]["environment"]["POSTLANE_BUS_REPLICAS"] == 3


def test_one_service_builds_the_image_of_all() -> None:
    """Built for several, it would be another one each time, and `up` would make anew what has not changed."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    ours = {name: each for name, each in services.items() if each["image"].startswith("postlane:")}

    assert [name for name, each in ours.items() if "build" in each] == ["init"]
    assert {each["pull_policy"] for name, each in ours.items() if name != "init"} == {"never"}


def test_a_slow_host_has_time_to_start_all_of_it() -> None:
    """`up --wait` gives up at the first container that is unhealthy; until a start is over none may be."""
    files = (COMPOSE, COMPOSE.parent / "deploy" / "three-servers.yaml")
    checks = [
        each["healthcheck"]
        for file in files
        for each in yaml.safe_load(file.read_text())["services"].values()
        if "test" in each.get("healthcheck", {})
    ]

    assert len(checks) == 6
    assert {check.get("start_period") for check in checks} == {"300s"}
    assert "--start-period=300s" in (COMPOSE.parent / "Dockerfile").read_text()
