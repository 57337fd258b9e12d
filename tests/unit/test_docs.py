"""What the documents tell people to type: every block of README and docs, and every command in their text.

Held against what there is, without a stack: commands and their options, deployments and what they take, bodies of
calls, events, targets of the Makefile; Python, YAML and TOML are read.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import Any

import botocore.session
import pytest
import typer
import yaml
from botocore.validate import validate_parameters
from prefect.cli._utilities import load_json_key_values
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate
from pydantic import BaseModel

from darkroom.deployments.cli import app
from darkroom.deployments.gateway.routes.stream import TokenOrder
from darkroom.deployments.gateway.schemas.admin import KeyOrder
from darkroom.deployments.gateway.schemas.callbacks import EndpointOrder
from darkroom.deployments.prefect_yaml import read_prefect_yaml
from darkroom.engine.registry import all_pipelines, find
from darkroom.events.types import find_type

PROJECT = Path(__file__).parents[2]
DOCUMENTS = [
    *(PROJECT / f"{name}.md" for name in ("README", "SECURITY", "CONTRIBUTING")),
    *sorted((PROJECT / "docs").glob("*.md")),
]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:darkroom|prefect deployment run) [^`\n]+)`")
ID = re.compile(r"\b(ast|job|evt)_(?:[0-9a-f]*…\w*|…)")  # an id of which only the beginning is written
OTHER_BODIES: dict[str, type[BaseModel]] = {
    "/v1/admin/keys": KeyOrder,
    "/v1/callback-endpoint": EndpointOrder,
    "/v1/stream-tokens": TokenOrder,
}
OPERATORS = ("&&", "|", ";")


@dataclass(frozen=True, kw_only=True)
class Block:
    place: str
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for file in DOCUMENTS:
        content = file.read_text()
        for found in FENCED.finditer(content):
            line = content.count("\n", 0, found.start()) + 1
            place = f"{file.relative_to(PROJECT)}:{line}"
            yield Block(place=place, language=found[2], text=dedent(found[3]))


def typed(text: str) -> Iterator[list[str]]:
    """The commands of a console block, each as its words; without prompts, comments and what is printed."""
    whole = text.replace("\\\n", " ")
    for line in whole.splitlines():
        if not line.startswith("$ "):
            continue
        words: list[str] = []
        for word in shlex.split(ID.sub(r"\1_019aa1f0d8b4", line[2:]), comments=True):
            if word in OPERATORS:
                yield words
                words = []
            else:
                words.append(word)
        yield words


def in_text() -> Iterator[tuple[str, str]]:
    """Commands between backticks, which may have placeholders and options in brackets."""
    for file in DOCUMENTS:
        for found in INLINE.finditer(FENCED.sub("", file.read_text())):
            yield str(file.relative_to(PROJECT)), found[1]


BLOCKS = list(blocks())
COMMANDS = [(block.place, words) for block in BLOCKS if block.language == "console" for words in typed(block.text)]
IN_TEXT = sorted(set(in_text()))


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words name, and the rest of them."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest and rest[0] in command.commands, f"there is no command {' '.join(words)}"
        command = command.commands[rest.pop(0)]
    return command, rest


def check_darkroom(words: list[str]) -> None:
    if words[0].startswith("--"):  # of the command as a whole
        assert words[0] in {name for each in typer.main.get_command(app).params for name in each.opts}
        return
    command, rest = command_of(words)
    command.make_context(command.name, [each for each in rest if each != "*"])


def check_deployment(words: list[str]) -> None:
    """As `prefect deployment run` reads them, and as the server and the order check them."""
    name, rest = words[0], words[1:]
    kind, _, deployment = name.partition("/")
    assert (kind, deployment) in deployments(), f"there is no deployment {name}"
    assert set(rest[::2]) <= {"-p"}
    parameters = load_json_key_values(rest[1::2], "parameter")
    validate(parameters, parameter_schema(deployments()[kind, deployment]).model_dump(mode="json"), raise_on_error=True)
    if kind in all_pipelines():
        find(kind).order.read(parameters)


def check_call(words: list[str]) -> None:
    """A call of ours: its path takes the body."""
    path = next(word for word in words if word.startswith("http")).partition("8700")[2].partition("?")[0]
    assert path in {*paths(), *OTHER_BODIES, "/v1/events", "/v1/stream", "/v1/uploads"}, f"nothing is at {path}"
    if "-d" not in words:
        return
    body = json.loads(words[words.index("-d") + 1])
    if path == "/v1/events":
        find_type(body["name"])[1].model_validate(body["data"])
    elif path in OTHER_BODIES:
        OTHER_BODIES[path].model_validate(body)
    else:
        paths()[path].read(body)


@cache
def deployments() -> dict[tuple[str, str], Any]:
    entries = [(load_flow_from_entrypoint(str(PROJECT / each.entrypoint)), each.name) for each in read_prefect_yaml()]
    return {(flow.name, name): flow for flow, name in entries}


@cache
def paths() -> dict[str, Any]:
    return {each.order.over_http.path: each.order for each in all_pipelines().values() if each.order.over_http}


TARGETS = set(re.findall(r"^([\w-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[f"{place} {' '.join(w)[:40]}" for place, w in COMMANDS])
def test_a_command_of_the_documents_can_be_typed(
    place: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is written: its command, options, deployment, parameters and body exist and are taken."""
    (tmp_path / "mochi").mkdir()
    (tmp_path / "mochi" / "*.jpg").write_bytes(b"")  # where nothing matches, a shell leaves the pattern as it is
    monkeypatch.chdir(tmp_path)
    match words:
        case ["darkroom", *rest]:
            check_darkroom(rest)
        case ["xargs", "darkroom", *rest]:
            check_darkroom([*rest[:2], "job_019aa1f0d8b4", *rest[2:]])
        case ["prefect", "deployment", "run", *rest]:
            check_deployment(rest)
        case ["curl", *rest]:
            check_call(rest)
        case ["make", target]:
            assert target in TARGETS
        case ["python", file, *_] if file.endswith(".py"):
            assert (PROJECT / file).is_file()
        case _ if inner := re.search(r"\$\((darkroom [^)]*)\)", " ".join(words)):
            check_darkroom(shlex.split(inner[1])[1:])


