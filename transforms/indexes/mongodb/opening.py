"""Opens the collections of an index in MongoDB, and creates the indexes that they lack."""

from __future__ import annotations

import re
from typing import Any

from pymongo import IndexModel, MongoClient
from pymongo import errors as mongo
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri

from transforms.errors import ConfigurationError
from transforms.indexes.mongodb.documents import DECODING, Document
from transforms.indexes.mongodb.errors import RefusedError, translated
from transforms.indexes.mongodb.jobs import JOB_INDEXES
from transforms.indexes.mongodb.query import FOREIGN
from transforms.indexes.mongodb.replay_order import ensure_order
from transforms.secrets import resolve

__all__ = ["SEARCH_ORDER", "opened"]

_TIMEOUTS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 3_000,
    "connectTimeoutMS": 3_000,
    "socketTimeoutMS": 120_000,
}
_DURABLE = {"w": "majority", "journal": True}
# Milliseconds grow with microseconds, so this is the order of (publish time, id), and an index supports it.
SEARCH_ORDER = ("publish_time", "publish_time_us", "unique_id")
_INDEXES = [
    IndexModel([("broker_id", 1), *((field, 1) for field in SEARCH_ORDER)]),
    IndexModel([("additional_metadata.$**", 1)]),
    IndexModel([("location_key", 1)]),
    IndexModel([("unique_id", 1)], partialFilterExpression=FOREIGN),
]


def opened(url: str) -> tuple[Collection[Document], ReadConcern]:
    """The collection of messages, and the read concern for decisions about jobs.

    Raises:
        ConfigurationError: the URL is malformed, or the server refuses us.
        TransientError: the server does not answer.
    """
    shown = re.sub(r"//[^/]*@", "//…@", url)
    try:
        resolved = resolve(url, "`index`")
        place = parse_uri(resolved)
        if not place["database"]:
            raise ConfigurationError(f"`index` {shown}: name the database, as in mongodb://HOST/persistor.")
        ours = {name: value for name, value in _TIMEOUTS.items() if name not in place["options"]} | _DURABLE
        client: MongoClient[Document] = MongoClient(resolved, **ours)
        messages = client[place["database"]][place["collection"] or "messages"]
    except (mongo.ConfigurationError, mongo.InvalidName, ValueError, TypeError, OSError) as error:
        raise ConfigurationError(f"`index` {shown}: {error}.") from error
    try:
        with translated():
            replicated = bool({"setName", "msg"} & client.admin.command("hello").keys())
            # Otherwise a replica set would wait for a stopped member before it has a new index.
            enough: dict[str, Any] = {"commitQuorum": "majority"} if replicated else {}
            messages.create_indexes(_INDEXES, **enough)
            messages.database[f"{messages.name}_jobs"].create_indexes(JOB_INDEXES, **enough)
            patient: MongoClient[Document] = MongoClient(resolved, **{**ours, "socketTimeoutMS": 0})
            ensure_order(messages, patient, **enough)
    except RefusedError as error:
        client.close()
        raise ConfigurationError(f"`index` {shown}: {error}.") from error
    except BaseException:
        client.close()
        raise
    # Reads of jobs are never undone by an election, nor older than earlier confirmed writes.
    decisive = ReadConcern("linearizable" if replicated else None)
    return messages.with_options(codec_options=DECODING), decisive
