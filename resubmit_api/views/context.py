"""Shared by views: the application's parts, and the declaration of responses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from flask import current_app

from resubmit_api.auth import Guard
from resubmit_api.auth.grants import CallersIndex, who
from resubmit_api.auth.refusals import Refusals
from resubmit_api.backends import Backends
from resubmit_api.errors import PROBLEM_TYPE, needs
from resubmit_api.jobs import Jobs
from resubmit_api.metrics import Metrics
from resubmit_api.overview import Overview
from resubmit_api.readiness import Readiness

__all__ = ["EXTENSION", "Parts", "digest", "index", "open_destinations", "parts", "problems"]

EXTENSION = "persistor"
_DESCRIPTIONS = {
    400: "Invalid request or cursor",
    401: "No valid token in the request",
    403: "The token's role, sources or destinations do not allow this",
    404: "Not found",
    409: "Its state does not allow this; `errors` lists the possible actions",
    410: "The message is missing from the lake",
    413: "The request is larger than 1 MiB",
    415: "The request is not JSON",
    422: "The request is not valid; `errors` lists the problems",
    429: "Too many requests with this token; `Retry-After` gives the seconds to wait",
    502: "The stored message is not the archived one; it is not shown",
    503: "The index, a lake or a broker does not answer",
}


@dataclass(frozen=True)
class Parts:
    """The parts of one application."""

    backends: Backends
    jobs: Jobs
    metrics: Metrics
    guard: Guard
    overview: Overview
    refusals: Refusals
    readiness: Readiness


def parts() -> Parts:
    """The parts of the application that handles this request."""
    found: Parts = current_app.extensions[EXTENSION]
    return found


def index() -> CallersIndex:
    """The index restricted to what the caller may see; views use only this."""
    with needs("The index"):
        return CallersIndex(parts().backends.index, who())


def open_destinations() -> list[str]:
    """The destinations with at least one topic that the caller may send to."""
    return [name for name in parts().backends.publishers.names() if who().may_send_to(name)]


def digest(body: Any) -> str:
    """What two requests have in common that ask for the same, from their bodies as JSON types."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def problems(*statuses: int) -> dict[int, Any]:
    """Declare the errors of an operation in the OpenAPI document."""
    reference = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {PROBLEM_TYPE: {"schema": reference}}}
        for status in statuses
    }
