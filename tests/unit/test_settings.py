"""Settings: what the command line and the YAML file mean, and that everything wrong is told at once."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser
from hypothesis import given
from hypothesis import strategies as st

from pipelines.settings.declared import every_setting, settings_of
from pipelines.settings.maintenance import ExpireSettings, RebuildSettings
from pipelines.settings.parsing import build_parser, parse
from pipelines.settings.replay import PlanSettings, ResubmitSettings
from pipelines.settings.streaming import IndexSettings, PersistSettings
from resubmit_api.settings import ApiSettings, DestinationSettings, TokenSettings
from transforms.errors import ConfigurationError
from transforms.layout import FIELDS
from transforms.model import Layout
from transforms.registry import names

KINDS = [
    PersistSettings,
    IndexSettings,
    ResubmitSettings,
    RebuildSettings,
    ExpireSettings,
    ApiSettings,
    TokenSettings,
]
PERSIST = ["--source", "kafka://h:9092/orders", "--lake", "file:///lake", "--index", "sqlite:///i.db"]
RESUBMIT = ["--index", "sqlite:///i.db", "--lake", "file:///lake"]
SELECTION = '{"sources": ["orders"]}'


def here(place: Path) -> list[str]:
    """An index and a lake that are there."""
    (place / "i.db").touch()
    return [f"--index=sqlite://{place}/i.db", f"--lake=file://{place}"]


def problems(kind: type, *argv: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(kind, argv)
    return caught.value.problems


def test_persist_settings_are_typed_and_have_the_documented_defaults() -> None:
    settings, beam_args = parse(PersistSettings, PERSIST)
    assert beam_args == []
    assert settings == PersistSettings(
        source="kafka://h:9092/orders",
        source_config={},
        source_prefix="",
        exclude=(),
        lake="file:///lake",
        lake_config={},
        layout=Layout(path="{topic}/date={date}/hour={hour}", format="parquet"),
        index="sqlite:///i.db",
        metadata=None,
        metadata_config={},
        batch_messages=10_000,
        batch_bytes=64 * 1024 * 1024,
        batch_age=30.0,
        on_failure="retry",
        give_up_after=None,
        dead_letter=None,
        dead_letter_config={},
        processes=1,
        shard=(0, 1),
        shards=16,
        skip=(),
        metrics_host="0.0.0.0",
        metrics_port=2112,
    )


def test_repeated_settings_are_collected_and_values_keep_their_equals_signs() -> None:
    words = [
        "--source_config",
        "sasl.username=me",
        "--source_config=sasl.password=a=b",
        "--exclude",
        "x",
        "--exclude",
        "y.*",
    ]
    settings, _ = parse(PersistSettings, [*PERSIST, *words])
    assert settings.source_config == {"sasl.username": "me", "sasl.password": "a=b"}
    assert settings.exclude == ("x", "y.*")


def test_ranges_to_be_skipped_are_read_from_the_end_as_topics_may_hold_anything() -> None:
    settings, _ = parse(PersistSettings, [*PERSIST, "--skip=a/b-c/3/1205-1274", "--skip=orders/0/7-7"])
    assert settings.skip == (("a/b-c", 3, 1205, 1274), ("orders", 0, 7, 7))
    with pytest.raises(ConfigurationError, match="write TOPIC/PARTITION/FIRST-LAST"):
        parse(PersistSettings, [*PERSIST, "--skip=orders/0/8-7"])


def test_secret_references_stay_unresolved_and_settings_survive_pickling() -> None:
    settings, _ = parse(
        PersistSettings, [*PERSIST, "--source_config", "sasl.password=${env:NOT_SET_ANYWHERE}"]
    )
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert settings.source_config == {"sasl.password": "${env:NOT_SET_ANYWHERE}"}


def test_api_destinations_get_their_own_client_settings() -> None:
    words = [
        "--destination",
        "a=kafka://h:1",
        "--destination",
        "b=nats://h:2",
        "--destination_config",
        "a:sasl.username=me",
    ]
    settings, _ = parse(ApiSettings, [*RESUBMIT, "--lake", "s3://other", *words])
    assert settings.destinations == {
        "a": DestinationSettings("kafka://h:1", {"sasl.username": "me"}),
        "b": DestinationSettings("nats://h:2", {}),
    }
    assert settings.lakes == ("file:///lake", "s3://other")


def test_index_none_archives_without_an_index() -> None:
    settings, _ = parse(PersistSettings, [*PERSIST[:4], "--index", "none"])
    assert settings.index is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500kB", 500_000), ("64MiB", 64 << 20), ("1gib", 1 << 30), ("2 MB", 2_000_000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse(PersistSettings, [*PERSIST, "--batch_bytes", text])[0].batch_bytes == size


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1.5h", 5400), ("2", 2)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse(PersistSettings, [*PERSIST, "--batch_age", text])[0].batch_age == seconds


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


def test_every_problem_is_told_at_once() -> None:
    told = problems(
        PersistSettings,
        *[
            "--source",
            "foo://h/a",
            "--lake",
            "ftp://x",
            "--batch_bytes",
            "5XB",
            "--format",
            "xml",
            "--path",
            "{topi}",
        ],
        *[
            "--batch_mesages",
            "5",
            "--give_up_after",
            "soon",
            "--on_failure",
            "dead_letter",
            "--port=1",
            "stray",
        ],
    )
    assert told == [
        "--batch_mesages is not known; did you mean --batch_messages?",
        "--port is a setting of persistor api, not of persist.",
        "'stray' stands alone; write --SETTING VALUE.",
        "--format 'xml': write one of parquet, avro, jsonl.",
        "--batch_bytes '5XB': write a size such as 500kB, 64MiB or 1GiB.",
        "--give_up_after 'soon': write a time such as 500ms, 30s, 5m or 2h.",
        f"--source: 'foo' is not one of the brokers; known are {', '.join(names('brokers'))}.",
        "--lake 'ftp://x': write file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX.",
        "Give --metadata TOPIC, --index URL or both; or --index none to archive without an index.",
        "--on_failure dead_letter needs --dead_letter TOPIC.",
        "--on_failure dead_letter needs --give_up_after, such as 10m.",
        f"--path '{{topi}}': {{topi}} is not a field; known are {', '.join(FIELDS)}.",
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--runner=FlinkRunner"], "it is a file of one machine"),
        (["--runner=DataflowRunner"], "workers of Dataflow share no disk"),
        (["--runner=DataflowRunner", "--metrics_port=2112"], "workers of Dataflow serve none"),
        (["--runner=PortableRunner"], "does not tell which engine works"),
        (["--runner=FlinkRunner", "--processes=2"], "--processes belongs to one machine"),
        (["--runner=FlinkRunner", "--shard=1/2"], "FlinkRunner divides by --shards"),
        (["--shard=1/2", "--processes=2"], "leave out --processes"),
        (["--shard=2/2"], "write I/N, I from 0 to N-1"),
        (["--shard=/8"], "write I/N, I from 0 to N-1"),
        (["--on_failure=dead_letter", "--give_up_after=5m"], "needs --dead_letter TOPIC"),
        (["--on_failure=dead_letter", "--dead_letter=nats://h/d"], "needs --give_up_after"),
        (["--give_up_after=5m"], "retry never gives up"),
        (["--metadata=kafka://h:9092/orders"], "would archive itself for ever"),
        (["--dead_letter=kafka://h:9092/orders"], "would archive itself for ever"),
        (["--metadata_config=a=b"], "--metadata_config is given without --metadata"),
        (["--lake=file:///two"], "--lake is given 2 times"),
        (["--source_config=nonsense"], "--source_config 'nonsense': write NAME=VALUE."),
        (["--metrics_port=70000"], "write a port from 0 to 65535"),
        (["--batch_messages=0"], "write a whole number from 1 on"),
        (["--dead_letter="], "--dead_letter is empty"),
        (["--dry_run"], "Beam: argument --dry_run: expected one argument"),
        (["--num_workers=many"], "Beam: argument --num_workers: invalid int value"),
    ],
)
def test_what_cannot_work_is_refused(words: list[str], problem: str) -> None:
    assert problem in "\n".join(problems(PersistSettings, *PERSIST, *words))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "--selection is missing"),
        (["--selection", SELECTION], "--destination is missing"),
        (
            ["--selection", "{", "--destination", "kafka://h/t"],
            "--selection: The selection is not valid JSON",
        ),
        (
            ["--selection", '{"source": 1}', "--destination", "kafka://h/t"],
            "source is unknown; known are sources",
        ),
        (["--selection", "{}", "--destination", "kafka://h/t"], "the selection is empty"),
        (["--selection", "@/no/such/file", "--destination", "kafka://h/t"], "the file cannot be read"),
        (
            ["--selection", SELECTION, "--resume", "j"],
            "--selection belongs to the job; leave it out beside --resume.",
        ),
        (["--plan", "p", "--resume", "j"], "give one of them"),
    ],
)
def test_a_resubmission_that_makes_no_sense_is_refused(words: list[str], problem: str) -> None:
    assert problem in "\n".join(problems(ResubmitSettings, *RESUBMIT, *words))


def test_what_belongs_to_a_plan_is_not_given_beside_it(tmp_path: Path) -> None:
    names = ("selection", "timestamp", "partitions", "lossy", "order", "restore", "source_prefix")
    file = tmp_path / "resubmit.yaml"
    file.write_text("timestamp: original\npartitions: key\nrestore: true\nlossy: true\n")
    words = ["--selection", SELECTION, "--order=none", "--source_prefix=eu.", f"--config={file}"]
    told = problems(ResubmitSettings, *here(tmp_path), *words, "--plan=p")
    assert told == [f"--{name} belongs to the plan; leave it out beside --plan." for name in names]
    file.write_text("timestamp:\nmessages_per_second: 5\n")
    for name in ("plan", "resume"):
        settings, _ = parse(ResubmitSettings, [*here(tmp_path), f"--config={file}", f"--{name}=p"])
        assert (settings.options.timestamp, settings.rate.messages_per_second) == ("original", 5)


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        ("@/no/such/file", " '@/no/such/file': the file cannot be read (No such file or directory)."),
        ('{"all": true, "limt": 1}', ": limt is unknown; known are "),
        ("", " is empty: leave it out or give a value."),
    ],
)
def test_a_selection_that_is_wrong_is_one_problem(selection: str, told: str, tmp_path: Path) -> None:
    words = [*here(tmp_path), "--destination=kafka://h/t", "--selection", selection]
    [problem] = problems(PlanSettings, *words)
    assert problem.startswith(f"--selection{told}")


def test_an_api_open_to_others_must_be_meant() -> None:
    words = [*RESUBMIT, "--destination=a=kafka://h:1", "--host=0.0.0.0"]
    assert "without --tokens" in problems(ApiSettings, *words)[0]
    assert parse(ApiSettings, [*words, "--tokens=tokens.yaml"])[0].host == "0.0.0.0"


def test_jobs_on_dataflow_need_to_know_where() -> None:
    words = [*RESUBMIT, "--destination=a=kafka://h:1", "--launcher=dataflow", "--launcher_config=project=p"]
    assert problems(ApiSettings, *words) == [
        f"--launcher dataflow needs --launcher_config {name}=…."
        for name in ("region", "temp_location", "sdk_container_image")
    ]


def test_api_destination_settings_name_a_destination() -> None:
    words = [*RESUBMIT, "--destination=a=kafka://h:1", "--destination_config=b:x=1"]
    assert "with a NAME of --destination" in problems(ApiSettings, *words)[0]


def test_options_that_only_the_job_server_knows_pass_unless_they_are_typing_mistakes() -> None:
    words = [*PERSIST[:4], "--index=mongodb://h/d", "--runner=FlinkRunner", "--checkpointing_interval=10000"]
    assert parse(PersistSettings, words)[1] == words[-2:]
    assert problems(PersistSettings, *words, "--batch_mesages=5") == [
        "--batch_mesages is not known; did you mean --batch_messages?"
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
    assert problems(PersistSettings, *PERSIST, word) == [f"{name} is not known; {told}"]


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
    assert "--savepoint_path is not heeded" in problems(PersistSettings, *ignored)[0]


def test_a_job_server_that_is_not_there_is_told_before_anything_is_made(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("kind", KINDS)
def test_help_explains_every_setting_of_the_command(kind: type) -> None:
    text = build_parser(kind.command).format_help()
    for setting in settings_of(kind.command):
        assert f"--{setting.name}" in text
    assert "example" in text


@given(st.integers(1, 10**9), st.sampled_from(["", "b", "KB", "kb", "MiB", "GIB"]))
def test_any_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    factors = {"": 1, "b": 1, "kb": 1000, "mib": 1 << 20, "gib": 1 << 30}
    [setting] = [setting for setting in every_setting() if setting.name == "batch_bytes"]
    assert setting.kind.convert(f"{number}{unit}") == number * factors[unit.lower()]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "write one 'name: value' a line."),
        ("- a\n- b\n", "write one 'name: value' a line."),
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
        f"--config {file}: line 3: 'lake' stands there twice; leave one of them out.",
        f"--config {file}: line 8: 'region' stands there twice; leave one of them out.",
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
def test_who_only_looks_is_told_that_a_path_is_wrong(kind: Any, tmp_path: Path) -> None:
    told = problems(kind, f"--lake=file://{tmp_path}/lke", f"--index=sqlite://{tmp_path}/indx.db")
    assert f"--lake file://{tmp_path}/lke: there is no such directory." in told
    assert f"--index sqlite://{tmp_path}/indx.db: there is no such file." in told


def test_parsing_for_the_api_never_loads_beam() -> None:
    script = (
        "import sys; from pipelines.settings.parsing import parse\n"
        "from resubmit_api.settings import ApiSettings\n"
        f"parse(ApiSettings, {[*RESUBMIT, '--destination=a=nats://h:1']!r})\n"
        "assert 'apache_beam' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
