"""How the installation is, for operators."""

from litestar import Response, get

from services.control.console.pages import ROOT
from services.control.console.visit import TheVisit


@get(f"{ROOT}/health")
async def show_health(visit: TheVisit) -> Response[str]:
    """Examine the installation, which takes as long as its slowest process."""
    return visit.page("health", examination=await visit.calls.get("/v1/postlane/doctor"))


HANDLERS = [show_health]
