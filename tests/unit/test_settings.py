"""Settings of the commands: their kinds, their defaults, and what is refused."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.settings.declared import every_setting, settings_of
from pipelines.settings.parsing import build_parser, parse
from pipelines.settings.replay import PlanSettings, ResubmitSettings
from pipelines.settings.streaming import PersistSettings
from resubmit_api.settings import ApiSettings, DestinationSettings
from tests.unit._settings import KINDS, PERSIST, RESUBMIT, SELECTION, here, problems
from transforms.errors import ConfigurationError
from transforms.layout import FIELDS
from transforms.model import Layout
from transforms.registry import names


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


def test_every_problem_is_reported_at_once() -> None:
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
        "--batch_mesages is unknown; did you mean --batch_messages?",
        "--port is a setting of persistor api, not of persist.",
        "'stray' has no setting before it; write --SETTING VALUE.",
        "--format 'xml': write one of avro, jsonl, parquet.",
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
        (["--runner=FlinkRunner"], "it is a file on one machine"),
        (["--runner=DataflowRunner"], "workers of Dataflow share no disk"),
        (["--runner=DataflowRunner", "--metrics_port=2112"], "workers of Dataflow serve no metrics"),
        (["--runner=PortableRunner"], "does not name the engine"),
        (["--runner=FlinkRunner", "--processes=2"], "--processes belongs to one machine"),
        (["--runner=FlinkRunner", "--shard=1/2"], "FlinkRunner divides by --shards"),
        (["--shard=1/2", "--processes=2"], "remove --processes"),
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
        (["--metrics_port=false"], "0 for none (`off` in YAML means false)"),
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
        ([], "Select the messages to send"),
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
            "--selection belongs to the job; remove it, or remove --resume.",
        ),
        (["--plan", "p", "--resume", "j"], "give only one of them"),
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
    assert told == [f"--{name} belongs to the plan; remove it, or remove --plan." for name in names]
    file.write_text("timestamp:\nmessages_per_second: 5\n")
    for name in ("plan", "resume"):
        settings, _ = parse(ResubmitSettings, [*here(tmp_path), f"--config={file}", f"--{name}=p"])
        assert (settings.options.timestamp, settings.rate.messages_per_second) == ("original", 5)


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        ("@/no/such/file", " '@/no/such/file': the file cannot be read (No such file or directory)."),
        ('{"all": true, "limt": 1}', ": limt is unknown; known are "),
        ("", " is empty: remove it or give a value."),
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


def test_parsing_for_the_api_never_loads_beam() -> None:
    script = (
        "import sys; from pipelines.settings.parsing import parse\n"
        "from resubmit_api.settings import ApiSettings\n"
        f"parse(ApiSettings, {[*RESUBMIT, '--destination=a=nats://h:1']!r})\n"
        "assert 'apache_beam' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
