"""What the compose file promises and no test without a container engine could see otherwise."""

from pathlib import Path

import yaml

COMPOSE = Path(__file__).parents[2] / "compose.yaml"


def test_the_bus_starts_anew_with_each_version_of_init() -> None:
    """`init` writes the permissions of its version; tests/stack tries that the engine does so."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]

    assert services["nats"]["depends_on"]["init"]["restart"] is True
