"""Settings: declared once as typed Structs, read from the environment or a TOML file.

A field `dns_timeout_seconds` of the room `verifier` is `POSTLANE_VERIFIER_DNS_TIMEOUT_SECONDS`, or
`dns_timeout_seconds` in the table `[verifier]` of the file. `…_FILE` reads the value from a file, for secrets.
The environment wins over the file. Unknown names are refused; all faults are reported at once.
"""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from shared.contract.errors import SettingsFault
from shared.runtime.secret import Secret


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of each room's settings. Units stand in the names; descriptions in `msgspec.Meta`."""


S = TypeVar("S", bound=Settings)


def load(struct: type[S], room: str, environ: Mapping[str, str], file: Path | None = None) -> S:
    """Read the settings of a room (or of `bus`, `health`) from environment and file.

    Errors: `SettingsFault` lists every fault with the name to correct.
    """
    faults: list[str] = []
    known = {field.name: field for field in msgspec.structs.fields(struct)}
    values: dict[str, Any] = _file_values(room, file, faults)
    for name in values.keys() - known.keys():
        faults.append(f"{file}: [{room}] {name} is not a setting")
    values = {name: value for name, value in values.items() if name in known}
    prefix = f"POSTLANE_{room.upper()}_"
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        name = variable.removeprefix(prefix).lower()
        if name in known:
            values[name] = _from_text(text, known[name].type)
        elif name.endswith("_file") and name.removesuffix("_file") in known:
            name = name.removesuffix("_file")
            try:
                values[name] = _from_text(Path(text).read_text().strip(), known[name].type)
            except OSError as fault:
                faults.append(f"{variable}: cannot read {text}: {fault.strerror}")
            except UnicodeDecodeError:
                faults.append(f"{variable}: {text} is not text in UTF-8")
        else:
            faults.append(f"{variable} is not a setting of {room}; `postlane settings` lists them")
    converted: dict[str, Any] = {}
    for name, field in known.items():
        if name not in values:
            if field.required and not any(name in fault for fault in faults):
                faults.append(f"{prefix}{name.upper()} is missing")
            continue
        try:
            converted[name] = msgspec.convert(values[name], field.type, strict=False, dec_hook=_decode)
        except msgspec.ValidationError as fault:
            faults.append(f"{prefix}{name.upper()}: {fault}")
            continue
        if isinstance(converted[name], float) and not math.isfinite(converted[name]):  # no timer takes it
            faults.append(f"{prefix}{name.upper()}: {values[name]} is not a finite number")
    if faults:
        raise SettingsFault("the settings cannot be used:\n  " + "\n  ".join(sorted(faults)))
    try:
        return struct(**converted)
    except ValueError as fault:  # a Struct's own check across fields
        raise SettingsFault(f"the settings of {room} cannot be used: {fault}") from fault


def _file_values(room: str, file: Path | None, faults: list[str]) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        table = tomllib.loads(file.read_text()).get(room, {})
    except OSError as fault:
        faults.append(f"cannot read {file}: {fault.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        faults.append(f"{file} is not TOML: {fault}")
        return {}
    return dict(table) if isinstance(table, dict) else {}


def _from_text(text: str, annotation: Any) -> Any:
    """Turn text into what `msgspec.convert` reads: tuples are comma separated, "" is None where allowed."""
    if get_origin(annotation) is not None and hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if text == "" and type(None) in get_args(annotation):
        return None
    return text


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret:
        return Secret(str(value))
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(f"settings cannot hold {kind!r}")
