"""The ASGI application: every route, authentication in front, errors in IBM's shape, OpenAPI."""

from typing import Any

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide

from services.control.api import (
    access,
    allow_lists,
    captured,
    clients,
    configurations,
    confirmations,
    credentials,
    decisions,
    dkim,
    doctor,
    endpoints,
    keys,
    messages,
    metrics,
    onboarding,
    queue,
    quotas,
    records,
    rules,
    suppressions,
    takeovers,
    tenants,
    tokens,
    users,
    zones,
)
from services.control.api.authentication import authenticated
from services.control.api.desk import Desk
from services.control.api.document import make_config
from services.control.api.edge import Edge
from services.control.api.errors import HANDLERS
from services.control.api.methods import Methods

MODULES = (
    configurations,
    users,
    credentials,
    metrics,
    zones,
    rules,
    access,
    allow_lists,
    tenants,
    onboarding,
    decisions,
    quotas,
    records,
    dkim,
    takeovers,
    confirmations,
    messages,
    captured,
    queue,
    suppressions,
    keys,
    endpoints,
    clients,
    doctor,
)


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
        openapi_config=make_config(),
        logging_config=None,
        debug=False,
    )
    return Edge(application, desk.settings.request_bytes, Methods(application.routes))
