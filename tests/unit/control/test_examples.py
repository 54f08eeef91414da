"""The OpenAPI document has an example everywhere a reader looks for one, and none is a filler."""

from typing import Any

import pytest
from litestar import Litestar
from litestar.di import Provide

from services.control.api import examples, tokens
from services.control.api.application import MODULES
from services.control.api.desk import Desk
from services.control.api.document import make_config


def no_desk() -> Desk:
    """Stand in for the desk: no handler is called here."""
    raise AssertionError("a handler was called")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Return the document as the API makes it, with its examples."""
    handlers = [*(handler for module in MODULES for handler in module.HANDLERS), tokens.make_token]
    application = Litestar(
        route_handlers=handlers,
        dependencies={"desk": Provide(no_desk, sync_to_thread=False)},
        openapi_config=make_config(),
    )
    made: dict[str, Any] = application.openapi_schema.to_schema()
    examples.complete(made)
    return made


def test_every_text_has_a_value_of_its_own(document: dict[str, Any]) -> None:
    """A field of a new name gets a value in the table before it gets into the document."""
    unknown = {
        (name, field)
        for name, schema in document["components"]["schemas"].items()
        for field, inner in schema.get("properties", {}).items()
        if inner.get("type") == "string"
        and not {"enum", "const"} & inner.keys()
        and inner.get("format") != "date-time"
        and field not in examples.VALUES
        and (name, field) not in examples.OF_SCHEMA
    }
    assert unknown == set(), "add a value to services/control/api/examples.py"


def test_every_body_and_path_has_an_example(document: dict[str, Any]) -> None:
    """Each request body, each answer with a schema, each parameter of a path."""
    lacking = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            contents = [content for body in bodies for content in body.get("content", {}).values()]
            if any(content.get("schema") and content.get("example") in (None, {}) for content in contents):
                lacking.append((method, path, "body"))
            lacking += [
                (method, path, parameter["name"])
                for parameter in operation.get("parameters", ())
                if parameter["in"] == "path" and "example" not in parameter
            ]
    assert lacking == []


def test_an_example_has_what_its_schema_requires(document: dict[str, Any]) -> None:
    """Required fields are there, values of lists of words are among them."""
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        made = examples.example({"$ref": f"#/components/schemas/{name}"}, schemas)
        if "properties" not in schema:
            continue
        assert set(schema.get("required", ())) <= set(made), name
        for field, value in made.items():
            allowed = schema["properties"][field].get("enum")
            assert not allowed or value in allowed, (name, field)
