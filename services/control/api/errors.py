"""Every error of the API as a body of IBM's shape: `trace`, at least one entry in `errors`, `status_code`."""

import logging
import uuid
from typing import Any

import msgspec
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from msgspec import UNSET, UnsetType

from services.control.core.fault import Fault
from services.control.refusal import Refused
from shared.contract import errors as codes
from shared.contract.errors import BusUnavailable, RequestFailed, StoreFull, WrongSequence

log = logging.getLogger("control")

Http = Request[Any, Any, Any]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What an error is about."""

    type: str
    name: str


class ErrorEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One error."""

    code: str
    message: str
    target: Target | UnsetType = UNSET


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every 4xx and 5xx."""

    trace: str
    errors: tuple[ErrorEntry, ...]
    status_code: int


STATUS_OF_CODE = {
    codes.BAD_REQUEST: 400,
    codes.NOT_READY: 503,
    codes.CONFIGURATION_UNKNOWN: 404,
    codes.MESSAGE_UNKNOWN: 404,
    codes.REFERENCE_UNKNOWN: 404,
    codes.QUEUED_MESSAGE_UNKNOWN: 404,
    codes.ACTION_NOT_POSSIBLE: 409,
}
CODE_NAMES = {
    codes.BAD_REQUEST: "bad_request",
    codes.NOT_READY: "service_unavailable",
    codes.CONFIGURATION_UNKNOWN: "configuration_not_found",
    codes.MESSAGE_UNKNOWN: "message_not_found",
    codes.REFERENCE_UNKNOWN: "refusal_not_found",
    codes.QUEUED_MESSAGE_UNKNOWN: "queued_message_not_found",
    codes.ACTION_NOT_POSSIBLE: "action_not_possible",
}
PHRASES = {
    401: Fault("not_authenticated", "give a valid API key or token: Authorization: Bearer <key>"),
    404: Fault("not_found", "there is nothing at this path; see /v1/postlane/openapi.json"),
    405: Fault("method_not_allowed", "this path does not know that method; see /v1/postlane/openapi.json"),
}


def body(trace: str, status: int, faults: tuple[Fault, ...]) -> ErrorBody:
    """Return an error body; there is always at least one entry."""
    listed = faults or (Fault("error", "the request failed"),)
    return ErrorBody(
        trace=trace,
        errors=tuple(
            ErrorEntry(
                code=fault.code,
                message=fault.message,
                target=Target(type="header" if fault.field == "If-Match" else "field", name=fault.field)
                if fault.field
                else UNSET,
            )
            for fault in listed
        ),
        status_code=status,
    )


def too_large(limit: int) -> Fault:
    """Say that a body is too large."""
    return Fault("request_too_large", f"the body must have at most {limit} octets")


def trace_of(request: Http) -> str:
    """Return the request's trace, made when it came in."""
    return str(request.scope.get("state", {}).get("trace") or uuid.uuid4())


def answer(request: Http, status: int, *faults: Fault) -> Response[ErrorBody]:
    """Return an error response."""
    headers = {"WWW-Authenticate": 'Bearer realm="postlane"'} if status == 401 else {}
    return Response(body(trace_of(request), status, faults), status_code=status, media_type=MediaType.JSON,
                    headers=headers)  # fmt: skip


def on_refused(request: Http, fault: Refused) -> Response[ErrorBody]:
    """Answer what a handler refused."""
    answered = answer(request, fault.status, *fault.faults)
    if fault.retry_after is not None:
        answered.headers["Retry-After"] = str(fault.retry_after)  # RFC 6585 §4
    return answered


def on_http(request: Http, fault: HTTPException) -> Response[ErrorBody]:
    """Answer what the framework refused: unknown paths, methods, bodies that do not fit."""
    if isinstance(fault, ValidationException):
        return answer(request, 400, *_validation(fault))
    if fault.status_code == 413:  # a body that did not say how long it is
        return answer(request, 413, too_large(request.app.state.desk.settings.request_bytes))
    known = PHRASES.get(fault.status_code)
    return answer(request, fault.status_code, known or Fault("invalid_request", fault.detail))


def _validation(fault: ValidationException) -> tuple[Fault, ...]:
    found = []
    for item in fault.extra if isinstance(fault.extra, list) else []:
        if isinstance(item, dict):
            field = str(item.get("key", ""))
            text = str(item.get("message", "it is not valid"))
            if field == "data":  # the body as a whole; without any the framework says just this word
                text, field = ("the body must be a JSON object" if text == "'data'" else f"the body: {text}"), ""
            if "RFC3339" in text:  # of the decoder: true, but nobody knows how to write it
                text = "write a time such as 2026-11-01T00:00:00Z"
            found.append(Fault("invalid_field", f"{field}: {text}" if field else text, field))
    return tuple(found) or (Fault("invalid_request", fault.detail),)


def on_request_failed(request: Http, fault: RequestFailed) -> Response[ErrorBody]:
    """Answer what another room refused."""
    status = STATUS_OF_CODE.get(fault.code, 502)
    return answer(request, status, Fault(CODE_NAMES.get(fault.code, "internal_error"), fault.message))


def on_bus_unavailable(request: Http, fault: BusUnavailable) -> Response[ErrorBody]:
    """Answer that the bus is away; whether a change was made is unknown, so the client looks, then repeats."""
    log.warning("a request failed: %s", fault, extra={"path": request.url.path})
    return answer(
        request, 503, Fault("service_unavailable", "the bus does not answer; look at the object, then try again")
    )


def on_store_full(request: Http, fault: StoreFull) -> Response[ErrorBody]:
    """Answer that the bus has no room for a change."""
    log.error("a request failed: %s", fault, extra={"path": request.url.path})
    return answer(
        request, 503, Fault("store_full", "the store is full, so this was not done; ask the operator, then try again")
    )


def on_contention(request: Http, _fault: WrongSequence) -> Response[ErrorBody]:
    """Answer that somebody else wrote at the same moment."""
    return answer(request, 409, Fault("changed_meanwhile", "somebody else changed the object: read it, then try again"))


def on_unreadable(request: Http, _fault: UnicodeDecodeError | RecursionError) -> Response[ErrorBody]:
    """Answer a body that the JSON decoder chokes on: not UTF-8, or nested without end."""
    return answer(request, 400, Fault("invalid_request", "the body is not JSON in UTF-8, or is nested too deeply"))


def on_fault(request: Http, fault: Exception) -> Response[ErrorBody]:
    """Answer our own faults without their text; the log has it under the trace."""
    log.error(
        "a request failed by our fault", exc_info=fault, extra={"path": request.url.path, "trace": trace_of(request)}
    )
    return answer(request, 500, Fault("internal_error", "something went wrong on our side; the log has it under trace"))


HANDLERS: dict[Any, Any] = {
    Refused: on_refused,
    HTTPException: on_http,
    RequestFailed: on_request_failed,
    BusUnavailable: on_bus_unavailable,
    StoreFull: on_store_full,
    WrongSequence: on_contention,
    UnicodeDecodeError: on_unreadable,
    RecursionError: on_unreadable,
    Exception: on_fault,
}
