"""Dataflow's Flex templates: their parameters, and how these become a job.

The launcher of a template runs :func:`main` on its own machine, with each parameter as ``--NAME=VALUE``,
to build the job's graph. The program must end without waiting for the job. A parameter is given once, so
a repeatable setting also accepts a JSON list, and a flag takes ``true`` or ``false``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, WorkerOptions

from pipelines import index, persist
from pipelines.settings.declared import settings_of
from pipelines.settings.parsing import parse
from pipelines.settings.replay import ResubmitSettings
from pipelines.settings.streaming import IndexSettings, PersistSettings
from pipelines.settings.wording import in_words_of_commands
from transforms.errors import ConfigurationError
from transforms.lake import Lake
from transforms.replay.plans import load_plan
from transforms.resubmit import ResubmitLanes
from transforms.settings import Setting
from transforms.settings.kinds import FLAG

__all__ = ["TEMPLATES", "main", "parameters"]

TEMPLATES = ("persist", "index", "resubmit")
"""The commands that have a template."""

_OF_ONE_MACHINE = {"processes", "shard", "metrics_host", "metrics_port"}
# The stored plan contains everything else that a worker needs.
_OF_A_PLAN = {"resume", "lake", "lake_config", "destination_config"}


def parameters(command: str) -> list[Setting]:
    """The settings that a command's template accepts."""
    settings = settings_of(command)
    if command == "resubmit":
        return [setting for setting in settings if setting.name in _OF_A_PLAN]
    return [setting for setting in settings if setting.name not in _OF_ONE_MACHINE]


def main(argv: Sequence[str] | None = None) -> int:
    """Build the graph of the job named by ``--command``, submit it and return.

    Args:
        argv: the launcher's arguments; default: those of the process.

    Returns:
        The exit code: 0 submitted, 2 the request or the settings are not valid.
    """
    try:
        _launch(sys.argv[1:] if argv is None else argv)
    except ConfigurationError as error:
        sys.stderr.writelines(f"persistor: {in_words_of_commands(problem)}\n" for problem in error.problems)
        return 2
    return 0


def _launch(argv: Sequence[str]) -> None:
    given = [word.removeprefix("--command=") for word in argv if word.startswith("--command=")]
    if len(given) != 1 or given[0] not in TEMPLATES:
        raise ConfigurationError(f"--command: write one of {', '.join(TEMPLATES)}, once.")
    rest = [word for word in argv if not word.startswith("--command=")]
    _HANDED_OVER[given[0]](list(_words(given[0], rest)))


def _words(command: str, argv: Sequence[str]) -> Iterator[str]:
    """The equivalent words of a command line."""
    known = {setting.name: setting for setting in settings_of(command)}
    for word in argv:
        name, _, value = word.removeprefix("--").partition("=")
        setting = known.get(name)
        if setting is None or not (setting.repeatable or setting.kind is FLAG):
            yield word
        elif setting.repeatable:
            yield from (f"--{name}={one}" for one in _each(value))
        elif value == "true":
            yield f"--{name}"


def _each(value: str) -> list[str]:
    try:
        values = json.loads(value)
    except ValueError:
        return [value]
    return values if isinstance(values, list) and all(isinstance(one, str) for one in values) else [value]


def _persist(words: list[str]) -> None:
    settings, beam_args = parse(PersistSettings, words)
    pipeline = beam.Pipeline(options=PipelineOptions([*beam_args, "--streaming"]))
    persist.build(pipeline, settings, range(settings.shards), settings.shards)
    pipeline.run()


def _index(words: list[str]) -> None:
    settings, beam_args = parse(IndexSettings, words)
    pipeline = beam.Pipeline(options=PipelineOptions([*beam_args, "--streaming"]))
    index.build(pipeline, settings, range(settings.shards), settings.shards)
    pipeline.run()


def _resubmit(words: list[str]) -> None:
    """Publish the lanes of a stored plan; the process that launched the job keeps its row."""
    settings, beam_args = parse(ResubmitSettings, [*words, "--index=none"])
    if settings.resume is None:
        raise ConfigurationError("--resume is missing: give the id of a planned job.")
    plan = load_plan(Lake(settings.lakes[0], settings.lake_config), settings.resume)
    options = PipelineOptions(beam_args)
    # The rate limit is divided by this number: too high is too slow, too low would exceed the limit.
    workers = options.view_as(WorkerOptions).max_num_workers or len(plan.lanes)
    pipeline = beam.Pipeline(options=options)
    lanes = ResubmitLanes(
        plan, settings.lakes, settings.lake_config, settings.destination_config, max(workers, 1)
    )
    _ = pipeline | "Resubmit" >> lanes
    pipeline.run()


_HANDED_OVER = {"persist": _persist, "index": _index, "resubmit": _resubmit}
