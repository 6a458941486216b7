"""What Beam's Flink runner is told by us, where no cluster is needed."""

from __future__ import annotations

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.runners.flink import choose_runner


def test_a_jar_that_is_only_written_is_of_the_version_that_was_named() -> None:
    words = ["--runner=FlinkRunner", "--output_executable_path=job.jar", "--flink_version=1.19"]
    options = PipelineOptions(words)
    assert choose_runner(options).default_job_server(options).flink_version() == "1.19"
