"""Pages of `docs/` made from declarations, so that they cannot drift: settings, events, RFC index, decisions."""

import importlib
import itertools
import re
from pathlib import Path

import msgspec

from services.command.settings_page import page
from shared.bus.permissions import permissions_of
from shared.bus.settings import Topology
from shared.contract.catalog import ASKS_ROLL_CALL, BUCKETS, CHANNELS, ROOMS, SERVICES, STREAMS
from shared.contract.events import Event
from shared.contract.examination import ROLL_CALL

SOURCES = ("services", "shared")
_CASE = re.compile(r"^(?:[A-Z]\d\d(?:, )?)+: ")
"""Numbers of the cases a dialogue is about, at its head."""
_CITATION = re.compile(r"RFC (\d{3,5})(?: (§[0-9A-Z.]+|Appendix [A-Z]))?")
RFC_TITLES = {
    "1034": "Domain Names: Concepts and Facilities",
    "1035": "Domain Names: Implementation and Specification",
    "1112": "Host Extensions for IP Multicasting",
    "1741": "MIME Content Type for BinHex Encoded Files",
    "1870": "SMTP Service Extension for Message Size Declaration",
    "2034": "SMTP Service Extension for Returning Enhanced Error Codes",
    "2045": "MIME: Format of Message Bodies",
    "2046": "MIME: Media Types",
    "2047": "MIME: Header Extensions for Non-ASCII Text",
    "2183": "The Content-Disposition Header Field",
    "2231": "MIME Parameter Value Extensions",
    "2308": "Negative Caching of DNS Queries",
    "2369": "The Use of URLs as Meta-Syntax for Core Mail List Commands",
    "2606": "Reserved Top Level DNS Names",
    "2920": "SMTP Service Extension for Command Pipelining",
    "3030": "SMTP Service Extensions for Transmission of Large and Binary MIME Messages",
    "3207": "SMTP over TLS",
    "3339": "Date and Time on the Internet: Timestamps",
    "3461": "SMTP Service Extension for Delivery Status Notifications",
    "3462": "The Multipart/Report Content Type",
    "3463": "Enhanced Mail System Status Codes",
    "3464": "An Extensible Message Format for Delivery Status Notifications",
    "3834": "Recommendations for Automatic Responses to Electronic Mail",
    "3848": "ESMTP and LMTP Transmission Types Registration",
    "4291": "IP Version 6 Addressing Architecture",
    "4422": "Simple Authentication and Security Layer (SASL)",
    "4592": "The Role of Wildcards in the Domain Name System",
    "4616": "The PLAIN SASL Mechanism",
    "4954": "SMTP Service Extension for Authentication",
    "5248": "A Registry for SMTP Enhanced Mail System Status Codes",
    "5198": "Unicode Format for Network Interchange",
    "5321": "Simple Mail Transfer Protocol",
    "5322": "Internet Message Format",
    "5598": "Internet Mail Architecture",
    "6052": "IPv6 Addressing of IPv4/IPv6 Translators",
    "6152": "SMTP Service Extension for 8-bit MIME Transport",
    "6376": "DomainKeys Identified Mail (DKIM) Signatures",
    "6409": "Message Submission for Mail",
    "6522": "The Multipart/Report Media Type",
    "6531": "SMTP Extension for Internationalized Email",
    "6532": "Internationalized Email Headers",
    "6533": "Internationalized Delivery Status and Disposition Notifications",
    "6585": "Additional HTTP Status Codes",
    "6604": "xNAME RCODE and Status Bits Clarification",
    "6761": "Special-Use Domain Names",
    "6890": "Special-Purpose IP Address Registries",
    "6891": "Extension Mechanisms for DNS (EDNS(0))",
    "7208": "Sender Policy Framework (SPF)",
    "7435": "Opportunistic Security: Some Protection Most of the Time",
    "7489": "Domain-based Message Authentication, Reporting, and Conformance (DMARC)",
    "7505": "A Null MX No Service Resource Record",
    "7518": "JSON Web Algorithms (JWA)",
    "7519": "JSON Web Token (JWT)",
    "7766": "DNS Transport over TCP: Implementation Requirements",
    "8058": "Signaling One-Click Functionality for List Email Headers",
    "8215": "Local-Use IPv4/IPv6 Translation Prefix",
    "8301": "Cryptographic Algorithm and Key Usage Update to DKIM",
    "8314": "Use of TLS for Email Submission and Access",
    "8461": "SMTP MTA Strict Transport Security (MTA-STS)",
    "8463": "A New Cryptographic Signature Method for DKIM",
    "8601": "Message Header Field for Indicating Message Authentication Status",
    "8914": "Extended DNS Errors",
    "8996": "Deprecating TLS 1.0 and TLS 1.1",
    "9110": "HTTP Semantics",
    "9422": "The LIMITS SMTP Service Extension",
}


def write(directory: Path, check: bool = False) -> list[str]:
    """Write the pages (or, with `check`, only compare); return the names of those that differed."""
    root = directory.parent
    pages = {
        "settings.md": settings_page(),
        "events.md": events_page(root / "tests" / "wire" / "samples"),
        "rfc.md": rfc_page(root),
        "standing.md": standing_page(),
        "decisions/README.md": decisions_page(directory / "decisions"),
        "dialogues.md": dialogues_page(root / "tests" / "dialogues"),
    }
    stale = []
    for name, text in pages.items():
        file = directory / name
        if not file.exists() or file.read_text() != text:
            stale.append(name)
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
    return stale


