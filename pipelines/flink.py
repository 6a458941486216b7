"""What the streaming jobs need of Beam's Flink runner, set by itself; loaded only where Flink is named.

On Flink a bundle is done for good when the checkpoint behind it is complete, so that is when
messages are acknowledged at their broker.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from apache_beam.options.pipeline_options import PipelineOptions

__all__ = ["FlinkNeeds", "problems"]


class FlinkNeeds(PipelineOptions):
    """Options of the Java runner, with the defaults that our jobs need instead of its own."""

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


def problems(words: Sequence[str]) -> Iterator[str]:
    """What of a streaming job's options for Beam would keep its messages from being acknowledged."""
    needs = PipelineOptions(list(words)).view_as(FlinkNeeds)
    if needs.checkpointing_interval <= 0:
        yield (
            f"--checkpointing_interval={needs.checkpointing_interval}: without checkpoints Flink never tells "
            "that work is done, and no message would be acknowledged; give milliseconds, or leave it out for "
            "10000."
        )
    if not needs.finish_bundle_before_checkpointing:
        yield (
            "--finish_bundle_before_checkpointing=false: a checkpoint within a bundle can leave shards that "
            "are never read again, while the job runs and its checkpoints succeed; leave it out."
        )


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise argparse.ArgumentTypeError("write true or false")
    return text.lower() == "true"
