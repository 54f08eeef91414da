"""Parameters that many handlers take: where each comes from, and how the OpenAPI document describes it."""

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from services.control.api.desk import Desk

TheDesk = NamedDependency[Desk]
InstanceId = FromPath[str]
ConfigurationId = FromPath[str]
UserId = FromPath[str]
Limit = Annotated[int, QueryParameter(description="entries of a page, 1 to 100")]
Offset = Annotated[int, QueryParameter(description="entries to skip")]
Search = Annotated[str, QueryParameter(description="part of a name, description or domain; blank: all")]
