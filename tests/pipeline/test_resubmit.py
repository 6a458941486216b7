"""The resubmission pipeline as a whole, on the in-process runner."""

from __future__ import annotations

from pathlib import Path

import pytest
from apache_beam import Pipeline
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that

from pipelines import resubmit
from tests._archive import archive
from tests._brokers import NatsSite
from tests._messages import row, table
from tests._replay import freeze, settings
from transforms.errors import ConfigurationError
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.resubmit import ResubmitLanes


def fill(lake: Lake, index: Index) -> None:
    for partition in range(3):
        archive(lake, index, table(*[row(partition=partition, offset=n, data=b"x") for n in range(20)]))


def test_every_lane_gives_its_report(nats_site: NatsSite, lake: Lake, index: Index, subject: str) -> None:
    fill(lake, index)
    url = f"{nats_site.server.url}/{subject}"
    frozen = freeze(lake, index, url)
    assert frozen.lanes == {0: 60}

    def all_sent(reports: list[dict[str, object]]) -> None:
        assert [(r["planned"], r["published"], r["exit_code"]) for r in reports] == [(60, 60, 0)]

    with Pipeline(FnApiRunner()) as pipeline:
        assert_that(pipeline | ResubmitLanes(frozen, (lake.url,), {}, {}), all_sent)


def test_the_progress_ends_with_all_that_was_done(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    fill(lake, index)
    told: list[tuple[int, int, int]] = []
    made = settings(
        tmp_path, f"{nats_site.server.url}/{subject}", selection='{"sources": ["orders"], "limit": 45}'
    )
    report = resubmit.run(made, progress=lambda *counts: told.append(counts))
    assert (report.planned, report.published, told[-1]) == (45, 45, (45, 0, 45))


def test_a_selection_of_nothing_publishes_nothing(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    report = resubmit.run(
        settings(tmp_path, f"{nats_site.server.url}/{subject}", selection='{"sources": ["absent"]}')
    )
    assert (report.planned, report.published, report.exit_code) == (0, 0, 0)


def test_a_subject_that_no_stream_takes_refuses_the_job(
    nats_site: NatsSite, lake: Lake, index: Index, tmp_path: Path, subject: str
) -> None:
    fill(lake, index)
    with pytest.raises(ConfigurationError, match="No JetStream stream takes the subject"):
        resubmit.run(settings(tmp_path, f"{nats_site.server.url}/absent"))
    assert index.list_jobs(9) == []
