"""The jobs as Dataflow's runner would submit them, made without a cloud.

What is looked at is the final proto: what the runner makes of a pipeline after its own changes.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.coders import Coder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as proto
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.utils import proto_utils
from google.cloud.dataflow_v1beta3.types import Job
from google.protobuf import json_format

from pipelines import index, persist
from pipelines.flex import main
from pipelines.settings.parsing import parse
from pipelines.settings.streaming import IndexSettings, PersistSettings
from tests._archive import archive
from tests._messages import row, table
from tests.servers.dataflow import Dataflow
from tests.servers.gcs import GCS
from transforms.brokers import Destination
from transforms.indexes import sqlite
from transforms.lake import Lake
from transforms.replay import Options, freeze_plan
from transforms.resubmit import ResubmitLanes
from transforms.selection import Selection

_ROOT = Path(__file__).parents[2]
_SECRET = "correct-horse-battery"
_RUNNER = [
    "--runner=DataflowRunner",
    "--project=my-project",
    "--region=europe-west1",
    "--temp_location=gs://bucket/temp",
    "--sdk_container_image=registry/persistor-worker:1",
    "--dry_run=true",
    "--no_auth",
    "--streaming",
]
_PERSIST = [
    "--source=kafka://broker:9092/orders",
    "--source_config=sasl.password=${env:PERSISTOR_TEST_SECRET}",
    "--lake=gs://archive/kafka",
    "--lake_config=service_account_key=${env:PERSISTOR_TEST_SECRET}",
    "--index=mongodb://me:${env:PERSISTOR_TEST_SECRET}@mongo/persistor",
    "--metadata=kafka://broker:9092/meta",
    "--metadata_config=sasl.password=${env:PERSISTOR_TEST_SECRET}",
    "--dead_letter=kafka://broker:9092/dead",
    "--shards=7",
]
_INDEX = [
    "--metadata=kafka://broker:9092/meta",
    "--metadata_config=sasl.password=${env:PERSISTOR_TEST_SECRET}",
    "--index=mongodb://me:${env:PERSISTOR_TEST_SECRET}@mongo/persistor",
    "--dead_letter=kafka://broker:9092/dead",
]


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSISTOR_TEST_SECRET", _SECRET)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Credentials whose tokens a server of the tests gives out."""
    with Dataflow(_ROOT / "templates" / "dataflow") as service:
        yield service.account(tmp_path_factory.mktemp("account") / "key.json")


@pytest.fixture
def plan(tmp_path: Path) -> tuple[Lake, Any]:
    lake = Lake(f"file://{tmp_path}/lake")
    found = sqlite.open(f"sqlite://{tmp_path}/index.db")
    for partition in range(5):
        rows = [row(partition=partition, offset=n, publish_time=n) for n in range(20)]
        archive(lake, found, table(*rows))
    destination = Destination(topic="replay", partitions=3, carries=-1, exactly_once=True)
    made = freeze_plan(
        found,
        [lake],
        Selection(all=True),
        url="kafka://broker:9092/replay",
        destination=destination,
        options=Options(),
    )
    return lake, made


def _graph(build: Callable[[beam.Pipeline], object], arguments: list[str]) -> Any:
    pipeline = beam.Pipeline(options=PipelineOptions(arguments))
    build(pipeline)
    pipeline.run()
    return pipeline.runner.proto_pipeline


@functools.cache
def _persist() -> Any:
    settings, arguments = parse(PersistSettings, [*_PERSIST, *_RUNNER])
    return _graph(lambda p: persist.build(p, settings, range(7), 7), arguments)


@functools.cache
def _index() -> Any:
    settings, arguments = parse(IndexSettings, [*_INDEX, *_RUNNER])
    return _graph(lambda p: index.build(p, settings, range(7), 7), arguments)


def _named(graph: Any, name: str) -> Any:
    [found] = [t for t in graph.components.transforms.values() if t.unique_name.endswith(name) and t.spec.urn]
    return found


def _leaves(graph: Any) -> Iterator[Any]:
    return (t for t in graph.components.transforms.values() if not t.subtransforms)


def _behind(graph: Any, transform: Any) -> Iterator[Any]:
    """Every transform that what this one gives comes to."""
    given = set(transform.outputs.values())
    for other in _leaves(graph):
        if given & set(other.inputs.values()):
            yield other
            yield from _behind(graph, other)


@pytest.mark.parametrize("make", [_persist, _index])
def test_a_streaming_job_reads_by_a_splittable_dofn_with_bundle_finalizers(make: Callable[[], Any]) -> None:
    graph = make()
    read = _named(graph, "ReadBatches/Read")
    payload = proto_utils.parse_Bytes(read.spec.payload, proto.ParDoPayload)
    assert payload.restriction_coder_id
    assert payload.requests_finalization
    assert common_urns.requirements.REQUIRES_SPLITTABLE_DOFN.urn in graph.requirements
    assert common_urns.requirements.REQUIRES_BUNDLE_FINALIZATION.urn in graph.requirements
    [batches] = read.outputs.values()
    assert graph.components.pcollections[batches].is_bounded == proto.IsBounded.UNBOUNDED


@pytest.mark.parametrize("make", [_persist, _index])
def test_no_payload_crosses_a_shuffle(make: Callable[[], Any]) -> None:
    graph = make()
    behind = list(_behind(graph, _named(graph, "ReadBatches/Read")))
    assert len(behind) >= 3
    assert {t.spec.urn for t in behind} == {common_urns.primitives.PAR_DO.urn}
    payloads = [proto_utils.parse_Bytes(t.spec.payload, proto.ParDoPayload) for t in behind]
    # Nor by a state or a side input, which would part the stages as well.
    assert not any(p.state_specs or p.timer_family_specs or p.side_inputs for p in payloads)


