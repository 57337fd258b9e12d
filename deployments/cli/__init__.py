"""`darkroom`: the commands of users and operators.

What a command needs is imported inside it, so that the light ones answer at once. Every failure is one line on stderr
and exit code 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from darkroom.deployments.cli import admin, dead, jobs, models, new, parts, pending, replays, waits

app = typer.Typer(
    help="Darkroom: a prompt goes in, a stored picture comes out, and every step is on record.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS: tuple[Callable[..., None], ...] = (
    *(new.new, parts.up, parts.env, parts.demo, parts.gateway, parts.provision),
    *(jobs.generate, models.run, jobs.upload, jobs.status, jobs.why, jobs.cancel, replays.replay),
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(admin.user, name="user")
app.add_typer(admin.plan, name="plan")
app.add_typer(admin.account, name="account")
app.add_typer(models.model, name="model")
app.add_typer(dead.dead, name="dead")
app.add_typer(waits.wait, name="wait")
app.add_typer(pending.pending, name="pending")
app.add_typer(pending.pending, name="start", hidden=True, deprecated=True)


def main() -> None:
    from darkroom.errors import DarkroomError

    try:
        app()
    except (DarkroomError, ValueError) as error:
        sys.exit(f"darkroom: {error}")