def settings_page() -> str:
    """Return docs/settings.md."""
    return (
        "# Settings\n\n"
        "Generated by `make docs` from the declarations; do not edit.\n\n"
        "Every setting is an environment variable, or an entry in the table of its room in the TOML file that\n"
        "`POSTLANE_SETTINGS` names. The environment wins. Lists are comma separated. With `_FILE` appended, a\n"
        "variable names a file that holds the value, for secrets. Unknown names are refused; all faults are\n"
        "reported at once.\n\n" + page()
    )


def standing_page() -> str:
    """Return docs/standing.md; by name, as text: this page is no part of the room that draws it."""
    return str(importlib.import_module("services.verifier.core.diagram").page())


def events_page(samples: Path) -> str:
    """Return docs/events.md, with a sample of each event from the golden records."""
    lines = [
        "# Events, streams and buckets",
        "",
        "Generated by `make docs` from `shared/contract`; do not edit.",
        "",
        "## Events",
        "",
        "Subscribe with the `status` credentials of `postlane up`, for example `nats sub 'postlane.status.>'`.",
        "Ignore fields you do not know; expect types you do not know.",
        "",
    ]
    for channel in CHANNELS:
        kept = f"kept in stream `{channel.stored}`" if channel.stored else "a broadcast, not kept"
        lines += [
            f"### `{channel.subject}`",
            "",
            f"{channel.description} Written by {channel.writer}; {kept}; read by {', '.join(channel.readers)}.",
            "",
        ]
        for event in channel.carries:
            lines += _event(event, samples)
    lines += ["## Streams", "", "| stream | subjects | writers | readers | holds |", "|---|---|---|---|---|"]
    for stream in STREAMS:
        writers = "; ".join(f"{', '.join(rooms)}: `{pattern}`" for pattern, rooms in stream.writers.items())
        subjects = ", ".join(f"`{subject}`" for subject in stream.subjects)
        readers = ", ".join((*stream.readers, *(f"{room} (size)" for room in stream.observers)))
        lines.append(f"| `{stream.name}` | {subjects} | {writers} | {readers} | {stream.description} |")
    lines += ["", "## Buckets", "", "| bucket | writer | readers | holds |", "|---|---|---|---|"]
    lines += [f"| `{b.name}` | {b.writer} | {', '.join(b.readers)} | {b.description} |" for b in BUCKETS]
    lines += ["", "## Requests", "", "| subject | answered by | asked by |", "|---|---|---|"]
    lines += [f"| `{subject}` | {server} | {', '.join(askers)} |" for subject, (server, askers) in SERVICES.items()]
    lines.append(f"| `{ROLL_CALL}` | every process of every room | {ASKS_ROLL_CALL} |")
    lines += ["", "## Permissions", "", "Subjects each user may publish to (readers' API calls are left out).", ""]
    for room in ROOMS:
        own = [s for s in permissions_of(room, Topology()).publish if not s.startswith("$JS.")]
        lines.append(f"- **{room}**: " + ", ".join(f"`{subject}`" for subject in own))
    return "\n".join(lines) + "\n"


def _event(event: type[Event], samples: Path) -> list[str]:
    tag = str(event.__struct_config__.tag)
    text = " ".join((event.__doc__ or "").split())
    lines = [f"**`{tag}`**: {text}", ""]
    sample = samples / f"{tag}.json"
    if sample.exists():
        pretty = msgspec.json.format(sample.read_bytes(), indent=2).decode()
        lines += ["```json", pretty, "```", ""]
    return lines


def rfc_page(root: Path) -> str:
    """Return docs/rfc.md: every RFC cited in the code, with the sections and the files that obey them."""
    found: dict[str, dict[str, set[str]]] = {}
    for source in SOURCES:
        for file in sorted((root / source).rglob("*.py")):
            if file.name == "generated_docs.py":
                continue
            for number, section in _CITATION.findall(file.read_text()):
                found.setdefault(number, {}).setdefault(section, set()).add(file.relative_to(root).as_posix())
    lines = [
        "# RFCs and where they are obeyed",
        "",
        "Generated by `make docs` from the citations in the code; do not edit.",
        "",
    ]
    for number in sorted(found, key=int):
        lines += [f"## RFC {number} {RFC_TITLES.get(number, '')}".rstrip(), ""]
        for section in sorted(found[number]):
            files = ", ".join(f"`{name}`" for name in sorted(found[number][section]))
            lines.append(f"- {section or 'as a whole'}: {files}")
        lines.append("")
    return "\n".join(lines)


def dialogues_page(directory: Path) -> str:
    """Return docs/dialogues.md: what each conversation of the tests shows, in its own words."""
    lines = [
        "# Dialogues",
        "",
        "Generated by `make docs` from the first words of `tests/dialogues/*.smtp`; do not edit. Each is a talk",
        "with the real server, tried by `make test`, and says exactly what a client is told.",
        "",
    ]
    for file in sorted(directory.glob("*.smtp")):
        words = itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines())
        said = _CASE.sub("", " ".join(line[2:] for line in words))
        lines.append(f"- [{file.stem.replace('_', ' ')}](../tests/dialogues/{file.name}): {said[:1].upper()}{said[1:]}")
    return "\n".join(lines) + "\n"


def decisions_page(directory: Path) -> str:
    """Return docs/decisions/README.md: the list of decisions."""
    lines = ["# Decisions", "", "Generated by `make docs`. One page each: context, decision, consequences.", ""]
    for file in sorted(directory.glob("[0-9]*.md")):
        title = file.read_text().splitlines()[0].removeprefix("# ").strip()
        lines.append(f"- [{title}]({file.name})")
    return "\n".join(lines) + "\n"
