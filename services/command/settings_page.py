"""The page of all settings, made from the Structs that declare them."""

import importlib
from pathlib import Path
from typing import Any

import msgspec

from shared.bus.settings import BusSettings, Topology
from shared.runtime.health import HealthSettings
from shared.runtime.secret import Secret
from shared.runtime.settings import Settings

ROOMS = ("ingress", "verifier", "delivery", "tracker", "control", "sandbox")
SHARED: dict[str, type[Settings]] = {"bus": BusSettings, "topology": Topology, "health": HealthSettings}


def declared() -> dict[str, type[Settings]]:
    """Return every settings Struct by the name in its variables."""
    found = dict(SHARED)
    for room in ROOMS:
        # By name, as text: this page shows the rooms' declarations without being a part of any of them.
        module = importlib.import_module(f"services.{room}.settings")
        found[room] = next(
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Settings) and value.__module__ == module.__name__
        )
    return found


def page(only: str = "") -> str:
    """Return the settings as Markdown, of one room or of all."""
    chapters = [_chapter(name, struct) for name, struct in declared().items() if only in ("", name)]
    return "\n".join(chapters).rstrip() + "\n"


def _chapter(name: str, struct: type[Settings]) -> str:
    lines = [f"## {name}", "", "| variable | default | meaning |", "|---|---|---|"]
    for field in msgspec.structs.fields(struct):
        description = _description(field.type)
        lines.append(f"| `POSTLANE_{name.upper()}_{field.name.upper()}` | {_default(field)} | {description} |")
    return "\n".join([*lines, ""])


def _description(annotation: Any) -> str:
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, msgspec.Meta) and extra.description:
            return extra.description
    return ""


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, Secret):
        return "none"
    if value is None or value in ("", ()):
        return "none"
    if isinstance(value, tuple):
        return f"`{','.join(_text(item) for item in value)}`"
    return f"`{_text(value)}`"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if not isinstance(value, Path) else value.as_posix()