@pytest.mark.parametrize(("place", "command"), IN_TEXT)
def test_a_command_in_the_text_exists_with_its_options(place: str, command: str) -> None:
    """Between backticks: what stands for something and what may be left out is not read, names are."""
    words = re.sub(r"[\[\]…|]", " ", command).split()
    if words[0] == "prefect":
        kind, _, deployment = words[3].partition("/")
        assert (kind, deployment) in deployments() or words[3].isupper(), command
        given = [word.strip("'\"").partition("=")[0] for before, word in pairwise(words) if before == "-p"]
        if (kind, deployment) in deployments():
            assert set(given) <= set(parameter_schema(deployments()[kind, deployment]).properties), command
        return
    if words[1].startswith("--"):
        return  # of the command as a whole
    found, rest = command_of([word.partition("/")[0] for word in words[1:]])
    options = {name for each in found.params for name in (*each.opts, *each.secondary_opts)}
    assert {word for word in rest if re.fullmatch(r"--[a-z-]+", word)} <= options, command


def test_the_buckets_lifecycle_is_one_that_s3_takes() -> None:
    """It ends the uploads in parts that nobody completes, and expires no file."""
    (block,) = (block for block in BLOCKS if "AbortIncompleteMultipartUpload" in block.text)
    lifecycle = json.loads(block.text)
    put = botocore.session.get_session().get_service_model("s3").operation_model("PutBucketLifecycleConfiguration")
    assert put.input_shape is not None
    validate_parameters({"Bucket": "b", "LifecycleConfiguration": lifecycle}, put.input_shape)
    (rule,) = lifecycle["Rules"]
    assert rule.keys() == {"ID", "Status", "Filter", "AbortIncompleteMultipartUpload"}
    assert (rule["Status"], rule["Filter"]) == ("Enabled", {"Prefix": ""})


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.place} {block.language}")
def test_a_block_of_the_documents_is_what_it_says(block: Block) -> None:
    """Python compiles, YAML, TOML and JSON are read; other blocks are commands or drawings."""
    match block.language:
        case "python":
            ast.parse(block.text)
        case "yaml":
            yaml.safe_load(block.text)
        case "toml":
            tomllib.loads(block.text)
        case "json":
            json.loads(block.text)
        case language:
            assert language in ("console", "js", "sql", "sh", "mermaid", "ini", "text", "")
