"""What views share: the application's parts, and how answers are declared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from flask import current_app

from resubmit_api.auth import Guard
from resubmit_api.auth.grants import CallersIndex, who
from resubmit_api.backends import Backends
from resubmit_api.errors import PROBLEM_TYPE, needs
from resubmit_api.jobs import Jobs
from resubmit_api.metrics import Metrics
from resubmit_api.overview import Overview

__all__ = ["EXTENSION", "Parts", "digest", "index", "open_destinations", "parts", "problems"]

EXTENSION = "persistor"
_DESCRIPTIONS = {
    400: "The request or its cursor is not valid",
    401: "No valid token came with the request",
    403: "The token's role, sources or destinations do not reach so far",
    404: "There is no such thing",
    409: "Its state does not allow that; `errors` lists what is possible",
    410: "The lake no longer has the message",
    413: "The request is larger than 1 MiB",
    415: "The request is not JSON",
    422: "The request names what is wrong with it",
    429: "The token was used too often; `Retry-After` says when it may be used again",
    502: "What the lake holds is not what was archived; nothing of it is shown",
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


def parts() -> Parts:
    """The parts of the application that handles this request."""
    found: Parts = current_app.extensions[EXTENSION]
    return found


def index() -> CallersIndex:
    """The index as the caller may see it, which is the one for views."""
    with needs("The index"):
        return CallersIndex(parts().backends.index, who())


def open_destinations() -> list[str]:
    """The names of the destinations that the caller may send to, if only to some topic."""
    return [name for name in parts().backends.publishers.names() if who().may_send_to(name)]


def digest(body: Any) -> str:
    """What two requests have in common that ask for the same, from their bodies as JSON types."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def problems(*statuses: int) -> dict[int, Any]:
    """Declares the errors of an operation in the OpenAPI document."""
    reference = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {PROBLEM_TYPE: {"schema": reference}}}
        for status in statuses
    }
