"""A text names settings as data; commands, requests and pages each word them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from pipelines.settings.declared import settings_of
from pipelines.settings.wording import in_words_of_commands
from resubmit_api.errors import in_words_of_requests
from resubmit_api.pages.wording import in_words_of_forms
from resubmit_api.schemas import Rate as RequestedRate
from resubmit_api.schemas import ReplayRequest
from transforms.jobs.rows import UNLIMITED
from transforms.replay.options import Options, Rate
from transforms.settings import settings_in

ROOT = Path(__file__).parents[2]
FLAG = re.compile(r"(?<!-)--[a-z]")
STARTS_COMMANDS = {"resubmit_api/launchers/subprocess.py"}


def texts(path: Path) -> Iterator[str]:
    """Every string of a module but its documentation."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = list(ast.walk(ast.parse(path.read_text())))
    said = {
        id(node.body[0].value) for node in nodes if isinstance(node, documented) if ast.get_docstring(node)
    }
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


@pytest.mark.parametrize("package", ["transforms", "resubmit_api"])
def test_no_text_of_the_engine_or_the_api_names_a_flag_of_the_command_line(package: str) -> None:
    modules = {str(path.relative_to(ROOT)): path for path in (ROOT / package).rglob("*.py")}
    found = {
        name: text
        for name, path in modules.items()
        if name not in STARTS_COMMANDS
        for text in texts(path)
        if FLAG.search(text)
    }
    assert found == {}, "name the setting in backticks: see transforms/settings/naming.py"


@pytest.mark.parametrize(
    ("text", "command", "request_", "form"),
    [
        (
            "allow it with `lossy`.",
            "allow it with --lossy.",
            'allow it with "lossy": true.',
            "allow it with “Send even if lossy”.",
        ),
        (
            "use `timestamp: now`.",
            "use --timestamp now.",
            'use "timestamp": "now".',
            "use timestamps “time of sending”.",
        ),
        *[(text, flags, flags, flags) for text, flags in [
            ("add `lake`.", "add --lake."),
            ("persistor resubmit `resume: j1`", "persistor resubmit --resume j1"),
            ("`launcher_config: project=…`", "--launcher_config project=…"),
            ("`persistor index` reads {topic}", "`persistor index` reads {topic}"),
        ]],
    ],
)  # fmt: skip
def test_each_reader_sees_a_setting_as_it_is_written_there(
    text: str, command: str, request_: str, form: str
) -> None:
    assert in_words_of_commands(text) == command
    assert in_words_of_requests(text) == request_
    assert in_words_of_forms(text) == form


def test_what_is_no_setting_of_any_command_stays_as_it_is() -> None:
    assert in_words_of_commands("the table `orders` is locked") == "the table `orders` is locked"


def test_an_option_of_a_resubmission_is_the_same_for_command_request_form_and_plan() -> None:
    names = {option.name for option in settings_in(Options)}
    assert names == set(asdict(Options()))
    for command in ("plan", "resubmit"):
        assert {one for one in settings_of(command) if one.name in names} == set(settings_in(Options))
    schema = ReplayRequest.model_json_schema()["$defs"]["Options"]
    assert (set(schema["properties"]), schema["additionalProperties"]) == (names, False)
    form = (ROOT / "resubmit_api/pages/templates/resubmit.html").read_text()
    assert names <= set(re.findall(r'name="([a-z_]+)"', form))


@pytest.mark.parametrize("option", settings_in(Options), ids=lambda option: option.name)
def test_a_request_takes_an_options_choices_and_has_its_default(option: object) -> None:
    field = ReplayRequest.model_json_schema()["$defs"]["Options"]["properties"][option.name]
    kinds = field.get("anyOf", [field])
    assert tuple(kinds[0].get("enum", ())) == option.choices
    assert field["default"] == getattr(Options(), option.name)


def test_a_rate_is_the_same_for_command_request_and_row() -> None:
    names = {limit.name for limit in settings_in(Rate)}
    assert names == set(UNLIMITED) == set(RequestedRate.model_fields)
    assert all(names <= {one.name for one in settings_of(command)} for command in ("resubmit", "jobs"))
