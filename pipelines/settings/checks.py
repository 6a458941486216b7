"""Checks settings before anything starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.settings.runner import IN_PROCESS
from pipelines.settings.selecting import SETTINGS_OF_PARTS, WORDS, selected_by
from resubmit_api.launchers import launcher
from transforms import registry
from transforms.errors import ConfigurationError
from transforms.lake import SCHEMES
from transforms.layout import Template
from transforms.replay.options import Options, Rate
from transforms.settings import settings_in

__all__ = ["problems"]

_Values = Mapping[str, Any]
_NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}"
_LEAST_MEMORY = 64 * 2**20
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LOOKING = ("plan", "resubmit", "jobs", "search", "show", "rebuild", "expire", "maintain", "cost")
_OF_THE_PLAN = ("selection", *WORDS, *(option.name for option in settings_in(Options)))
_SPREADING_RUNNERS = ("FlinkRunner", "DataflowRunner", "SparkRunner", "PortableRunner", "KafkaStreamsRunner")


def problems(command: str, values: _Values, given: Collection[str], runner: str | None) -> list[str]:
    """Every problem of a command's converted values, each with a remedy.

    Args:
        command: the command's name.
        values: by setting name, None if not given.
        given: names of the settings that were given.
        runner: the Beam runner's name, or None.
    """
    return [
        *_urls(values),
        *_paths(command, values),
        *_scale(command, values, runner),
        *_shard(values, runner),
        *_unserved(values, given, runner),
        *_memory(values),
        *(_replayed(values, given) if command in {"plan", "resubmit"} else ()),
        *(_selection(values, given) if command == "search" else ()),
        *(_indexed(values, given) if command == "persist" else ()),
        *_CHECKS.get(command, _nothing)(values),
    ]


def _urls(values: _Values) -> Iterator[str]:
    for name in ("source", "metadata", "dead_letter"):
        if isinstance(values.get(name), str):  # a source of expire is a name in the index
            yield from _backend(name, values[name], registry.broker)
    destination = values.get("destination")
    for url in [url for _, url in destination] if isinstance(destination, tuple) else [destination]:
        yield from _backend("destination", url, registry.broker)
    if values.get("index") != "none":
        yield from _backend("index", values.get("index"), registry.index)
    for lake in _lakes(values):
        if lake.partition("://")[0] not in SCHEMES or "://" not in lake:
            yield f"--lake {lake!r}: write file:///DIR, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX."


def _lakes(values: _Values) -> tuple[str, ...]:
    lakes = values.get("lake") or ()
    return (lakes,) if isinstance(lakes, str) else tuple(lakes)


def _paths(command: str, values: _Values) -> Iterator[str]:
    """With a wrong path, a reading command would silently find an empty index or lake."""
    given = [("lake", lake, "directory") for lake in _lakes(values)]
    if command != "rebuild":  # which creates the index
        given.append(("index", values.get("index") or "", "file"))
    for name, url, what in given if command in _LOOKING else ():
        path = _local_path(url)
        if path and "${" not in url and not path.exists():
            yield f"--{name} {url}: there is no such {what}."


def _local_path(url: str) -> Path | None:
    scheme, _, path = url.partition("://")
    if scheme == "file":
        return Path("/" + path.lstrip("/"))
    try:
        return registry.index_file(url)
    except ConfigurationError:  # a lake elsewhere, no index, or what _backend reports
        return None


def _backend(name: str, url: str | None, find: Callable[[str], object]) -> Iterator[str]:
    if not url:
        return
    try:
        find(url)
    except ConfigurationError as error:
        yield from (f"--{name}: {problem}" for problem in error.problems)


def _scale(command: str, values: _Values, runner: str | None) -> Iterator[str]:
    spread = runner in _SPREADING_RUNNERS
    index = values.get("index") or ""
    # The workers of a resubmission need no index; only the planning process does.
    if spread and command != "resubmit" and _local_path(index):
        yield f"--index {index}: it is a file on one machine, but {runner} uses many; use mongodb://HOST/DATABASE."
    if runner == "PortableRunner" and command in {"persist", "index"}:
        yield "--runner=PortableRunner does not name the engine; use --runner=FlinkRunner."
    if runner == "DataflowRunner" and str(values.get("lake", "")).startswith("file:"):
        yield f"--lake {values['lake']}: workers of Dataflow share no disk; use gs://BUCKET/PREFIX."
    if runner not in IN_PROCESS and (values.get("processes") or 1) > 1:
        yield f"--processes belongs to one machine; {runner} scales by --parallelism or --num_workers."


def _shard(values: _Values, runner: str | None) -> Iterator[str]:
    number, of = values.get("shard") or (0, 1)
    if of > 1 and (values.get("processes") or 1) > 1:
        yield f"--shard {number}/{of} is one process; remove --processes, or give it all shards."
    if of > 1 and runner not in IN_PROCESS:
        yield f"--shard {number}/{of} belongs to processes started one by one; {runner} divides by --shards."


def _unserved(values: _Values, given: Collection[str], runner: str | None) -> Iterator[str]:
    if runner == "DataflowRunner" and "metrics_port" in given and values["metrics_port"]:
        yield "--metrics_port: workers of Dataflow serve no metrics; use the job's counters. Remove it."


def _memory(values: _Values) -> Iterator[str]:
    if (values.get("memory") or _LEAST_MEMORY) < _LEAST_MEMORY:
        yield f"--memory {values['memory']}: it is for messages, so give 64MiB or more."


def _indexed(values: _Values, given: Collection[str]) -> Iterator[str]:
    if "index" not in given and not values["metadata"]:
        yield "Give --metadata TOPIC, --index URL or both; or --index none to archive without an index."


def _check_persist(values: _Values) -> Iterator[str]:
    if values["on_failure"] == "dead_letter" and not values["dead_letter"]:
        yield "--on_failure dead_letter needs --dead_letter TOPIC."
    if values["on_failure"] == "dead_letter" and not values["give_up_after"]:
        yield "--on_failure dead_letter needs --give_up_after, such as 10m."
    if values["on_failure"] == "retry" and values["give_up_after"]:
        yield "--give_up_after needs --on_failure dead_letter; retry never gives up."
    yield from _template(values["path"])
    yield from _loops(values)
    yield from _orphans(values, "metadata", "dead_letter")


def _template(path: str) -> Iterator[str]:
    try:
        Template.parse(path)
    except ConfigurationError as error:
        yield from error.problems


def _loops(values: _Values) -> Iterator[str]:
    source = urlsplit(values["source"] or "")
    for name in ("metadata", "dead_letter"):
        own = urlsplit(values[name] or "")
        topic = own.path.strip("/")
        if topic and own[:2] == source[:2] and topic in source.path.strip("/").split(","):
            yield f"--{name} {topic} is one of the topics of --source: it would archive itself for ever."


def _check_index(values: _Values) -> Iterator[str]:
    yield from _orphans(values, "dead_letter")


def _replayed(values: _Values, given: Collection[str]) -> Iterator[str]:
    known = [(name, what) for name, what in (("plan", "plan"), ("resume", "job")) if values.get(name)]
    if not known:
        yield from _described(values, given)
    for name, what in known:
        for other in _OF_THE_PLAN:
            if other in given:
                yield f"--{other} belongs to the {what}; remove it, or remove --{name}."
    if len(known) > 1:
        yield "--plan starts a job and --resume continues one: give only one of them."


def _described(values: _Values, given: Collection[str]) -> Iterator[str]:
    if not {"selection", *WORDS} & set(given):
        yield "Select the messages to send: --source, --from, --to, --where and --id, or --selection JSON."
    else:
        yield from _selection(values, given)
    if not values["destination"]:
        yield "--destination is missing: a broker and one topic, such as kafka://HOST:9092/orders-replay."


def _check_jobs(values: _Values) -> Iterator[str]:
    for name in ("action", "follow"):
        if values[name] and not values["job"]:
            yield f"--{name} needs --job JOB."
    if values["job"] and values["state"]:
        yield "--state is for lists; remove it, or remove --job."
    for name in (limit.name for limit in settings_in(Rate)):
        if values[name] and values["action"] != "rate":
            yield f"--{name} needs --action rate."


def _selection(values: _Values, given: Collection[str]) -> Iterator[str]:
    if values["selection"]:
        for name in WORDS:
            if name in given:
                yield f"--{name} and --selection both select messages: give only one of them."
    try:
        selected_by(values)
    except ConfigurationError as error:
        of = _of_json if values["selection"] else _of_words
        yield from (of(problem.removeprefix("selection: ")) for problem in error.problems)


def _of_json(problem: str) -> str:
    return f"--selection: {problem}"


def _of_words(problem: str) -> str:
    part, rest = re.split(r"(?<=\w)(?=\W|$)", problem, maxsplit=1)
    return f"--{SETTINGS_OF_PARTS[part]}{rest.removeprefix('[0]')}" if part in SETTINGS_OF_PARTS else problem


def _nothing(values: _Values) -> Iterator[str]:
    del values
    yield from ()


def _check_api(values: _Values) -> Iterator[str]:
    names = [name for name, _ in values["destination"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"--destination {name} is given twice."
    if values["host"] not in _LOOPBACK and not values["tokens"]:
        yield (
            f"--host {values['host']}: without --tokens everybody who reaches the API may read and send "
            "every message; make a token with persistor token."
        )
    for url in values["metrics"]:
        if not url.startswith(("http://", "https://")):
            yield f"--metrics {url}: write http://HOST:2112/metrics."
    for collection, name in values["compatible"]:
        if name not in names:
            yield f"--compatible {collection}={name}: {name} is not a NAME of --destination."
    yield from _launcher(values)
    for key, _ in values["destination_config"]:
        name, colon, _setting = key.partition(":")
        if not colon or name not in names:
            yield f"--destination_config {key!r}: write NAME:SETTING=VALUE with a NAME of --destination."


def _check_token(values: _Values) -> Iterator[str]:
    if not re.fullmatch(_NAME, values["name"] or "x"):
        yield "--name: write 1 to 100 letters, digits, '.', '_', '-' or '@', the first a letter or digit."


def _launcher(values: _Values) -> Iterator[str]:
    try:
        yield from launcher(values["launcher"]).problems(dict(values["launcher_config"]))
    except ConfigurationError as error:
        yield from (f"--launcher: {problem}" for problem in error.problems)


def _orphans(values: _Values, *names: str) -> Iterator[str]:
    for name in names:
        if values[f"{name}_config"] and not values[name]:
            yield f"--{name}_config is given without --{name}."


_CHECKS: dict[str, Callable[[_Values], Iterator[str]]] = {
    "persist": _check_persist,
    "index": _check_index,
    "jobs": _check_jobs,
    "api": _check_api,
    "token": _check_token,
}
