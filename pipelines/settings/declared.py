"""Every setting of every command, declared once: the parser, the help and the reference are made from it."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.settings.kinds import AGE as _AGE
from pipelines.settings.kinds import COUNT as _COUNT
from pipelines.settings.kinds import FLAG, PAIRS, Kind, past
from pipelines.settings.kinds import PORT as _PORT
from pipelines.settings.kinds import SIZE as _SIZE
from pipelines.settings.kinds import TEXT as _TEXT
from pipelines.settings.kinds import URL as _URL
from pipelines.settings.kinds import WHOLE as _WHOLE
from pipelines.settings.kinds import pair as _pair
from pipelines.settings.kinds import positions as _positions
from pipelines.settings.kinds import shard as _shard
from pipelines.settings.kinds import text_or_file as _text_or_file

__all__ = ["FLAG", "PAIRS", "SETTINGS", "Kind", "Setting", "settings_of"]


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


_PERSIST, _INDEX, _RESUBMIT = ("persist",), ("index",), ("resubmit",)
_REBUILD, _API, _TOKEN = ("rebuild",), ("api",), ("token",)
_EXPIRE, _STREAMING = ("expire",), ("persist", "index")
_PLANNING, _JOBS = ("plan", "resubmit"), ("jobs",)
_REPLAYING = (*_PLANNING, "api")
_LAKE_GROUP, _BROKER, _INDEX_GROUP = "lake", "broker", "index"
_BATCHES, _FAILURES, _RUNNING, _ACCESS = "batches", "failures", "running", "access"

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
    Setting("destination", _PLANNING, _BROKER, _URL,
            "where to send: a broker and a topic, kafka://HOST:9092/orders-replay, or a pattern of "
            "{topic} and {source} of each message such as kafka://HOST:9092/{topic}-replay"),
    Setting("destination", _API, _BROKER, Kind("NAME=URL", _pair),
            "a broker that requests may send to, under the name they use: replay=kafka://HOST:9092",
            required=True, repeatable=True),
    Setting("destination_config", _PLANNING, _BROKER, PAIRS, _CLIENT, repeatable=True),
    Setting("destination_config", _API, _BROKER, Kind("NAME:SETTING=VALUE", _pair),
            "a setting of one destination's client, behind the destination's name: "
            "replay:sasl.username=me",
            repeatable=True),
    Setting("lake", (*_PERSIST, *_REBUILD, *_EXPIRE), _LAKE_GROUP, _URL,
            "where the files lie: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or "
            "file:///DIRECTORY",
            required=True),
    Setting("lake", _REPLAYING, _LAKE_GROUP, _URL,
            "a lake that the index points into; a location outside of those given is refused",
            required=True, repeatable=True),
    Setting("lake_config", (*_PERSIST, *_PLANNING, *_REBUILD, *_API, *_EXPIRE), _LAKE_GROUP, PAIRS,
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
    Setting("index", (*_INDEX, *_PLANNING, *_JOBS, *_REBUILD, *_API), _INDEX_GROUP, _URL,
            f"the index: {_INDEX_URL}",
            required=True),
    Setting("index", _EXPIRE, _INDEX_GROUP, _URL,
            f"the index that points into the lake: {_INDEX_URL}; none where nothing does",
            required=True),
    Setting("before", _EXPIRE, _LAKE_GROUP, Kind("DATE", past),
            "delete what was published before this: a date such as 2026-11-01 (UTC), a time such as "
            "2026-11-01T06:00:00+01:00, or an age such as 90d",
            required=True),
    Setting("source", _EXPIRE, _LAKE_GROUP, _TEXT,
            "a source to look at, by its name in the index; all of them unless given",
            repeatable=True),
    Setting("yes", _EXPIRE, _RUNNING, FLAG, "delete; without it the plan alone is shown"),
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
    Setting("skip", _STREAMING, _FAILURES, Kind("TOPIC/PARTITION/FIRST-LAST", _positions),
            "offsets to give up where they cannot be read, as the log and `persistor doctor` name them: "
            "orders/3/1205-1274; what can be read is never skipped",
            repeatable=True),
    Setting("selection", _PLANNING, _BROKER, Kind("JSON", _text_or_file),
            'what to send, as JSON or @FILE: {"sources": ["orders"], "published_from": '
            '"2026-11-01T00:00:00Z", "where": [{"attributes.version": "2"}]}; times may be now or before '
            "it, such as -1h"),
    Setting("plan", _RESUBMIT, _RUNNING, Kind("JOB", str),
            "send just what that plan holds, whatever matches by now"),
    Setting("resume", _RESUBMIT, _RUNNING, Kind("JOB", str),
            "go on with an interrupted job behind the last message that was confirmed"),
    Setting("timestamp", _PLANNING, _RUNNING, Kind("CHOICE", str),
            "publish time of the sent messages",
            default="original", choices=("original", "now")),
    Setting("partitions", _PLANNING, _RUNNING, Kind("CHOICE", str),
            "original keeps the partition numbers, key lets the key choose as Java's producer does; "
            "unless given, original where both topics have as many",
            choices=("original", "key")),
    Setting("order", _PLANNING, _RUNNING, Kind("CHOICE", str),
            "what keeps its order: each source partition, each key, or nothing",
            default="partition", choices=("partition", "key", "none")),
    Setting("restore", _PLANNING, _RUNNING, FLAG,
            "send dead letters as they were, without what was added to them; {origin} in --destination is "
            "the topic that each came from"),
    Setting("source_prefix", _PLANNING, _RUNNING, _TEXT,
            "what {origin} leaves out of a source's name: the --source_prefix of the archived topics",
            default=""),
    Setting("lossy", _PLANNING, _RUNNING, FLAG,
            "send although the destination cannot carry all of every message"),
    Setting("messages_per_second", _RESUBMIT, _RUNNING, _COUNT, "at most; may be changed while it runs"),
    Setting("bytes_per_second", _RESUBMIT, _RUNNING, _SIZE, "likewise"),
    Setting("follow", _RESUBMIT, _RUNNING, FLAG,
            "stay with the job until it ends: one that is paused is held until somebody resumes it, here, by "
            "`persistor jobs` or in the pages; without it the command ends then"),
    Setting("job", _JOBS, _RUNNING, Kind("JOB", str), "show this one; unless given, the latest are listed"),
    Setting("action", _JOBS, _RUNNING, Kind("CHOICE", str),
            "pause, resume or cancel the job, retry what it could not publish, or change its rate",
            choices=("pause", "resume", "cancel", "retry", "rate")),
    Setting("messages_per_second", _JOBS, _RUNNING, _COUNT,
            "with --action rate: at most; unlimited unless given"),
    Setting("bytes_per_second", _JOBS, _RUNNING, _SIZE, "likewise"),
    Setting("follow", _JOBS, _RUNNING, FLAG,
            "show the job's progress until it ends; Ctrl-C ends the watching only"),
    Setting("state", _JOBS, _RUNNING, Kind("STATE", str),
            "list those in this state; unless given, all but plans",
            repeatable=True,
            choices=("PLANNED", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED")),
    Setting("limit", _JOBS, _RUNNING, _COUNT, "list so many at most", default="20"),
    Setting("json", (*_PLANNING, *_JOBS, *_REBUILD, *_EXPIRE), _RUNNING, FLAG, "print JSON"),
    Setting("host", _API, _RUNNING, Kind("ADDRESS", str),
            "address to listen on; another than this machine's own needs --tokens",
            default="127.0.0.1"),
    Setting("port", _API, _RUNNING, _PORT, "port to listen on", default="8080"),
    Setting("inline_limit", _API, _RUNNING, _WHOLE,
            "a selection of up to so many messages is sent by the API itself, a larger one by a job",
            default="1000"),
    Setting("launcher", _API, _RUNNING, Kind("CHOICE", str),
            "where jobs run: in processes of this machine, on an Apache Flink cluster, or on Google Cloud "
            "Dataflow",
            default="subprocess", choices=("subprocess", "flink", "dataflow")),
    Setting("launcher_config", _API, _RUNNING, PAIRS,
            "an option of Beam for jobs on Flink, such as flink_master=http://HOST:8081, "
            "environment_type=EXTERNAL or parallelism=4; or on Dataflow: project, region, temp_location and "
            "sdk_container_image are needed",
            repeatable=True),
    Setting("metrics", _API, _RUNNING, Kind("URL", str),
            "metrics of a process of persist, http://HOST:2112/metrics, whose lag the first page then shows",
            repeatable=True),
    Setting("tokens", _API, _ACCESS, Kind("FILE", str),
            "list of the tokens that are let in, made with `persistor token` and read again when it changes; "
            "${env:NAME} where a variable holds the list"),
    Setting("session_key", _API, _ACCESS, _TEXT,
            "signs the logins of the pages, at least 32 characters, the same for all replicas: "
            "${file:PATH} or ${env:NAME}; without it logins end with the process"),
    Setting("requests_per_minute", _API, _ACCESS, _COUNT,
            "so many requests a token may make of a process",
            default="1200"),
    Setting("trusted_proxy", _API, _ACCESS, Kind("ADDRESS", str),
            "proxy whose X-Forwarded-For, -Proto and -Host are believed, * for any; behind one that "
            "speaks https the cookies of logins are bound to it"),
    Setting("compatible", _API, _ACCESS, Kind("COLLECTION=NAME", _pair),
            "take requests as the Resubmitter and the Indexer API of Dataphos Persistor do, for this "
            "collection, and send to the destination of this name",
            repeatable=True),
    Setting("name", _TOKEN, _ACCESS, _TEXT, "who it is for, as the audit trail will say", required=True),
    Setting("role", _TOKEN, _ACCESS, Kind("CHOICE", str),
            "viewer searches and looks, operator plans, sends and controls as well, admin may see the "
            "audit trail too",
            default="viewer", choices=("viewer", "operator", "admin")),
    Setting("allow_source", _TOKEN, _ACCESS, Kind("PATTERN", str),
            "sources that it opens, such as 'orders*'; all unless given",
            repeatable=True),
    Setting("allow_destination", _TOKEN, _ACCESS, Kind("PATTERN", str),
            "destinations that it may send to, such as replay or 'replay/orders-*'; all unless given",
            repeatable=True),
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
            "port of the Prometheus metrics, of the first process or worker of a machine; 0 is off",
            default="2112"),
    Setting("metrics_port", _INDEX, _RUNNING, _PORT,
            "port of the Prometheus metrics, of the first process or worker of a machine; 0 is off",
            default="2122"),
)  # fmt: skip
