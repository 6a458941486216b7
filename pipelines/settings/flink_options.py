"""Options of Beam's Flink runner, with the defaults that our jobs need; loaded only where Flink is named."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

__all__ = ["FlinkNeeds", "missing_jar", "problems"]

_LONGEST_OF_PUBSUB = 300_000
"""Milliseconds: half of the time after which a reader has what no checkpoint reported delivered again."""


class FlinkNeeds(PipelineOptions):
    """Options of the Java runner, with the defaults that our jobs need."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("--checkpointing_interval", type=int, default=10_000)
        add("--max_bundle_time_mills", type=int, default=1000)
        for flag in (
            "finish_bundle_before_checkpointing",
            "externalized_checkpoints_enabled",
            "retain_externalized_checkpoints_on_cancellation",
        ):
            add(f"--{flag}", nargs="?", const=True, default=True, type=_flag)


def problems(words: Sequence[str], source: str) -> Iterator[str]:
    """Beam options of a streaming job that would prevent its messages from being acknowledged.

    Args:
        words: Beam's options.
        source: the URL that it reads.
    """
    needs = PipelineOptions(list(words)).view_as(FlinkNeeds)
    if source.startswith("pubsub:") and needs.checkpointing_interval > _LONGEST_OF_PUBSUB:
        yield (
            f"--checkpointing_interval={needs.checkpointing_interval}: what no checkpoint reports for ten "
            f"minutes is delivered by Pub/Sub again and archived twice; give {_LONGEST_OF_PUBSUB} or less."
        )
    if needs.checkpointing_interval <= 0:
        yield (
            f"--checkpointing_interval={needs.checkpointing_interval}: without checkpoints Flink never "
            "reports work as done, and no message would be acknowledged; give milliseconds, or remove "
            "it for 10000."
        )
    if _has(words, "savepoint_path") and not _has(words, "job_endpoint"):
        yield (
            "--savepoint_path is ignored for a job that is submitted as a jar: write the jar with "
            "--output_executable_path and run it from there, flink run --fromSavepoint PLACE JAR."
        )
    if not needs.finish_bundle_before_checkpointing:
        yield (
            "--finish_bundle_before_checkpointing=false: a checkpoint within a bundle can leave shards that "
            "are never read again, while the job runs and its checkpoints succeed; remove it."
        )


def _has(words: Sequence[str], name: str) -> bool:
    return any(word.partition("=")[0] == f"--{name}" for word in words)


def missing_jar(words: Sequence[str]) -> Iterator[str]:
    """Problems that would otherwise be found only after all other work."""
    jar = PipelineOptions(list(words)).view_as(FlinkRunnerOptions).flink_job_server_jar
    if jar and "://" not in jar and not Path(jar).is_file():
        yield f"--flink_job_server_jar {jar}: there is no such file."


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise argparse.ArgumentTypeError("write true or false")
    return text.lower() == "true"
