"""The OpenAPI document: what APIFlask makes of the views, with our errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apiflask import APIFlask

from resubmit_api.schemas import Problem

__all__ = ["describe"]

_TEXT = (
    "Find archived messages, look at them, and send any of them again, unchanged, to any topic. "
    "Errors are problem documents (RFC 9457). Times are ISO 8601; answers have UTC with microseconds."
)


_SELECTION = {
    "sources": "Names of sources; any source where this is left out.",
    "published_from": "First publish time that is meant, with its time zone.",
    "published_to": "First publish time that is no longer meant, with its time zone.",
    "ids": "Ids of messages.",
    "where": "Clauses of conditions, one of which must hold, such as "
    '`[{"attributes.version": "2"}, {"key": {"prefix": "eu-"}, "size": {"gte": 1000}}]`. '
    "Fields: id, key, topic, partition, offset, publish_time, size, attributes.NAME. "
    "Operators: eq, ne, gt, gte, lt, lte, in, nin, exists, prefix; key takes eq, in, prefix.",
    "limit": "At most so many messages, in the order of their partitions. Not for searches.",
    "sample": "The share of messages to take, the same ones each time. Not for searches.",
    "all": "Must be said where nothing else narrows the selection.",
}


def describe(app: APIFlask) -> None:
    """Serve the document at ``/openapi.json``."""
    app.config.update(
        # The framework's own descriptions of errors are not what we answer.
        AUTO_404_RESPONSE=False,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        # A server's address taken from the header Host would be whatever a caller says.
        AUTO_SERVERS=False,
        DESCRIPTION=_TEXT,
        LICENSE={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.spec_processor(_complete)


def _complete(spec: dict[str, Any] | str) -> dict[str, Any] | str:
    if isinstance(spec, dict):  # text only where YAML is asked for
        schemas = spec["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for name, schema in schemas.items():
            if name.endswith(".Selection"):
                _describe_selection(schema)
        for parameter in _parameters(spec):
            if parameter["in"] == "path":
                parameter["required"] = True  # which OpenAPI asks for and APIFlask leaves out
        spec["paths"] = dict(sorted(spec["paths"].items(), key=lambda path: not path[0].startswith("/v1/")))
    return spec


def _describe_selection(schema: dict[str, Any]) -> None:
    schema["description"] = "A subset of the indexed messages: every part that is given must hold."
    for name, text in _SELECTION.items():
        schema["properties"][name]["description"] = text


def _parameters(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in spec["paths"].values():
        for operation in operations.values():
            yield from operation["parameters"]
