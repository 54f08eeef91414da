"""The OpenAPI document: every operation, and one shape for all errors."""

from typing import Any

from litestar import MediaType, Request, Response, Router
from litestar.exceptions import NotFoundException
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from services.control.api import examples

VERSION = "1.0.0"
TEXT = {"type": "string"}
ERROR_SCHEMA: dict[str, Any] = {
    "title": "Error",
    "type": "object",
    "required": ["trace", "errors", "status_code"],
    "properties": {
        "trace": {"type": "string", "format": "uuid"},
        "status_code": {"type": "integer"},
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": TEXT,
                    "message": TEXT,
                    "target": {
                        "type": "object",
                        "required": ["type", "name"],
                        "properties": {"type": {"enum": ["field", "parameter", "header"]}, "name": TEXT},
                    },
                },
            },
        },
    },
    "examples": [
        {
            "trace": "3a1c7778-0c97-44e3-a46d-1ab29f7c6740",
            "errors": [{"code": "zone_not_found", "message": "there is no zone 'x' here"}],
            "status_code": 404,
        }
    ],
}
ERROR_RESPONSE: dict[str, Any] = {
    "description": "Any error; `errors` has at least one entry, and says what to do.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
EVENT: dict[str, Any] = {
    "description": "Each event of the stream; `data` is a record in JSON, as docs/events.md has them.",
    "type": "object",
    "properties": {
        "event": {"enum": ["accepted", "status", "watching", "client", "refused"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": TEXT,
    },
}
EVENT_EXAMPLE = {"event": "status", "id": "17", "data": '{"type": "message.attempted.v1", "status": "delivered"}'}
EVENT_STREAM: dict[str, Any] = {
    "description": "Events",
    "content": {"text/event-stream": {"schema": EVENT, "example": EVENT_EXAMPLE}},
}


class _Document(JsonRenderPlugin):
    """Serves the document with our errors in place of the framework's."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the document as JSON."""
        schemas = openapi_schema.setdefault("components", {}).setdefault("schemas", {})
        if "Error" not in schemas:
            schemas["Error"] = ERROR_SCHEMA
            for path, methods in openapi_schema["paths"].items():
                for operation in methods.values():
                    if isinstance(operation, dict) and "responses" in operation:
                        _complete(path, operation)
            examples.complete(openapi_schema)
        return super().render(request, openapi_schema)


def _complete(path: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    answers.pop("400", None)
    answers["default"] = ERROR_RESPONSE
    if path.endswith("/events"):
        answers["200"] = EVENT_STREAM
    if path == "/identity/token":
        operation["security"] = []
        answers["default"] = {"description": "The API key is not good", "content": {"application/json": {}}}


def _in_our_shape(response: Response[Any]) -> Response[Any]:
    """Refuse as everywhere what the framework would answer with a page of HTML: other paths beside the document's."""
    if response.status_code == 404:
        raise NotFoundException
    return response


def _operation_id(handler: HTTPRouteHandler, _method: Any, _path: Any) -> str:
    return handler.handler_name


def make_config() -> OpenAPIConfig:
    """Return how the document is made and where it is served."""
    return OpenAPIConfig(
        title="Postlane management API",
        version=VERSION,
        description="Operations of IBM Cloud Event Notifications' SMTP interface and of context-based restrictions, "
        "and what these do not have below /v1/postlane.",
        openapi_router=Router(
            "/v1/postlane",
            route_handlers=[],
            include_in_schema=False,
            dto=None,
            return_dto=None,
            after_request=_in_our_shape,
        ),
        render_plugins=[_Document(path="/openapi.json", media_type=MediaType.JSON)],
        components=Components(security_schemes={"apiKey": SecurityScheme(type="http", scheme="bearer")}),
        security=[{"apiKey": []}],
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
    )
