"""Commands that run things: the whole stack, or one part of it as in production."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from darkroom.deployments.cli.common import DEFAULT_HOME, HomeOption, join_stack, say, settings
from darkroom.deployments.stack.options import Provider, StackOptions, WorkerType
from darkroom.errors import NeedsHuman


def up(
    home: HomeOption = DEFAULT_HOME,
    port: Annotated[int, typer.Option(help="Of the gateway.")] = StackOptions.port,
    prefect_port: Annotated[int, typer.Option(help="Of Prefect's API and UI.")] = StackOptions.prefect_port,
    provider: Annotated[
        Provider, typer.Option(help="simulated: nothing is paid. live: fal.ai, with FAL_KEY.")
    ] = StackOptions.provider,
    simulator_port: Annotated[int, typer.Option(help="Of the simulated provider.")] = StackOptions.simulator_port,
    latency: Annotated[
        float, typer.Option(help="Seconds the simulated provider takes for a picture.")
    ] = StackOptions.latency_seconds,
    latency_of: Annotated[
        list[str] | None, typer.Option(metavar="ENDPOINT=SECONDS", help="The same for one endpoint; repeatable.")
    ] = None,
    worker_type: Annotated[
        WorkerType, typer.Option(help="warm: runs start in a blink. process: Prefect's own, for comparison.")
    ] = StackOptions.worker_type,
    new_secrets: Annotated[
        bool,
        typer.Option("--new-secrets", help="Make new ones, where secrets.env is lost: with it went the blocks' keys."),
    ] = False,
) -> None:
    """Run the whole stack on this machine, in the foreground, until Ctrl-C."""
    from darkroom.deployments.stack.forks import begin_anew

    mark = begin_anew(home.resolve())  # before the imports that it would do twice

    from darkroom.deployments.stack.supervisor import Stack
    from darkroom.orchestrator.project_file import users_project

    options = StackOptions(
        home=home,
        port=port,
        prefect_port=prefect_port,
        provider=provider,
        simulator_port=simulator_port,
        latency_seconds=latency,
        latencies_of=tuple(latency_of or ()),
        worker_type=worker_type,
        new_secrets=new_secrets,
    )
    say(f"starting in {home.resolve()}")
    if project := users_project():
        say(f"with the project in {project}")
    Stack(options, mark=mark, say=say, on_ready=lambda: say(options.ready_message())).run()


def env(home: HomeOption = DEFAULT_HOME) -> None:
    """Shell exports for commands against the stack in HOME: eval "$(darkroom env)"."""
    from darkroom.deployments.home import Home

    exports = Home(home).exports(os.environ)
    if not exports:
        raise NeedsHuman(f"no stack was started in {home.resolve()} yet: `darkroom up`, or name its folder with --home")
    sys.stdout.write(exports)


def demo(home: HomeOption = DEFAULT_HOME) -> None:
    """Start the stack, make one picture, show each step of its way, and stop."""
    from darkroom.deployments.demo import run_demo

    raise typer.Exit(run_demo(home, say=say))


def gateway(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = StackOptions.port,
) -> None:
    """Run the HTTP door alone, as in production."""
    join_stack()  # into the environment, from which the new program reads its settings
    # In the place of this process, so whoever ends that ends the gateway. -P: not with the folder it starts in on the
    # path, where the library's own modules would be taken for others.
    os.execv(
        sys.executable,
        [sys.executable, "-P", "-m", "darkroom.deployments.gateway", "--host", host, "--port", str(port)],
    )


def provision(
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace blocks and pool settings that exist.")
    ] = False,
) -> None:
    """Create or update what this version needs in the ledger and in Prefect. May be repeated."""
    from darkroom.deployments.provision import provision as run

    run(settings(), overwrite=overwrite, say=say)
