"""`postlane apply`: makes what a file asks for, and says before what that is."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from services.command.admin import questionnaire, rule, zone
from services.command.admin.client import Client, configuration_among, ibm_path_of, instance_among, path_of
from services.command.admin.exits import INVALID, NEGATIVE, failure
from services.command.admin.output import Form, Output, fields, say
from services.command.admin.wishes import (
    EXAMPLE,
    Change,
    DomainWish,
    InstanceWish,
    QuotaWish,
    RuleWish,
    UserWish,
    Wishes,
    difference,
    read,
)


def apply(
    file: Annotated[Path | None, typer.Option("--file", "-f", help="TOML file of what should be")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="only say what would be done; status 1 if anything")] = False,
    example: Annotated[bool, typer.Option("--example", help="print a file to begin with")] = False,
    output: Output = Form.table,
) -> None:
    """Make instances, zones, rules, domains, users and quotas as a file says. Nothing is removed; may be repeated."""
    if example:
        typer.echo(EXAMPLE, nl=False)
        return
    if file is None:
        raise failure(INVALID, "name a file with -f; --example prints one")
    wishes = _read(file)
    with Client() as client:
        work = _Work(client, file.parent, plan, output)
        count = 0
        for change in work.all(wishes):
            count += 1
            if output is Form.json:
                fields(msgspec.to_builtins(change), output)
            else:
                typer.echo(str(change))
        if not count:
            say("everything is as the file says", output)
        elif plan:
            say(f"{count} to do: postlane apply -f {file}", output)
        raise typer.Exit(NEGATIVE if plan and count else 0)


def _read(file: Path) -> Wishes:
    try:
        return read(file.read_text())
    except OSError as fault:
        raise failure(INVALID, f"cannot read {file}: {fault.strerror}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.MsgspecError) as fault:
        raise failure(INVALID, f"{file}: {fault}; `postlane apply --example` prints a file") from fault


class _Work:
    """Goes through the file from the outside in; with `plan` it only looks. What is not there yet has no ID."""

    def __init__(self, client: Client, beside: Path, plan: bool, output: Form) -> None:
        self._client = client
        self._beside = beside
        self._plan = plan
        self._output = output

    def all(self, wishes: Wishes) -> Iterator[Change]:
        """Yield each change, after it was made."""
        known = self._client.get("/v1/postlane/instances")["instances"]
        for name, wish in wishes.instances.items():
            identity = instance_among(known, name)
            if not identity:
                identity = self._made("POST", "/v1/postlane/instances", {"name": name}).get("id", "")
                yield Change("+", f"instance {name}")
            yield from self._zones(identity, wish)
            yield from self._rules(identity, wish)
            for domain, asked in wish.domains.items():
                yield from self._domain(identity, domain, asked)

    def _made(self, method: str, path: str, wish: Any, **headers: str) -> dict[str, Any]:
        if self._plan:
            return {}
        answer: dict[str, Any] = self._client.call(method, path, json=wish, headers=headers)
        return answer

    def _zones(self, instance: str, wish: InstanceWish) -> Iterator[Change]:
        known = {each["name"]: each["id"] for each in zone.zones(self._client, instance)} if instance else {}
        for name, asked in wish.zones.items():
            body = {
                "name": name,
                "account_id": instance,
                "description": asked.description,
                "addresses": [zone.entry(text) for text in asked.addresses],
                "excluded": [zone.entry(text) for text in asked.excluded],
            }
            if name not in known:
                self._made("POST", "/v1/zones", body)
                yield Change("+", f"zone {name}", asked.addresses)
                continue
            answer = self._client.answer("GET", f"/v1/zones/{known[name]}")
            changes = difference(asked.named(), zone.shown(answer.json()))
            if changes:
                self._made("PUT", f"/v1/zones/{known[name]}", body, **{"If-Match": answer.headers["ETag"]})
                yield Change("~", f"zone {name}", changes)

    def _rules(self, instance: str, wish: InstanceWish) -> Iterator[Change]:
        if not wish.rules:
            return
        zones = zone.zones(self._client, instance) if instance else []
        found = self._client.get("/v1/rules", account_id=instance)["rules"] if instance else []
        known = {each["description"]: each for each in found}
        for name, asked in wish.rules.items():
            for each in asked.zones:
                if each not in wish.zones:  # of those a plan has not made yet
                    zone.find(zones, each)
            if name not in known:
                if not self._plan:
                    self._made("POST", "/v1/rules", self._rule(instance, name, asked, zones))
                yield Change("+", f"rule {name}", asked.zones)
                continue
            present = rule.shown(known[name], zones)
            endpoints = [part for value in present["endpoints"] for part in value.split(",") if part != "any"]
            changes = difference(
                asked.named(),
                {"zones": present["zones"], "endpoints": endpoints, "enforcement": present["enforcement_mode"]},
            )
            if changes:
                path = f"/v1/rules/{known[name]['id']}"
                etag = self._client.answer("GET", path).headers["ETag"]
                if not self._plan:
                    self._made("PUT", path, self._rule(instance, name, asked, zones), **{"If-Match": etag})
                yield Change("~", f"rule {name}", changes)

    @staticmethod
    def _rule(instance: str, name: str, asked: RuleWish, zones: list[dict[str, Any]]) -> dict[str, Any]:
        identities = [zone.find(zones, each)["id"] for each in asked.zones]
        return rule.body(instance, identities, asked.endpoints, asked.enforcement, name)

    def _domain(self, instance: str, domain: str, asked: DomainWish) -> Iterator[Change]:
        present = self._present(instance, domain)
        identity = str(present.get("id", ""))
        if not identity:
            identity = self._made("POST", ibm_path_of(instance), {"name": domain, "domain": domain}).get("id", "")
            yield Change("+", f"domain {domain}", (f"publish what `postlane domain records {domain}` shows",))
        path = path_of(instance, identity)
        if asked.preferences and (changes := difference(asked.preferences, present)):
            self._made("PATCH", path, asked.preferences)
            yield Change("~", f"domain {domain}", changes)
        authorization = present.get("authorization") or {}
        if asked.questionnaire is not msgspec.UNSET and authorization.get("status") != "approved":
            answers = questionnaire.read(self._beside / asked.questionnaire)
            if difference(answers, authorization.get("questionnaire", {})) or authorization.get("status") == "rejected":
                self._made("PUT", f"{path}/authorization", answers)
                yield Change("~" if authorization else "+", f"questionnaire of {domain}")
        if asked.quota is not msgspec.UNSET:
            yield from self._quota(path, domain, asked.quota, authorization)
        yield from self._users(instance, identity, domain, asked)

    def _present(self, instance: str, domain: str) -> dict[str, Any]:
        if not instance:
            return {}
        listed = self._client.get(f"/v1/postlane/instances/{instance}/configurations")["configurations"]
        each = configuration_among(listed, domain)
        if each is None:
            return {}
        found: dict[str, Any] = self._client.get(path_of(instance, each["id"]))
        return found | {"id": each["id"]}

    def _quota(self, path: str, domain: str, asked: QuotaWish, authorization: dict[str, Any]) -> Iterator[Change]:
        changes = difference(asked.named(), authorization)
        if authorization.get("status") != "approved" or changes:
            self._made("POST", f"{path}/authorization/approve", asked.named())
            sign = "~" if authorization.get("status") == "approved" else "+"
            yield Change("~" if sign == "~" else "+", f"approval of {domain}", changes)

    def _users(self, instance: str, configuration: str, domain: str, asked: DomainWish) -> Iterator[Change]:
        if not asked.users:
            return
        path = ibm_path_of(instance, configuration) + "/users"
        found = self._client.get(path, limit=100)["users"] if configuration else []
        known = {each["description"]: each["id"] for each in found}
        for name, wish in asked.users.items():
            identity = known.get(name, "")
            if not identity:
                made = self._made("POST", path, {"description": name})
                identity = made.get("id", "")
                shown = (
                    (f"username {made['username']}", f"password {made['password']}, shown this once") if made else ()
                )
                yield Change("+", f"user {name} of {domain}", shown)
            yield from self._rails(f"{path_of(instance, configuration)}/users/{identity}", name, domain, wish, identity)

    def _rails(self, path: str, name: str, domain: str, wish: UserWish, identity: str) -> Iterator[Change]:
        present = self._client.get(path)["guard_rails"] if identity else {}
        changes = difference(wish.named(), present)
        if changes:
            self._made("PATCH", path, wish.named())
            yield Change("~", f"user {name} of {domain}", changes)
