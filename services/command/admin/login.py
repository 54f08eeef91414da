"""`postlane login`: writes the profile, so that the other verbs find the API and a key by themselves."""

import os
from typing import Annotated

import typer

from services.command.admin.client import DEFAULT_URL, Client
from services.command.admin.exits import NEGATIVE, failure
from services.command.admin.output import Form, Output, fields, say
from services.command.profile import checked_name, name_in_use, profile_file, use_profile, write_profile


def login(
    url: Annotated[str, typer.Option(help="base URL of the management API")] = DEFAULT_URL,
    api_key: Annotated[str, typer.Option(prompt="API key", hide_input=True, help="asked for if it is not given")] = "",
    instance: Annotated[str, typer.Option(help="ID or name of the instance the verbs are about")] = "",
    output: Output = Form.table,
) -> None:
    """Try an API key and keep it in a profile: `postlane --profile NAME login` makes or changes the one named."""
    name = checked_name(name_in_use())
    os.environ["POSTLANE_URL"], os.environ["POSTLANE_API_KEY"] = url, api_key
    with Client({}) as client:
        caller = client.get("/v1/postlane/self")
        profile = {"url": url, "api_key": api_key}
        if ca_file := os.environ.get("POSTLANE_CA_FILE"):
            profile["ca_file"] = ca_file
        if instance:
            profile["instance"] = client.instance(instance)
        if not write_profile(profile, name):
            raise failure(NEGATIVE, f"the key is good, but {profile_file(name)} cannot be written")
        if output is Form.json:
            fields(caller, output)
        use_profile(name)
        say(f"logged in as {caller['role']}; kept in {profile_file(name)}", output)
