"""DNS records as a person, a name server, a program or Terraform wants them. Pure text; `domain` prints it."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from services.command.admin.output import Form, rows, say, table

TXT_STRING_LENGTH = 255
TTL_SECONDS = 3600


class RecordsForm(StrEnum):
    """How to print DNS records."""

    table = "table"
    zone = "zone"
    json = "json"
    terraform = "terraform"


class Provider(StrEnum):
    """Whose resources Terraform is to make."""

    aws = "aws"
    cloudflare = "cloudflare"


def print_advice(advice: dict[str, Any], form: RecordsForm, provider: Provider = Provider.aws) -> None:
    """Print the records of an answer of the API, and what is to be minded."""
    listed: list[dict[str, Any]] = advice["records"]
    match form:
        case RecordsForm.json:
            rows(listed, [], Form.json)
        case RecordsForm.zone:
            say("\n".join(zone_lines(listed)))
        case RecordsForm.terraform:
            say("\n".join(terraform_lines(listed, provider)))
        case RecordsForm.table:
            _print_table(listed)
    for note in advice.get("notes", ()):
        say(f"\nnote: {note}" if form is RecordsForm.table else f"postlane: {note}", _aside(form))


def print_changes(advice: dict[str, Any]) -> None:
    """Print what changed over time, and what each name server of the zone says."""
    for change in advice.get("changes", ()):
        say(f"\nchanged: {change}")
    seen = advice.get("authorities", ())
    if seen:
        say("")
        cells = [[each["resolver"], each["name"], each["verdict"], "; ".join(each["values"]) or "-"] for each in seen]
        table(["name server", "name", "verdict", "serves"], cells)


def _print_table(listed: list[dict[str, Any]]) -> None:
    cells = [[each["kind"].upper(), _state(each), each["name"], each["detail"]] for each in listed]
    table(["record", "state", "name", "detail"], cells)
    for record in listed:
        if not record["value"]:
            continue
        say(f"\n{record['kind'].upper()}  {record['type']}  {record['name']}\n  {record['value']}")
        if record["state"] == "wrong":
            for seen in record["observed"]:
                say(f"  published now: {seen}")


def _state(record: dict[str, Any]) -> str:
    optional = "" if record.get("required", True) or record["state"] in ("fine", "advised") else ", optional"
    return f"{record['state']}{optional}"


def zone_lines(listed: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a zone file (RFC 1035 §5.1), a comment before each record."""
    for record in listed:
        yield f"; {record['kind']}: {record['state']}, {record['detail']}"
        if record["value"]:
            value = quoted(record["value"]) if record["type"] == "TXT" else record["value"]
            yield f"{record['name']}. {TTL_SECONDS} IN {record['type']} {value}"


def quoted(value: str) -> str:
    """Return a TXT value as strings of at most 255 octets in quotes (RFC 1035 §3.3)."""
    pieces = [value[at : at + TXT_STRING_LENGTH] for at in range(0, len(value), TXT_STRING_LENGTH)]
    return " ".join('"' + piece.replace("\\", "\\\\").replace('"', '\\"') + '"' for piece in pieces)


def terraform_lines(listed: list[dict[str, Any]], provider: Provider) -> Iterator[str]:
    """Yield a Terraform file that declares the records; the zone's ID is a variable."""
    yield 'variable "zone_id" {\n  type = string\n}'
    for record in listed:
        yield f"\n# {record['kind']}: {record['state']}, {record['detail']}"
        if not record["value"]:
            continue
        if provider is Provider.aws and record["kind"] == "spf":
            yield f"# Route 53 keeps all TXT values of a name in one set: list the others of {record['name']} here too."
        label = f"postlane_{record['kind']}_{record['name']}".replace("-", "_").replace(".", "_")
        yield from _route_53(record, label) if provider is Provider.aws else _cloudflare(record, label)


def _route_53(record: dict[str, Any], label: str) -> Iterator[str]:
    # One string of a set holds at most 255 octets; a longer value is written with `""` between its parts.
    value = quoted(record["value"])[1:-1].replace('" "', '""') if record["type"] == "TXT" else record["value"]
    yield f'resource "aws_route53_record" "{label}" {{'
    yield "  zone_id = var.zone_id"
    yield f"  name    = {_hcl(record['name'])}"
    yield f'  type    = "{record["type"]}"'
    yield f"  ttl     = {TTL_SECONDS}"
    yield f"  records = [{_hcl(value)}]"
    yield "}"


def _cloudflare(record: dict[str, Any], label: str) -> Iterator[str]:
    value = quoted(record["value"]) if record["type"] == "TXT" else record["value"].removesuffix(".")
    yield f'resource "cloudflare_dns_record" "{label}" {{'
    yield "  zone_id = var.zone_id"
    yield f"  name    = {_hcl(record['name'])}"
    yield f'  type    = "{record["type"]}"'
    yield f"  ttl     = {TTL_SECONDS}"
    yield f"  content = {_hcl(value)}"
    yield "}"


def _hcl(text: str) -> str:
    r"""Return a string of Terraform's language: `${` and `%{`, which SPF macros have, begin a template there."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "$${").replace("%{", "%%{")
    return f'"{escaped}"'


def _aside(form: RecordsForm) -> Form:
    return Form.table if form is RecordsForm.table else Form.json