@pytest.mark.parametrize("make", [_persist, _index])
def test_coders_of_keys_and_positions_are_deterministic(make: Callable[[], Any]) -> None:
    graph = make()
    coders = graph.components.coders
    read = proto_utils.parse_Bytes(_named(graph, "ReadBatches/Read").spec.payload, proto.ParDoPayload)
    context = PipelineContext(graph.components)
    positions = context.coders.get_by_id(coders[read.restriction_coder_id].component_coder_ids[0])
    assert _is_deterministic(positions)
    grouped = [t for t in _leaves(graph) if t.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn]
    assert len(grouped) == 1  # the shards' numbers are spread over the workers
    for group in grouped:
        [keyed] = group.inputs.values()
        pair = coders[graph.components.pcollections[keyed].coder_id]
        key = context.coders.get_by_id(pair.component_coder_ids[0])
        assert _is_deterministic(key)


def _is_deterministic(coder: Coder) -> bool:
    return bool(coder.is_deterministic())


@pytest.mark.parametrize("make", [_persist, _index])
def test_secrets_are_in_the_graph_as_references_only(make: Callable[[], Any]) -> None:
    graph = make().SerializeToString()
    assert _SECRET.encode() not in graph
    assert _SECRET.encode() not in _unpickled_text(graph)


def _unpickled_text(graph: bytes) -> bytes:
    """Every DoFn that the graph holds, unpickled and told in full."""
    found = proto.Pipeline.FromString(graph)
    told = []
    for transform in found.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = proto_utils.parse_Bytes(transform.spec.payload, proto.ParDoPayload)
            if payload.do_fn.urn == "beam:dofn:pickled_python_info:v1":
                fn = beam.internal.pickler.loads(payload.do_fn.payload)[0]
                told.append(repr(vars(fn)))
    assert any("${env:PERSISTOR_TEST_SECRET}" in one for one in told)
    return "\n".join(told).encode()


def test_the_lanes_of_a_resubmission_are_spread_and_no_message_leaves_its_worker(
    plan: tuple[Lake, Any],
) -> None:
    lake, made = plan
    config = {"sasl.password": "${env:PERSISTOR_TEST_SECRET}"}
    arguments = [word for word in _RUNNER if word != "--streaming"]
    graph = _graph(lambda p: p | "Resubmit" >> ResubmitLanes(made, (lake.url,), {}, config), arguments)
    publish = _named(graph, "Resubmit/Publish")
    before = [t for t in _leaves(graph) if t.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn]
    assert len(before) == 1  # lanes are numbers; what is read from the lake goes from there to the broker
    assert list(_behind(graph, publish)) == []
    assert publish in list(_behind(graph, before[0]))
    assert all(
        collection.is_bounded == proto.IsBounded.BOUNDED
        for collection in graph.components.pcollections.values()
    )
    assert _SECRET.encode() not in graph.SerializeToString()
    assert _SECRET.encode() not in _unpickled_text(graph.SerializeToString())


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("persist", [*_PERSIST, '--exclude=["a", "b*"]', "--batch_age=1m"]),
        ("index", _INDEX),
        ("resubmit", []),
    ],
)
def test_the_templates_launcher_makes_a_job_as_google_runs_it(
    gcs: GCS, account: Path, plan: tuple[Lake, Any], command: str, words: list[str]
) -> None:
    """The launcher runs the image's program with the parameters and wants a job in the bucket."""
    bucket = gcs.create_bucket(f"flex-{uuid.uuid4().hex[:8]}")
    lake, made = plan
    if command == "resubmit":
        words = [f"--resume={made.job}", f'--lake=["{lake.url}"]']
    done = subprocess.run(
        [
            sys.executable,
            str(_ROOT / "templates" / "dataflow" / "launch.py"),
            f"--command={command}",
            *words,
            "--runner=DataflowRunner",
            "--project=my-project",
            "--region=europe-west1",
            f"--job_name=job-{command}",
            f"--temp_location={bucket}/temp",
            f"--staging_location={bucket}/staging",
            f"--template_location={bucket}/staging/template_launches/job_object",
            "--sdk_container_image=registry/persistor-worker:1",
        ],
        env={
            **os.environ,
            "STORAGE_EMULATOR_HOST": gcs.url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(account),
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    store = Lake(f"{bucket}/staging", gcs.config)
    text = bytes(store.get("template_launches/job_object")).decode()
    job = Job()
    json_format.Parse(text, Job.pb(job), ignore_unknown_fields=False)
    assert (job.name, job.type_.name) == (
        f"job-{command}",
        "JOB_TYPE_BATCH" if command == "resubmit" else "JOB_TYPE_STREAMING",
    )
    assert _SECRET not in text
    [staged] = [path for path, _ in store.list() if path.endswith("pipeline.pb")]
    graph = proto.Pipeline.FromString(bytes(store.get(staged)))
    images = {
        proto_utils.parse_Bytes(environment.payload, proto.DockerPayload).container_image
        for environment in graph.components.environments.values()
    }
    assert images == {"registry/persistor-worker:1"}
    assert json.loads(text)["environment"]


def test_what_a_template_cannot_do_is_reported_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--command=archive"]) == 2
    assert main(["--command=resubmit", "--lake=gs://archive"]) == 2
    assert (
        main(
            [
                "--command=persist",
                "--source=kafka://b/t",
                "--lake=file:///lake",
                "--index=sqlite:///i",
                *_RUNNER,
            ]
        )
        == 2
    )
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "persistor: --command: write one of persist, index, resubmit, once."
    assert any("workers of Dataflow share no disk" in line for line in told)
    assert any("it is a file on one machine" in line for line in told)
