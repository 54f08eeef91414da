"""`postlane profile`: several Postlanes, each with its address and key; `--profile NAME` before a verb names one."""

from typing import Annotated

import typer

from services.command.admin.output import Form, Output, Yes, confirm, rows, say
from services.command.profile import name_in_use, profile_file, profile_names, read_profile, remove_profile, use_profile

app = typer.Typer(
    help="Profiles: where a Postlane is, and with which key. Made by `postlane login`.", no_args_is_help=True
)

Name = Annotated[str, typer.Argument(help="name of the profile")]


@app.command("ls")
def list_(output: Output = Form.table) -> None:
    """List the profiles; keys are not shown."""
    present = name_in_use()
    found = []
    for name in profile_names():
        values = read_profile(name)
        found.append(
            {
                "name": name,
                "in_use": name == present,
                "url": values.get("url", ""),
                "instance": values.get("instance", ""),
                "file": str(profile_file(name)),
            }
        )
    rows(found, ["name", "in_use", "url", "instance", "file"], output, "no profile yet: postlane login, or postlane up")


@app.command()
def use(name: Name) -> None:
    """Make a profile the one that verbs use from now on."""
    use_profile(name)
    say(f"verbs use the profile {name} from now on: {read_profile(name).get('url', '')}")


@app.command("rm")
def remove(name: Name, yes: Yes = False) -> None:
    """Remove a profile from this machine; its key goes on working until it is revoked."""
    confirm(f"Remove the profile {name}?", yes)
    remove_profile(name)
    say(f"removed {name}; its key still works: `postlane key rm` ends it")
