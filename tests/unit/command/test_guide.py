"""The guide of the stack: what it does when a step of the demo tenant's onboarding fails."""

from pathlib import Path
from typing import Any, cast

import pytest

from services.command import guide
from services.command.customer import ApiRefused
from services.command.workspace import Tenant

SETTINGS = guide.GuideSettings(
    url="http://127.0.0.1:1", smtp="127.0.0.1:587", published_smtp="127.0.0.1:587", mx_address="127.0.0.1",
    clients=("127.0.0.0/8",), sandbox_directory=Path("none"),
)  # fmt: skip
TENANT = Tenant(
    instance_id="i", configuration_id="c", domain="demo.example", username="u", password="p", api_key="k"
)  # fmt: skip


@pytest.mark.parametrize("failures", range(guide.TRIES + 1))
async def test_a_step_that_fails_is_no_end(
    failures: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tenant is begun again, and says why; what always fails ends it with its own sentence."""
    left = [ApiRefused("POST /v1: 409 the domain is taken")] * failures

    async def make(*_: Any) -> Tenant:
        if left:
            raise left.pop()
        return TENANT

    monkeypatch.setattr(guide, "make_tenant", make)
    monkeypatch.setattr(guide, "PAUSE_SECONDS", 0.0)
    if failures < guide.TRIES:
        assert await guide._tenant(cast(Any, None), SETTINGS) == TENANT
    else:
        with pytest.raises(ApiRefused, match="is taken"):
            await guide._tenant(cast(Any, None), SETTINGS)
    assert capsys.readouterr().err.count("begun again") == min(failures, guide.TRIES - 1)
