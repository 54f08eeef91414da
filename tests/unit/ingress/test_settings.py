"""Settings that contradict one another end the start with their names."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.ingress import app
from shared.contract.errors import SettingsFault


@pytest.mark.parametrize("name", ["IN_FLIGHT_BYTES", "IN_FLIGHT_BYTES_PER_USER"])
def test_a_budget_has_room_for_the_largest_message(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a message would be told 452 for ever; one that just fits is the control."""
    environ: Mapping[str, str] = {
        "POSTLANE_BUS_PASSWORD": "x",
        "POSTLANE_INGRESS_HOST_NAME": "relay.example",
        "POSTLANE_INGRESS_TLS_CERTIFICATE_FILE": str(tmp_path / "cert.pem"),
        "POSTLANE_INGRESS_TLS_KEY_FILE": str(tmp_path / "key.pem"),
        "POSTLANE_INGRESS_MESSAGE_BYTES": "2000",
    }
    monkeypatch.setattr("shared.runtime.lifecycle.run", lambda *_: 0)
    with pytest.raises(SettingsFault, match=f"POSTLANE_INGRESS_{name} .1999. is less than the largest message"):
        app.main({**environ, f"POSTLANE_INGRESS_{name}": "1999"})
    assert app.main({**environ, f"POSTLANE_INGRESS_{name}": "2000"}) == 0
