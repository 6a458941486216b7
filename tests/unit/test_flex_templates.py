"""Specifications of Dataflow's Flex templates are those of the settings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.cloud.dataflow_v1beta3.types import ContainerSpec, ParameterType
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from pipelines.flex import TEMPLATES, _words, parameters
from pipelines.reference.flex_specs import specification
from pipelines.settings.declared import every_setting, settings_of
from transforms.settings.kinds import FLAG, Kind

FOLDER = Path(__file__).parents[2] / "templates" / "dataflow"
KINDS = {setting.kind for setting in every_setting()}
MACHINE = {"processes", "shard", "metrics_host", "metrics_port"}


def spec(command: str) -> Any:
    """The committed specification, parsed as the service does: nothing unknown is let by."""
    message = ContainerSpec()
    text = (FOLDER / f"{command}.json").read_text(encoding="utf-8")
    json_format.Parse(text, ContainerSpec.pb(message), ignore_unknown_fields=False)
    return message


@pytest.mark.parametrize("command", TEMPLATES)
def test_the_specifications_are_those_of_the_settings(command: str) -> None:
    assert json.loads((FOLDER / f"{command}.json").read_text(encoding="utf-8")) == specification(
        command, "persistor-worker"
    ), "make reference"


@pytest.mark.parametrize("command", TEMPLATES)
def test_a_template_has_the_parameters_of_its_command(command: str) -> None:
    found = {parameter.name: parameter for parameter in spec(command).metadata.parameters}
    own = {setting.name: setting for setting in settings_of(command)}
    if command == "resubmit":
        assert found.keys() - own.keys() == {"command", "sdk_container_image"}
        assert found.keys() & own.keys() == {"resume", "lake", "lake_config", "destination_config"}
    else:
        assert found.keys() - {"command", "sdk_container_image"} == own.keys() - MACHINE
    for name in found.keys() & own.keys():
        assert found[name].help_text.startswith(own[name].help)
        assert (found[name].param_type == ParameterType.BOOLEAN) == (own[name].kind is FLAG)
        assert found[name].default_value == (own[name].default or "")
        assert tuple(option.value for option in found[name].enum_options) == tuple(own[name].choices)
        assert found[name].is_optional == (not own[name].required and name != "resume")


@pytest.mark.parametrize("command", TEMPLATES)
def test_streaming_and_image_are_passed(command: str) -> None:
    found = spec(command)
    assert found.metadata.streaming == (command != "resubmit")
    assert found.image == "persistor-worker"
    assert found.sdk_info.language.name == "PYTHON"
    [named] = [p for p in found.metadata.parameters if p.name == "command"]
    others = [other for other in TEMPLATES if other != command]
    assert admits(named, command)
    assert not any(admits(named, other) for other in others)


def admits(parameter: Any, value: str) -> bool:
    return all(re.search(regex, value) for regex in parameter.regexes)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("source", ["kafka://broker:9092/orders", "pubsub://p/s"], ["", "orders", "broker:9092", "//x"]),
        ("lake", ["gs://bucket/a", "s3://bucket"], ["bucket", "/data/lake", "gs:/bucket"]),
        ("index", ["mongodb://m/db", "none"], ["mongo", "None"]),
        ("batch_messages", ["1", "10000", "007"], ["", "0", "-1", "1e3", "ten", " 1"]),
        ("batch_bytes", ["64MiB", "1 GB", "100", "5kb"], ["MiB", "0", "1TB", "1.5MB", "-1MB"]),
        ("batch_age", ["30s", "1.5m", "500ms", "5", "1 h"], ["soon", "1w", "-5s", "s"]),
        ("format", ["parquet", "avro", "jsonl"], ["csv", "parquet,avro", "Parquet"]),
        ("on_failure", ["retry", "dead_letter"], ["", "drop"]),
        ("source_config", ["a=b", "a=b=c", '["a=b", "c=${env:D}"]'], ["", "a", "=b", '["a']),
        ("shards", ["1", "64"], ["0", "many"]),
    ],
)
def test_the_expressions_admit_what_is_meant_and_refuse_what_is_not(
    name: str, good: list[str], bad: list[str]
) -> None:
    [parameter] = [p for p in spec("persist").metadata.parameters if p.name == name]
    assert [value for value in good if not admits(parameter, value)] == []
    assert [value for value in bad if admits(parameter, value)] == []


_TEXTS = st.one_of(
    st.from_regex(r"[0-9]{1,3}(\.[0-9])? ?[a-zA-Z]{0,3}", fullmatch=True),
    st.from_regex(r"[a-z]{1,4}://?[a-z/]{0,4}|[a-z]{0,3}=[^\n]{0,3}|true|false", fullmatch=True),
)


@pytest.mark.parametrize("kind", sorted(KINDS, key=lambda kind: kind.metavar), ids=lambda kind: kind.metavar)
@given(text=_TEXTS)
def test_an_expression_refuses_nothing_that_the_command_takes(kind: Kind, text: str) -> None:
    if kind.metavar == "URL" and not re.fullmatch(r"none|[a-z]+://.+", text):
        return  # the command refuses these by their schemes, see checks
    try:
        kind.convert(text)
    except ValueError:
        return
    assert not text or re.fullmatch(kind.pattern, text)


def test_parameters_become_the_words_of_the_command_line() -> None:
    given_words = [
        "--source=kafka://b/t",
        '--source_config=["sasl.username=me", "a=[1]"]',
        "--lake_config=endpoint=http://h:1",
        "--exclude=[ab]*",
        "--runner=DataflowRunner",
    ]
    assert list(_words("persist", given_words)) == [
        "--source=kafka://b/t",
        "--source_config=sasl.username=me",
        "--source_config=a=[1]",
        "--lake_config=endpoint=http://h:1",
        "--exclude=[ab]*",
        "--runner=DataflowRunner",
    ]
    assert list(_words("resubmit", ["--lossy=true"])) == ["--lossy"]
    assert list(_words("resubmit", ["--lossy=false"])) == []


def test_every_parameter_is_a_setting_of_the_command() -> None:
    for command in TEMPLATES:
        assert {setting.name for setting in parameters(command)} <= {s.name for s in settings_of(command)}
