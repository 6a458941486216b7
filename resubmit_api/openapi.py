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
    app.spec_processor(_add_problems)


def _add_problems(spec: dict[str, Any] | str) -> dict[str, Any] | str:
    if isinstance(spec, dict):  # text only where YAML is asked for
        spec["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        for parameter in _parameters(spec):
            if parameter["in"] == "path":
                parameter["required"] = True  # which OpenAPI asks for and APIFlask leaves out
        spec["paths"] = dict(sorted(spec["paths"].items(), key=lambda path: not path[0].startswith("/v1/")))
    return spec


def _parameters(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for operations in spec["paths"].values():
        for operation in operations.values():
            yield from operation["parameters"]
