"""Settings in YAML files, and selections in files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.settings.maintenance import ExpireSettings
from pipelines.settings.parsing import parse
from pipelines.settings.replay import PlanSettings, ResubmitSettings
from pipelines.settings.streaming import PersistSettings
from resubmit_api.settings import ApiSettings, DestinationSettings
from tests.unit._settings import PERSIST, RESUBMIT, SELECTION, problems


def test_yaml_file_and_command_line_mean_the_same_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "persist.yaml"
    file.write_text(
        "source: kafka://h:9092/orders\nlake: file:///lake\nindex: sqlite:///i.db\nbatch_messages: 5\n"
        "batch_age: 5s\n"
        "metadata:\nsource_config:\n  sasl.username: me\n  enable.idempotence: true\nexclude: [a, b]\n"
        "runner: DirectRunner\nlabels: [x=1, y=2]\nsave_main_session: true\n",
    )
    settings, beam_args = parse(
        PersistSettings, ["--config", str(file), "--batch_age", "7s", "--runner=FnApiRunner"]
    )
    typed, _ = parse(
        PersistSettings,
        [
            *PERSIST,
            *["--batch_messages=5", "--batch_age=7s", "--source_config=sasl.username=me"],
            *["--source_config=enable.idempotence=true", "--exclude=a", "--exclude=b"],
        ],
    )
    assert settings == typed
    assert beam_args == ["--labels=x=1", "--labels=y=2", "--save_main_session", "--runner=FnApiRunner"]


def test_a_selection_may_stand_in_yaml_or_in_a_file_of_its_own(tmp_path: Path) -> None:
    selection = tmp_path / "selection.json"
    selection.write_text(SELECTION)
    file = tmp_path / "resubmit.yaml"
    file.write_text("selection:\n  sources: [orders]\n  published_from: 2026-11-01T00:00:00Z\n")
    words = ["--index=mongodb://h/d", "--lake=s3://b/p", "--destination=kafka://h:1/t"]
    from_yaml, _ = parse(ResubmitSettings, [*words, "--config", str(file)])
    from_file, _ = parse(ResubmitSettings, [*words, "--selection", f"@{selection}"])
    assert from_yaml.selection == '{"sources": ["orders"], "published_from": "2026-11-01T00:00:00+00:00"}'
    assert from_file.selection == SELECTION


def test_api_destination_settings_may_be_nested_in_yaml(tmp_path: Path) -> None:
    file = tmp_path / "api.yaml"
    file.write_text("destination: {a: 'kafka://h:1'}\ndestination_config:\n  a: {sasl.username: me}\n")
    settings, _ = parse(ApiSettings, [*RESUBMIT, "--config", str(file)])
    assert settings.destinations == {"a": DestinationSettings("kafka://h:1", {"sasl.username": "me"})}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "write one 'name: value' per line."),
        ("- a\n- b\n", "write one 'name: value' per line."),
        ("source: a\nexclude: [a\nlake: b", "line 3 is not YAML: expected ',' or ']', but got ':'."),
        ("{1", "line 1 is not YAML: expected ',' or '}', but got '<stream end>'."),
    ],
)
def test_a_file_that_is_no_settings_file_is_the_only_problem(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "persist.yaml"
    file.write_text(text)
    assert problems(PersistSettings, "--config", str(file)) == [f"--config {file}: {told}"]


def test_a_name_that_stands_twice_in_a_file_is_one_of_the_problems(tmp_path: Path) -> None:
    file = tmp_path / "persist.yaml"
    file.write_text(
        "source: kafka://h:9092/a\nlake: file:///one\nlake: file:///two\nindex: none\nbatch_messages: 0\n"
        "lake_config: &same\n  region: a\n  region: b\nsource_config: {<<: *same, region: c}\n",
    )
    assert problems(PersistSettings, "--config", str(file)) == [
        f"--config {file}: line 3: 'lake' appears twice; remove one of them.",
        f"--config {file}: line 8: 'region' appears twice; remove one of them.",
        "--batch_messages '0': write a whole number from 1 on.",
    ]


def test_a_file_of_characters_that_yaml_does_not_know_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "persist.yaml"
    file.write_text("\x00")
    [told] = problems(PersistSettings, "--config", str(file))
    assert told.startswith(f"--config {file}: unacceptable character #x0000")


def test_a_file_that_is_not_there_is_the_only_problem() -> None:
    told = problems(PersistSettings, "--config", "/nowhere/persist.yaml")
    assert told == ["--config /nowhere/persist.yaml: No such file or directory."]


@pytest.mark.parametrize("kind", [PlanSettings, ResubmitSettings, ExpireSettings])
def test_who_only_looks_sees_that_a_path_is_wrong(kind: Any, tmp_path: Path) -> None:
    told = problems(kind, f"--lake=file://{tmp_path}/lke", f"--index=sqlite://{tmp_path}/indx.db")
    assert f"--lake file://{tmp_path}/lke: there is no such directory." in told
    assert f"--index sqlite://{tmp_path}/indx.db: there is no such file." in told
