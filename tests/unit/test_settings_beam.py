"""Beam's own options beside ours."""

from __future__ import annotations

from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

from pipelines.settings.declared import settings_of
from pipelines.settings.parsing import parse
from pipelines.settings.replay import ResubmitSettings
from pipelines.settings.streaming import IndexSettings, PersistSettings
from tests.unit._settings import PERSIST, problems


def test_options_that_only_the_job_server_knows_pass_unless_they_are_typing_mistakes() -> None:
    words = [*PERSIST[:4], "--index=mongodb://h/d", "--runner=FlinkRunner", "--checkpointing_interval=10000"]
    assert parse(PersistSettings, words)[1] == words[-2:]
    assert problems(PersistSettings, *words, "--batch_mesages=5") == [
        "--batch_mesages is unknown; did you mean --batch_messages?"
    ]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("--bogus_option=3", "persistor persist --help lists the settings."),
        ("--sdk_locatoin=x", "did you mean --sdk_location?"),
        ("--batch-byte=1", "did you mean --batch_bytes?"),
    ],
)
def test_an_option_of_beam_is_suggested_where_it_is_nearly_that(word: str, told: str) -> None:
    name = word.partition("=")[0]
    assert problems(PersistSettings, *PERSIST, word) == [f"{name} is unknown; {told}"]


def test_flink_gets_what_acknowledging_needs_and_no_option_that_prevents_it() -> None:
    words = [*PERSIST[:4], "--index=mongodb://h/d", "--runner=FlinkRunner"]
    options = PipelineOptions(parse(PersistSettings, words)[1]).get_all_options()
    assert options["checkpointing_interval"] == 10_000
    assert options["finish_bundle_before_checkpointing"] is True
    assert options["externalized_checkpoints_enabled"] is True
    assert options["retain_externalized_checkpoints_on_cancellation"] is True
    never = ["--checkpointing_interval=-1", "--finish_bundle_before_checkpointing=false"]
    told = problems(PersistSettings, *words, *never)
    assert [problem.partition(":")[0] for problem in told] == never
    assert parse(PersistSettings, [*words, "--finish_bundle_before_checkpointing"])
    ignored = [*words, "--savepoint_path=s3://bucket/savepoint"]
    assert "--savepoint_path is ignored" in problems(PersistSettings, *ignored)[0]


def test_checkpoints_of_pubsub_come_before_its_messages_are_delivered_again() -> None:
    words = [
        "--lake=s3://b",
        "--index=mongodb://h/d",
        "--runner=FlinkRunner",
        "--checkpointing_interval=600000",
    ]
    [problem] = problems(PersistSettings, *words, "--source=pubsub://project/orders")
    assert "delivered by Pub/Sub again" in problem
    assert parse(PersistSettings, [*words, "--source=kafka://h:9092/orders"])
    assert parse(PersistSettings, [*words[:3], "--source=pubsub://project/orders"])


def test_a_job_server_that_is_not_there_is_reported_before_anything_is_made(tmp_path: Path) -> None:
    words = [*PERSIST[:4], "--index=mongodb://h/d", "--runner=FlinkRunner"]
    jar = tmp_path / "job-server.jar"
    given = [*words, f"--flink_job_server_jar={jar}"]
    assert problems(PersistSettings, *given) == [f"--flink_job_server_jar {jar}: there is no such file."]
    jar.touch()
    assert parse(PersistSettings, given)
    assert parse(PersistSettings, [*words, "--flink_job_server_jar=https://h/job-server.jar"])


def test_every_option_of_beam_and_ours_fit_in_one_parser() -> None:
    for kind in (PersistSettings, IndexSettings, ResubmitSettings):
        parser = _BeamArgumentParser(allow_abbrev=False, add_help=False, conflict_handler="error")
        for options in PipelineOptions.__subclasses__():
            options._add_argparse_args(parser)
        for setting in settings_of(kind.command):
            parser.add_argument(f"--{setting.name}", dest=f"persistor_{setting.name}")
        theirs = {action.dest for action in parser._actions}
        assert not theirs & {setting.name for setting in settings_of(kind.command)}
