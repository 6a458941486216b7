"""The OpenAPI document that APIFlask generates from the views, with our errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from apiflask import APIFlask
from flask import current_app

from resubmit_api.auth import CSRF_HEADER, role_of
from resubmit_api.auth.tokens import Role
from resubmit_api.schemas import Problem
from resubmit_api.views.context import problems

__all__ = ["describe"]

_TEXT = (
    "Find archived messages, inspect them, and send any of them again, unchanged, to any topic. "
    "Errors are problem documents (RFC 9457). Times are ISO 8601; responses use UTC with microseconds."
)

_SECURITY = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token made by `persistor token`. A service without tokens listens on its own "
        "machine only and needs none.",
    },
    "login": {
        "type": "apiKey",
        "in": "cookie",
        "name": "persistor",
        "description": "The cookie of a login to the pages (`__Host-persistor` over https). Requests that "
        f"change anything also need the header {CSRF_HEADER}.",
    },
}
_PARAMETER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_SELECTION = {
    "sources": "Source names; omit for all sources.",
    "published_from": "Earliest publish time (inclusive), with time zone.",
    "published_to": "Latest publish time (exclusive), with time zone.",
    "ids": "Message ids.",
    "where": "Clauses of conditions; at least one clause must match, such as "
    '`[{"attributes.version": "2"}, {"key": {"prefix": "eu-"}, "size": {"gte": 1000}}]`. '
    "Fields: id, key, topic, partition, offset, publish_time, size, attributes.NAME. "
    "Operators: eq, ne, gt, gte, lt, lte, in, nin, exists, prefix; key takes eq, in, prefix.",
    "limit": "Maximum number of messages, in the order of their partitions. Not for searches.",
    "sample": "The share of messages to select, the same ones each time. Not for searches.",
    "all": "Required if nothing else narrows the selection.",
}


def describe(app: APIFlask) -> None:
    """Serve the document at ``/openapi.json``."""
    app.config.update(
        # Our errors differ from the framework's descriptions.
        AUTO_404_RESPONSE=False,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        # A server address taken from the header Host would be chosen by the caller.
        AUTO_SERVERS=False,
        DESCRIPTION=_TEXT,
        LICENSE={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.spec_processor(_complete)


def _complete(spec: dict[str, Any] | str) -> dict[str, Any] | str:
    if isinstance(spec, dict):  # text only if YAML is requested
        schemas = spec["components"]["schemas"]
        schemas["Problem"] = Problem.model_json_schema()
        for name, schema in schemas.items():
            if name.endswith(".Selection"):
                _describe_selection(schema)
        _say_who_may(spec)
        for parameter in _parameters(spec):
            if parameter["in"] == "path":
                parameter["required"] = True  # required by OpenAPI and left out by APIFlask
        spec["paths"] = dict(sorted(spec["paths"].items(), key=lambda path: not path[0].startswith("/v1/")))
    return spec


def _say_who_may(spec: dict[str, Any]) -> None:
    spec["components"]["securitySchemes"] = _SECURITY
    for rule in current_app.url_map.iter_rules():
        operations = spec["paths"].get(_PARAMETER.sub(r"{\1}", rule.rule), {})
        role = role_of(current_app, rule.endpoint)
        for method in (rule.methods or set()) & {name.upper() for name in operations}:
            if role is not Role.ANYONE:
                _protect(operations[method.lower()], role or Role.ADMIN)


def _protect(operation: dict[str, Any], role: Role) -> None:
    operation["security"] = [{name: []} for name in _SECURITY]
    needed = f"Requires the role {role.name.lower()}."
    operation["description"] = f"{operation.get('description', '')}\n\n{needed}".strip()
    for status, response in problems(401, 403, 429).items():
        operation["responses"].setdefault(str(status), response)


def _describe_selection(schema: dict[str, Any]) -> None:
    schema["description"] = "A subset of the indexed messages; a message must match every given part."
    for name, text in _SELECTION.items():
        schema["properties"][name]["description"] = text


def _parameters(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in spec["paths"].values():
        for operation in operations.values():
            yield from operation["parameters"]
