"""One storm for all promises: `pytest tests/chaos --jobs 200 --seed 4`."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos import figures
from chaos.aftermath import Aftermath
from chaos.scenario import Scenario
from chaos.storm import brew

JOBS, SEED = 20, 4
SECONDS = 2400  # of the whole storm, which the first test waits for

_scenario = pytest.StashKey[Scenario]()
_folder = pytest.StashKey[Path]()
_aftermath = pytest.StashKey[Aftermath]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--jobs", type=int, default=JOBS, help="how many are ordered; from 100 on all is killed thrice")
    parser.addoption("--seed", type=int, default=SEED, help="of what happens when")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(scope="session")
def aftermath(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    scenario = Scenario(
        jobs=pytestconfig.getoption("jobs", JOBS),
        seed=pytestconfig.getoption("seed", SEED),
        time_scale=pytestconfig.getoption("time_scale"),
    )
    folder = tmp_path_factory.mktemp("storm")
    pytestconfig.stash[_scenario], pytestconfig.stash[_folder] = scenario, folder
    found = pytestconfig.stash[_aftermath] = brew(scenario, folder)
    found.save()
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if (scenario := config.stash.get(_scenario, None)) is None:
        return
    terminalreporter.section("chaos")
    if (found := config.stash.get(_aftermath, None)) is not None:
        for line in figures.lines(found):
            terminalreporter.write_line(line)
    terminalreporter.write_line(f"again          pytest tests/chaos --jobs {scenario.jobs} --seed {scenario.seed}")
    terminalreporter.write_line(
        f"logs           {config.stash[_folder] / 'home' / 'log'}, and beside them what was found"
    )
