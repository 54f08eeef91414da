"""The management API as the verbs see it: found by environment or profile, its errors turned into exit statuses."""

import os
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from services.command.admin.exits import INVALID, NOT_ALLOWED, OF_STATUS, UNKNOWN, UNREACHABLE, failure
from services.command.profile import profile_file, read_profile
from shared.mail.address import normalise_domain

if TYPE_CHECKING:
    import ssl

    import httpx

DEFAULT_URL = "http://127.0.0.1:8580"
REQUEST_SECONDS = 60.0

InstanceOption = Annotated[
    str, typer.Option("--instance", envvar="POSTLANE_INSTANCE", help="ID or name of the instance; default: the profile")
]


class Client:
    """Calls of the API; a context manager that closes its connection."""

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        """Prepare; without `known` values of a profile those of the profile in use are read."""
        import httpx  # `postlane --help` need not wait for it

        profile = read_profile() if known is None else known
        self.url = os.environ.get("POSTLANE_URL") or profile.get("url") or DEFAULT_URL
        key = os.environ.get("POSTLANE_API_KEY") or profile.get("api_key", "")
        self._profile_instance = profile.get("instance", "")
        if not key:
            raise failure(
                NOT_ALLOWED,
                f"there is no API key: set POSTLANE_API_KEY and POSTLANE_URL, or keep them with `postlane login`; "
                f"`postlane up` writes {profile_file()}",
            )
        if not (key.isascii() and key.isprintable()):
            raise failure(NOT_ALLOWED, "the API key has characters that no key has: copy it again as it was shown")
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=REQUEST_SECONDS,
            trust_env=False,
            verify=_trust(os.environ.get("POSTLANE_CA_FILE") or profile.get("ca_file", "")),
        )

    def __enter__(self) -> "Client":
        """Return the client."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _fault: BaseException | None, _at: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """GET, leaving out empty parameters."""
        return self.call("GET", path, params={name: value for name, value in query.items() if value not in (None, "")})

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Call the API and return its JSON, None if there is none; a refusal ends the command with its reason."""
        answer = self.answer(method, path, **options)
        if answer.is_error:
            raise self._refusal(answer)
        return answer.json() if answer.content else None

    def answer(self, method: str, path: str, **options: Any) -> "httpx.Response":
        """Call the API and return the answer, whatever its status."""
        import httpx

        try:
            return self._client.request(method, path, **options)
        except httpx.HTTPError as fault:
            raise failure(
                UNREACHABLE,
                f"the management API at {self.url} does not answer ({fault or type(fault).__name__}): is Postlane "
                "running, and is POSTLANE_URL right?",
            ) from fault

    def refused(self, answer: "httpx.Response") -> NoReturn:
        """End the command with the reason of a refusal."""
        raise self._refusal(answer)

    def lines(self, path: str) -> Iterator[str]:
        """GET a stream and yield its lines as they come."""
        import httpx

        try:
            with self._client.stream("GET", path, timeout=httpx.Timeout(REQUEST_SECONDS, read=None)) as answer:
                if answer.is_error:
                    answer.read()
                    raise self._refusal(answer)
                yield from answer.iter_lines()
        except httpx.HTTPError as fault:
            raise failure(
                UNREACHABLE, f"the stream of events from {self.url} ended ({fault or type(fault).__name__}); try again"
            ) from fault

    def _refusal(self, answer: "httpx.Response") -> typer.Exit:
        try:
            errors = answer.json()["errors"]
            reasons = [str(error["message"]) for error in errors]
            trace = f" (trace {answer.json()['trace']})" if answer.status_code >= 500 else ""
        except (ValueError, LookupError, TypeError):
            reasons, trace = [f"HTTP {answer.status_code}: {answer.text[:200]}"], ""
        text = reasons[0] if len(reasons) == 1 else "several things are wrong:" + "".join(f"\n  - {r}" for r in reasons)
        return failure(OF_STATUS.get(answer.status_code, UNREACHABLE), f"{text}{trace}")

    def instance(self, named: str = "") -> str:
        """Return the ID of the instance a verb is about: named, of the profile, of the key, or the only one."""
        wanted = named or self._profile_instance
        known = self.get("/v1/postlane/instances")["instances"]
        if wanted:
            if found := instance_among(known, wanted):
                return found
            raise failure(UNKNOWN, f"there is no instance {wanted!r} for this key; see `postlane instance ls`")
        if len(known) == 1:
            return str(known[0]["id"])
        if not known:
            raise failure(UNKNOWN, "there is no instance yet; `postlane instance add NAME` makes one")
        names = ", ".join(each["name"] for each in known[:5])
        raise failure(UNKNOWN, f"there are {len(known)} instances ({names} …): name one with --instance")

    def has_instance(self) -> bool:
        """Whether the profile or the key says which instance the verbs are about."""
        return bool(self._profile_instance or self.get("/v1/postlane/self").get("instance"))

    def configuration(self, instance: str, named: str) -> dict[str, Any]:
        """Return the overview of a configuration by its domain or ID, or by a name that is neither of another."""
        found: list[dict[str, Any]] = self.get(f"/v1/postlane/instances/{instance}/configurations")["configurations"]
        if each := configuration_among(found, named):
            return each
        for each in found:
            if each["name"] == named:
                return each
        raise failure(UNKNOWN, f"there is no domain {named!r} in this instance; see `postlane domain ls`")


def instance_among(known: Iterable[Mapping[str, Any]], wanted: str) -> str:
    """Return the ID of the instance of an ID or a name, "" if there is none; of a name several have the verb ends."""
    found = [str(each["id"]) for each in known if wanted in (each["id"], each["name"])]
    if len(found) > 1 and wanted not in found:
        raise failure(INVALID, f"{len(found)} instances are named {wanted!r}; name one by its ID: {', '.join(found)}")
    return wanted if wanted in found else "".join(found)


def configuration_among(known: Iterable[dict[str, Any]], wanted: str) -> dict[str, Any] | None:
    """Return the configuration of a domain or an ID, None if there is none.

    A domain may be written as it is kept or in letters of its own script.
    """
    plain = wanted.lower().rstrip(".")
    domain = normalise_domain(plain)
    return next((each for each in known if each["domain"] == domain or each["id"] == plain), None)


def _trust(ca_file: str) -> "ssl.SSLContext | bool":
    if not ca_file:
        return True
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as fault:
        raise failure(INVALID, f"the CA file {ca_file} cannot be used: {fault}; set POSTLANE_CA_FILE") from fault


def path_of(instance: str, configuration: str) -> str:
    """Return the path of a configuration in Postlane's own part of the API."""
    return f"/v1/postlane/instances/{instance}/configurations/{configuration}"


def ibm_path_of(instance: str, configuration: str = "") -> str:
    """Return the path of a configuration in IBM's part of the API."""
    return f"/v1/instances/{instance}/smtp/config" + (f"/{configuration}" if configuration else "")
