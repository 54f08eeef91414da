"""The management API declares its parameters as the framework wants them; pyproject.toml makes old ways an error."""

import warnings
from pathlib import Path

import pytest
from litestar import Litestar, get
from litestar.exceptions import LitestarDeprecationWarning

from services.control.api.application import make_application
from services.control.api.desk import Desk
from services.control.console.application import make_console
from services.control.settings import ControlSettings


def test_the_application_does_nothing_the_framework_deprecates() -> None:
    """Not in its handlers, and not in how they are put together."""
    desk = object.__new__(Desk)  # nothing is served from it
    desk.settings = ControlSettings(master_key_file=Path("none"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        make_console(make_application(desk), desk.settings)


def test_a_parameter_in_the_old_way_fails_a_test() -> None:
    """The control: one of unknown origin is an error here, by the filter in pyproject.toml alone."""

    @get("/old/{name:str}")
    async def old(name: str) -> None: ...

    with pytest.raises(LitestarDeprecationWarning, match="path parameter 'name'"):
        Litestar([old])
