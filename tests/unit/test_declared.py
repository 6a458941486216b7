"""A setting is declared once: one line more in a class is a setting everywhere."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.flex import parameters
from pipelines.reference.__main__ import settings_table
from pipelines.reference.flex_specs import specification
from pipelines.settings import declared
from pipelines.settings.declared import every_setting
from pipelines.settings.parsing import build_parser, parse
from pipelines.settings.streaming import PersistSettings
from tests.deploy import chart
from transforms.errors import ConfigurationError
from transforms.settings import setting
from transforms.settings.kinds import AGE

WORDS = ["--source=kafka://h:9092/orders", "--lake=file:///lake", "--index=none"]


@dataclass(frozen=True, kw_only=True)
class ToyPersistSettings(PersistSettings):
    toy: float = setting(AGE, "batches", "how long a toy lasts", default="2m")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[ToyPersistSettings]:
    monkeypatch.setitem(declared.CLASSES, "persist", ToyPersistSettings)
    return ToyPersistSettings


def test_a_new_setting_is_read_from_the_command_line_and_from_yaml(
    toy: type[ToyPersistSettings], tmp_path: Path
) -> None:
    (tmp_path / "persist.yaml").write_text("toy: 5s\n")
    assert parse(toy, WORDS)[0].toy == 120
    assert parse(toy, [*WORDS, f"--config={tmp_path}/persist.yaml"])[0].toy == 5
    read, beam_arguments = parse(toy, [*WORDS, "--toy=500ms"])
    assert (read.toy, beam_arguments, pickle.loads(pickle.dumps(read))) == (0.5, [], read)


def test_what_is_wrong_with_it_is_one_of_the_problems(toy: type[ToyPersistSettings]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(toy, [*WORDS, "--toy=soon", "--format=xml"])
    assert caught.value.problems == [
        "--toy 'soon': write a time such as 500ms, 30s, 5m or 2h.",
        "--format 'xml': write one of avro, jsonl, parquet.",
    ]


@pytest.mark.usefixtures("toy")
def test_it_is_in_the_help_the_reference_the_chart_and_the_template() -> None:
    assert "--toy TIME\n      how long a toy lasts (default: 2m)" in build_parser("persist").format_help()
    assert "| `--toy` | persist | `2m` | how long a toy lasts |" in settings_table()
    settings = chart.schema()["properties"]["persist"]["properties"]["settings"]
    assert settings["properties"]["toy"] == {"type": ["string", "integer"]}
    assert "toy" in {one.name for one in parameters("persist")}
    [parameter] = [
        one for one in specification("persist", "i")["metadata"]["parameters"] if one["name"] == "toy"
    ]
    assert (parameter["defaultValue"], parameter["isOptional"]) == ("2m", True)


def test_a_name_means_one_thing_in_a_command() -> None:
    pairs = [(one.name, command) for one, commands in every_setting().items() for command in commands]
    assert len(pairs) == len(set(pairs))
