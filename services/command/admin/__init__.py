"""The administrative verbs: a thin client of the management API. Each module is a noun with its verbs."""

from collections.abc import Callable

import typer

OperatorKeyMaker = Callable[[str], str]
"""Makes an operator's API key on the host itself, with the description given; returns the key."""

Resealer = Callable[[], tuple[int, int, tuple[str, ...]]]
"""Seals all signing keys with a new master key; returns how many anew, how many already, and what it cannot open."""


def mount(app: typer.Typer, make_operator_key: OperatorKeyMaker | None = None, reseal: Resealer | None = None) -> None:
    """Add the verbs to the command."""
    from services.command.admin import (
        apply,
        captured,
        connect,
        credential,
        doctor,
        domain,
        endpoints,
        instance,
        key,
        login,
        messages,
        profile,
        queue,
        quota,
        rule,
        suppression,
        user,
        zone,
    )

    app.add_typer(instance.app, name="instance")
    app.add_typer(domain.app, name="domain")
    user.app.add_typer(credential.app)
    app.add_typer(user.app, name="user")
    app.add_typer(zone.app, name="zone")
    app.add_typer(rule.app, name="rule")
    messages.mount(app)
    app.add_typer(queue.app, name="queue")
    app.add_typer(suppression.app, name="suppression")
    app.add_typer(captured.app, name="captured")
    app.add_typer(key.make_app(make_operator_key, reseal), name="key")
    app.command("login")(login.login)
    app.command("apply")(apply.apply)
    app.add_typer(profile.app, name="profile")
    app.command("doctor")(doctor.doctor)
    app.command("connect")(connect.connect)
    app.command("endpoints")(endpoints.show)
    app.command("audit")(key.audit)
    app.command("quota")(quota.quota)
