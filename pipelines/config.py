"""Every setting of every command, declared once: the parser, the help and the README are made from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["EPILOGS", "FLAG", "PAIRS", "SETTINGS", "SUMMARIES", "Kind", "Setting", "settings_of"]


@dataclass(frozen=True)
class Kind:
    """How a setting is written.

    Attributes:
        metavar: what stands for the value in the help.
        convert: from the text to the value; raises ``ValueError`` saying what is wanted.
    """

    metavar: str
    convert: Callable[[str], Any]


@dataclass(frozen=True)
class Setting:
    """One setting of the commands that it names.

    Attributes:
        default: as it would be typed; None where there is none.
        repeatable: may be given more than once; the value is a tuple (a dict for ``PAIRS``).
    """

    name: str
    commands: tuple[str, ...]
    group: str
    kind: Kind
    help: str
    default: str | None = None
    required: bool = False
    repeatable: bool = False
    choices: tuple[str, ...] = ()


def settings_of(command: str) -> list[Setting]:
    """The settings of a command in the order of the help."""
    return [setting for setting in SETTINGS if command in setting.commands]


_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_AGES = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _size(text: str) -> int:
    match = re.fullmatch(r"([0-9]+) ?([A-Za-z]*)", text)
    if not match or match[2].lower() not in _SIZES or int(match[1]) == 0:
        raise ValueError("write a size such as 500kB, 64MiB or 1GiB")
    return int(match[1]) * _SIZES[match[2].lower()]


def _age(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)", text)
    if not match or match[2] not in _AGES or float(match[1]) == 0:
        raise ValueError("write a time such as 500ms, 30s, 5m or 2h")
    return float(match[1]) * _AGES[match[2]]


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) == 0:
        raise ValueError("write a whole number from 1 on")
    return int(text)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError("write a whole number from 0 on")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError("write I/N, I from 0 to N-1: 0/8 is the first of eight")
    return int(match[1]), int(match[2])


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError("write a port from 0 to 65535")
    return int(text)


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("write true or false")
    return text == "true"


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError("write NAME=VALUE")
    return name, value


def _text_or_file(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the file cannot be read ({error})") from error


_URL, _TEXT = Kind("URL", str), Kind("TEXT", str)
_COUNT, _WHOLE, _PORT = Kind("N", _count), Kind("N", _whole), Kind("PORT", _port)
_SIZE, _AGE = Kind("SIZE", _size), Kind("TIME", _age)
PAIRS = Kind("NAME=VALUE", _pair)
FLAG = Kind("", _flag)

_PERSIST, _INDEX, _RESUBMIT = ("persist",), ("index",), ("resubmit",)
_REBUILD, _API = ("rebuild",), ("api",)
_STREAMING = ("persist", "index")
_REPLAYING = ("resubmit", "api")
_LAKE_GROUP, _BROKER, _INDEX_GROUP = "lake", "broker", "index"
_BATCHES, _FAILURES, _RUNNING = "batches", "failures", "running"

_CLIENT = (
    "any setting of the broker's client, such as sasl.username=me; values may be ${env:NAME} or ${file:PATH}"
)
_INDEX_URL = "mongodb://HOST/DATABASE, or sqlite:///FILE on one machine"

SETTINGS: tuple[Setting, ...] = (
    Setting("source", _PERSIST, _BROKER, _URL,
            "what to archive: kafka://HOST:9092/orders,payments or a pattern such as "
            "kafka://HOST:9092/eu.*, nats://HOST:4222/SUBJECT, pubsub://PROJECT/SUBSCRIPTION",
            required=True),
    Setting("source_config", _PERSIST, _BROKER, PAIRS, _CLIENT, repeatable=True),
    Setting("source_prefix", _PERSIST, _BROKER, _TEXT,
            "put before the topic to name the source, so that clusters with the same topics can share an "
            "index, such as eu.",
            default=""),
    Setting("exclude", _PERSIST, _BROKER, Kind("PATTERN", str),
            "topics that a pattern shall leave out, such as 'test.*'",
            repeatable=True),
    Setting("destination", _RESUBMIT, _BROKER, _URL,
            "where to send: a broker and one topic, kafka://HOST:9092/orders-replay; with --resume it may "
            "be left out"),
    Setting("destination", _API, _BROKER, Kind("NAME=URL", _pair),
            "a broker that requests may send to, under the name they use: replay=kafka://HOST:9092",
            required=True, repeatable=True),
    Setting("destination_config", _RESUBMIT, _BROKER, PAIRS, _CLIENT, repeatable=True),
    Setting("destination_config", _API, _BROKER, Kind("NAME:SETTING=VALUE", _pair),
            "a setting of one destination's client, behind the destination's name: "
            "replay:sasl.username=me",
            repeatable=True),
    Setting("lake", (*_PERSIST, *_REBUILD), _LAKE_GROUP, _URL,
            "where the files lie: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or "
            "file:///DIRECTORY",
            required=True),
    Setting("lake", _REPLAYING, _LAKE_GROUP, _URL,
            "a lake that the index points into; a location outside of those given is refused",
            required=True, repeatable=True),
    Setting("lake_config", (*_PERSIST, *_RESUBMIT, *_REBUILD, *_API), _LAKE_GROUP, PAIRS,
            "a setting of the store's client, such as endpoint=http://HOST:9000; what is not given comes "
            "from the usual AWS_…, GOOGLE_… and AZURE_… variables",
            repeatable=True),
    Setting("path", _PERSIST, _LAKE_GROUP, Kind("TEMPLATE", str),
            "directory of a message's file; fields are {topic} {partition} {date} {hour} {minute} {key} "
            "{header[NAME]}, times are the publish time in UTC",
            default="{topic}/date={date}/hour={hour}"),
    Setting("format", _PERSIST, _LAKE_GROUP, Kind("NAME", str),
            "format of the files",
            default="parquet", choices=("parquet", "avro", "jsonl")),
    Setting("index", _PERSIST, _INDEX_GROUP, _URL,
            f"write the index directly: {_INDEX_URL}; none archives without an index, which rebuild can "
            "make later"),
    Setting("index", (*_INDEX, *_RESUBMIT, *_REBUILD, *_API), _INDEX_GROUP, _URL,
            f"the index: {_INDEX_URL}",
            required=True),
    Setting("metadata", _PERSIST, _INDEX_GROUP, _URL,
            "publish what was archived to this topic, for `persistor index` here or on another site"),
    Setting("metadata", _INDEX, _INDEX_GROUP, _URL,
            "the topic that `persistor persist --metadata` writes to",
            required=True),
    Setting("metadata_config", _STREAMING, _INDEX_GROUP, PAIRS, _CLIENT, repeatable=True),
    Setting("batch_messages", _PERSIST, _BATCHES, _COUNT,
            "close a batch at so many messages",
            default="10000"),
    Setting("batch_bytes", _PERSIST, _BATCHES, _SIZE, "or at so many bytes", default="64MiB"),
    Setting("batch_age", _PERSIST, _BATCHES, _AGE,
            "or when its first message has waited so long, also on a quiet topic",
            default="30s"),
    Setting("on_failure", _PERSIST, _FAILURES, Kind("CHOICE", str),
            "while the lake is away: retry leaves the messages on the broker until it is back, "
            "dead_letter gives a batch up after --give_up_after",
            default="retry", choices=("retry", "dead_letter")),
    Setting("give_up_after", _PERSIST, _FAILURES, _AGE,
            "how long to retry before a batch goes to the dead letters"),
    Setting("dead_letter", _STREAMING, _FAILURES, _URL,
            "topic for messages that can never be archived or indexed, unchanged and with the reason in "
            "headers; without it such a message stops the job"),
    Setting("dead_letter_config", _STREAMING, _FAILURES, PAIRS, _CLIENT, repeatable=True),
    Setting("selection", _RESUBMIT, _BROKER, Kind("JSON", _text_or_file),
            'what to send, as JSON or @FILE: {"sources": ["orders"], "published_from": '
            '"2026-11-01T00:00:00Z", "where": [{"attributes.version": "2"}]}'),
    Setting("plan_only", _RESUBMIT, _RUNNING, FLAG,
            "print what would be sent and what stands against it, and send nothing"),
    Setting("resume", _RESUBMIT, _RUNNING, Kind("JOB", str),
            "go on with an interrupted job behind the last message that was confirmed"),
    Setting("timestamp", _RESUBMIT, _RUNNING, Kind("CHOICE", str),
            "publish time of the sent messages",
            default="original", choices=("original", "now")),
    Setting("partitions", _RESUBMIT, _RUNNING, Kind("CHOICE", str),
            "original keeps the partition numbers, key lets the key choose as Java's producer does; "
            "unless given, original where both topics have as many",
            choices=("original", "key")),
    Setting("lossy", _RESUBMIT, _RUNNING, FLAG,
            "send although the destination cannot carry all of every message"),
    Setting("json", (*_RESUBMIT, *_REBUILD), _RUNNING, FLAG, "print plan and report as JSON"),
    Setting("host", _API, _RUNNING, Kind("ADDRESS", str), "address to listen on", default="127.0.0.1"),
    Setting("allow_remote", _API, _RUNNING, FLAG,
            "listen on another address than this machine's own, although the API has no login: whoever "
            "reaches it may read and send every message"),
    Setting("port", _API, _RUNNING, _PORT, "port to listen on", default="8080"),
    Setting("inline_limit", _API, _RUNNING, _WHOLE,
            "a selection of up to so many messages is sent by the API itself, a larger one by a job",
            default="1000"),
    Setting("processes", _STREAMING, _RUNNING, _COUNT,
            "processes on this machine, one shard of the partitions each",
            default="1"),
    Setting("shard", _STREAMING, _RUNNING, Kind("I/N", _shard),
            "which of how many shards of the partitions this command reads, where each runs as a command of "
            "its own, on one machine or many: 0/2 and 1/2",
            default="0/1"),
    Setting("shards", _STREAMING, _RUNNING, _COUNT,
            "parts into which Flink and Dataflow divide the partitions; stays what it was at the job's "
            "first start",
            default="16"),
    Setting("metrics_host", _STREAMING, _RUNNING, Kind("ADDRESS", str),
            "address of the Prometheus metrics",
            default="0.0.0.0"),  # noqa: S104 - scraped from other hosts
    Setting("metrics_port", _PERSIST, _RUNNING, _PORT,
            "port of the Prometheus metrics, of the first process where there are several; 0 is off",
            default="2112"),
    Setting("metrics_port", _INDEX, _RUNNING, _PORT,
            "port of the Prometheus metrics, of the first process where there are several; 0 is off",
            default="2122"),
)  # fmt: skip

SUMMARIES: dict[str, str] = {
    "persist": "archive every message of topics in a lake, while they arrive",
    "index": "keep the index of what persist archived elsewhere, from its metadata topic",
    "resubmit": "send archived messages again, unchanged, to any topic",
    "rebuild": "make the index anew from the lake alone",
    "api": "serve plans, resubmissions and search over HTTP",
}
"""What each command does."""

EPILOGS: dict[str, str] = {
    "persist": """examples:
  persistor persist --source kafka://localhost:9092/orders,payments --lake s3://archive/kafka \\
                    --index mongodb://localhost/persistor
  persistor persist --config persist.yaml --processes 4
  persistor persist --config persist.yaml --runner=FlinkRunner --flink_master=flink:8081 --streaming \\
                    --checkpointing_interval=10000 --finish_bundle_before_checkpointing

Any option of Apache Beam is accepted as well.
Stop with Ctrl-C or SIGTERM: open batches are written first.""",
    "index": """example:
  persistor index --metadata kafka://localhost:9092/persistor-metadata --index mongodb://localhost/persistor

Any option of Apache Beam is accepted as well.""",
    "resubmit": """examples:
  persistor resubmit --index mongodb://localhost/persistor --lake s3://archive/kafka \\
                     --destination kafka://localhost:9092/orders-replay --plan_only \\
                     --selection '{"sources": ["orders"], "published_from": "2026-11-01T00:00:00Z"}'
  persistor resubmit --config resubmit.yaml --selection @selection.json
  persistor resubmit --config resubmit.yaml --resume JOB

Exit code: 0 all sent, 1 something was not sent (the report says what), 2 the request cannot be carried out.
Any option of Apache Beam is accepted as well.""",
    "rebuild": """example:
  persistor rebuild --lake s3://archive/kafka --index mongodb://localhost/persistor""",
    "api": """example:
  persistor api --index mongodb://localhost/persistor --lake s3://archive/kafka \\
                --destination replay=kafka://localhost:9092""",
}
"""What stands below a command's help."""
