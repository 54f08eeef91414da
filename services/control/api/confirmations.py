"""Where the mailed link leads, and how another one is sent."""

from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.params import FromPath

from services.control.api.authentication import address_of, caller_of
from services.control.api.configurations import Http
from services.control.api.parameters import ConfigurationId, InstanceId, TheDesk
from services.control.caller import configuration_of
from services.control.core import confirmation

OPEN = {"open": True}
LINK = "/confirm/{link:str}"
HEADERS = {"Content-Security-Policy": "default-src 'none'; form-action 'self'", "Referrer-Policy": "no-referrer"}
"""The address of the page is the secret: it is told to nobody."""


class ConfirmationSent(msgspec.Struct, frozen=True, kw_only=True):
    """Where the link went."""

    address: str


def _page(status: int, text: str) -> Response[str]:
    return Response(text, status_code=status, media_type=MediaType.HTML, headers=HEADERS)


@get(LINK, opt=OPEN, include_in_schema=False)
async def ask_confirmation(request: Request[Any, Any, Any], desk: TheDesk, link: FromPath[str]) -> Response[str]:
    """Ask whether the address is to be confirmed; looking confirms nothing."""
    found = desk.confirmations.read(link)
    if found is None:
        desk.strangers.count(address_of(request))
        return _page(404, confirmation.refused())
    configuration, address = found
    return _page(200, confirmation.question(configuration.domain, address))


@post(LINK, opt=OPEN, include_in_schema=False)
async def confirm_address(request: Request[Any, Any, Any], desk: TheDesk, link: FromPath[str]) -> Response[str]:
    """Confirm the address for bounce reports."""
    found = await desk.confirmations.confirm(link)
    if found is None:
        desk.strangers.count(address_of(request))
        return _page(404, confirmation.refused())
    configuration, address = found
    return _page(200, confirmation.done(configuration.domain, address))


@post(
    "/v1/postlane/instances/{instance_id:str}/configurations/{configuration_id:str}/reply-to/confirmation",
    status_code=202,
    tags=["onboarding"],
)
async def send_confirmation(
    request: Http, desk: TheDesk, instance_id: InstanceId, configuration_id: ConfigurationId
) -> ConfirmationSent:
    """Mail the link that confirms the address for bounce reports once more."""
    caller = caller_of(request)
    found = configuration_of(desk.directory, caller, instance_id, configuration_id, write=True)
    return ConfirmationSent(address=await desk.mail_confirmation_again(found))


HANDLERS = [ask_confirmation, confirm_address, send_confirmation]
