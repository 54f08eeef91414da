"""`POST /identity/token`: an API key for a short-lived token, as clients with IBM's IAM authenticator expect it."""

from typing import Any

import msgspec
from litestar import MediaType, Request, Response, post
from litestar.params import URLEncodedBody

from services.control.api.authentication import address_of
from services.control.api.parameters import TheDesk
from shared.runtime.clock import now_ms

GRANT = "urn:ibm:params:oauth:grant-type:apikey"


class TokenReply(msgspec.Struct, frozen=True, kw_only=True):
    """A token; every key IBM's clients look at."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: int
    expiration: int
    scope: str


class TokenRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """How IAM says no."""

    errorCode: str  # noqa: N815  # IBM's name
    errorMessage: str  # noqa: N815  # IBM's name


@post("/identity/token", status_code=200, opt={"open": True}, tags=["tokens"])
async def make_token(
    request: Request[Any, Any, Any],
    desk: TheDesk,
    data: URLEncodedBody[dict[str, str]],
) -> Response[TokenReply | TokenRefusal]:
    """Exchange an API key for a token; the token ends with its key."""
    if data.get("grant_type") != GRANT:
        return _refusal("BXNIM0109E", f"grant_type must be {GRANT}")
    caller = desk.keys.recognise(data.get("apikey", ""))
    if caller is None:
        desk.strangers.count(address_of(request))
        return _refusal("BXNIM0415E", "Provided API key could not be found.")
    token, ends = desk.tokens.issue(caller.key, now_ms() // 1000)
    return Response(
        TokenReply(
            access_token=token,
            refresh_token="not_supported",  # noqa: S106  # IAM's own word for it
            token_type="Bearer",  # noqa: S106  # a kind of token, no token
            expires_in=desk.tokens.seconds,
            expiration=ends,
            scope="ibm openid",
        ),
        status_code=200,
        media_type=MediaType.JSON,
    )


def _refusal(code: str, message: str) -> Response[TokenReply | TokenRefusal]:
    return Response(TokenRefusal(errorCode=code, errorMessage=message), status_code=400, media_type=MediaType.JSON)
