"""The ASGI application: every route, authentication in front, errors in IBM's shape, OpenAPI."""

from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from services.control.api import (
    configurations,
    endpoints,
    keys,
    messages,
    metrics,
    queue,
    rules,
    tenants,
    tokens,
    users,
    zones,
)
from services.control.api.authentication import authenticated
from services.control.api.desk import Desk
from services.control.api.edge import Edge
from services.control.api.errors import HANDLERS

MODULES = (configurations, users, metrics, zones, rules, tenants, messages, queue, keys, endpoints)
VERSION = "1.0.0"


def make_application(desk: Desk) -> Any:
    """Return the ASGI application that serves `desk`."""

    def provide_desk() -> Desk:
        return desk

    application = Litestar(
        route_handlers=[*(handler for module in MODULES for handler in module.HANDLERS), tokens.make_token],
        dependencies={"desk": Provide(provide_desk, sync_to_thread=False, use_cache=True)},
        guards=[authenticated],
        exception_handlers=HANDLERS,
        state=State({"desk": desk}),
        request_max_body_size=desk.settings.request_bytes,
        openapi_config=OpenAPIConfig(
            title="Postlane management API",
            version=VERSION,
            path="/v1/postlane",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
            components=Components(security_schemes={"apiKey": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"apiKey": []}],
        ),
        logging_config=None,
        debug=False,
    )
    return Edge(application, desk.settings.request_bytes)
