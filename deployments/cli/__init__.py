"""`darkroom`: the commands of users and operators.

What a command needs is imported inside it, so that the light ones answer at once. Every failure is one line on stderr
and exit code 1.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from darkroom.deployments.cli import (
    admin,
    costs,
    dead,
    job_list,
    jobs,
    keys,
    models,
    new,
    parts,
    pending,
    replays,
    waits,
)

app = typer.Typer(
    help="Darkroom: a prompt goes in, a stored picture comes out, and every step is on record.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a fault of ours keeps Python's own traceback, for whoever reports it
)


def _show_version(wanted: bool) -> None:
    if wanted:
        # By the installed packages: to import Prefect takes a second.
        ours, prefects = version("darkroom-media"), version("prefect")
        typer.echo(f"darkroom {ours} (Prefect {prefects}, Python {platform.python_version()})")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


# In the order in which `--help` has them: the stack, work, money.
COMMANDS: tuple[Callable[..., None], ...] = (
    *(new.new, parts.up, parts.env, parts.demo, parts.gateway, parts.provision),
    *(jobs.generate, models.run, jobs.upload, job_list.jobs, jobs.status, jobs.why, jobs.cancel, replays.replay),
    costs.costs,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(admin.user, name="user")
app.add_typer(keys.key, name="key")
app.add_typer(admin.plan, name="plan")
app.add_typer(admin.account, name="account")
app.add_typer(models.model, name="model")
app.add_typer(dead.dead, name="dead")
app.add_typer(waits.wait, name="wait")
app.add_typer(pending.pending, name="pending")
app.add_typer(pending.pending, name="start", hidden=True, deprecated=True)  # its name in 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    try:
        app(arguments)
    except Exception as error:
        from darkroom.deployments.cli.failures import line_of

        if (line := line_of(error)) is None:
            raise
        sys.exit(f"darkroom: {line}")
