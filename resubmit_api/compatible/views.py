"""The endpoints of Dataphos Persistor's Resubmitter and Indexer API, for tools that use them.

Each request becomes a selection and a configured destination, so that allow-lists, checks and the audit trail
apply as everywhere. ``docs/reference/dataphos-requests.md`` lists the differences.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from apiflask import APIBlueprint
from flask import Response, current_app, request
from pydantic import ValidationError

from resubmit_api.auth import open_to, require
from resubmit_api.auth.grants import granted, who
from resubmit_api.auth.tokens import Role
from resubmit_api.compatible import count, documents, page, selection_from
from resubmit_api.compatible.requests import (
    UTC,
    BindingError,
    RefusedError,
    filters,
    parse_body,
    parse_time,
    select,
    string,
    strings,
)
from resubmit_api.errors import in_words_of_requests
from resubmit_api.jobs.answers import Answer
from resubmit_api.schemas import ReplayRequest
from resubmit_api.views.context import index, parts
from transforms.errors import ConfigurationError
from transforms.selection import Selection

__all__ = ["COLLECTIONS", "blueprint"]

COLLECTIONS = "COMPATIBLE_COLLECTIONS"
"""Name of the application's setting: destinations by collection name."""

blueprint = APIBlueprint("compatible", __name__, enable_openapi=False)

_ANSWER_WITHIN = 50.0
"""Seconds a response waits for the end; most proxies time out after 60."""
_LOOK_EVERY = 0.2
_WAITING = threading.BoundedSemaphore(3)
"""Maximum number of responses waiting in this process; the other threads serve all other requests."""

_PAGE, _MOST_ON_A_PAGE = 20, 10_000
_NO_TOPIC = "topic was not defined as a query parameter nor as an environment variable"
_BINDING = "error occurred during binding JSON to request body: "
_MESSAGES = {
    200: "resubmission successful",
    202: "resubmission goes on",
    206: "partial resubmission",
    400: "resubmission failed due to bad request",
}
_ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})
_NOT_FETCHED = frozenset({"missing", "outside"})
_NOT_READ = frozenset({"damaged", "position", "mismatch"})

_Object = dict[str, Any]
_Wanted = Callable[[], tuple[Selection | None, int]]
"""Parses a request: the selection (None if nothing can match) and the number of ids."""


@blueprint.post("/resubmit/<collection>")
@open_to(Role.OPERATOR, form=True)
def resubmit(collection: str) -> Response:
    """Resubmit messages by id."""
    return _resubmission(collection, lambda: _named("request"), "")


@blueprint.post("/range/<collection>")
@open_to(Role.OPERATOR, form=True)
def resubmit_range(collection: str) -> Response:
    """Resubmit the messages of one source and time range."""

    def wanted() -> tuple[Selection | None, int]:
        body = parse_body(request.get_data(), "intervalRequest")
        source = string(body, "broker_id", "BrokerID", "intervalRequest")
        try:
            bounds = [None if body.get(name) is None else parse_time(body[name]) for name in ("lb", "ub")]
        except RefusedError as error:
            raise BindingError(str(error)) from error
        return _between(source, *bounds), 0

    return _resubmission(collection, wanted)


@blueprint.post("/query/<collection>")
@open_to(Role.VIEWER, form=True)
def query(collection: str) -> Response:
    """Resubmit the messages that match filters if a topic is given, else list them."""
    if "topic" not in request.args:
        return _refusing(lambda: _listed(_matching("GetQueriedRequestBody") if _known(collection) else None))
    require(Role.OPERATOR)
    return _resubmission(collection, lambda: (_matching("QueryRequestBody"), 0))


@blueprint.get("/exact/<collection>/<id:id>")
@open_to(Role.VIEWER)
def exact(collection: str, id: str) -> Response:
    """Look a message up."""
    return _json((list(documents(index().get(id), whole=True)) if _known(collection) else []) or None)


@blueprint.post("/all/<collection>")
@open_to(Role.VIEWER, form=True)
def look_up(collection: str) -> Response:
    """Look messages up."""

    def answer() -> Response:
        selection, _ = _named("GetAllRequestBody")
        if selection is None or not _known(collection):
            return _json(None)
        return _json(list(documents(index().search(selection, _MOST_ON_A_PAGE))) or None)

    return _refusing(answer)


@blueprint.get("/range/<collection>/<id:source>")
@open_to(Role.VIEWER)
def list_range(collection: str, source: str) -> Response:
    """List the messages of one source and time range."""

    def answer() -> Response:
        selection = _between(source, _bound("from"), _bound("to"))
        return _listed(selection if _known(collection) else None)

    return _refusing(answer)


def _named(struct: str) -> tuple[Selection | None, int]:
    ids = strings(parse_body(request.get_data(), struct), "ids", struct)
    return (select(ids=list(dict.fromkeys(ids))) if ids else None), len(ids)


def _matching(struct: str) -> Selection | None:
    return selection_from(filters(parse_body(request.get_data(), struct), struct), index())


def _between(source: str, first: datetime | None, end: datetime | None) -> Selection | None:
    now = datetime.now(timezone.utc)
    if end is not None and end > now:
        raise RefusedError(
            "error during upper interval bound parsing: the given bound can't be in the future "
            f"(current time: {_as_go(now)}, given time:{_as_go(end)})"
        )
    end = end or now
    if first is not None and first >= end:
        return None
    return select(sources=[source], published_from=first, published_to=end)


def _bound(name: str) -> datetime | None:
    try:
        return parse_time(request.args[name], UTC) if request.args.get(name) else None
    except RefusedError as error:
        raise RefusedError(f"error in parsing {name} query parameter: {error}") from error


def _known(collection: str) -> bool:
    return collection in current_app.config[COLLECTIONS]


# The answers of the Resubmitter.


def _resubmission(collection: str, wanted: _Wanted, prefix: str = _BINDING) -> Response:
    topic = request.args.get("topic")
    if not topic:
        return _json({"msg": _NO_TOPIC}, 400)
    try:
        selection, started = wanted()
        return _sent(collection, topic, selection, started)
    except BindingError as error:
        return _text({"error": f"{prefix}{error}", "msg": _MESSAGES[400]})
    except (RefusedError, ConfigurationError) as error:
        return _result(400, errors={"indexer_errors": [{"reason": in_words_of_requests(str(error))}]})


def _sent(collection: str, topic: str, selection: Selection | None, started: int) -> Response:
    if selection is None or not _known(collection):
        return _result(200, started=started)
    asked = granted(index(), _replay(current_app.config[COLLECTIONS][collection], topic, selection))
    if not count(index(), asked.selection, 1):
        return _result(200, started=started)
    return _outcome(_awaited(parts().jobs.submit(asked, who().name)), started)


def _replay(destination: str, topic: str, selection: Selection) -> ReplayRequest:
    try:
        return ReplayRequest.model_validate(
            {"destination": destination, "topic": topic, "selection": selection}
        )
    except ValidationError as error:
        raise RefusedError("the name of the topic is not valid") from error


def _awaited(row: Answer) -> Answer:
    if not _WAITING.acquire(blocking=False):
        return row
    try:
        deadline = time.monotonic() + _ANSWER_WITHIN
        while row["state"] not in _ENDED and time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY)
            row = parts().jobs.get(row["id"])
        return row
    finally:
        _WAITING.release()


def _outcome(row: Answer, started: int) -> Response:
    failed = (row["report"] or {}).get("failed", {})
    unfetched = sum(failed.get(category, 0) for category in _NOT_FETCHED)
    unread = sum(failed.get(category, 0) for category in _NOT_READ)
    planned, published = row["progress"]["planned"], row["progress"]["published"]
    counts = (planned, planned - unfetched, planned - unfetched - unread, published)
    errors = {"pipeline_errors": [_pipeline_error(error) for error in row["errors"]]}
    if row["state"] == "FAILED" and not row["errors"]:
        errors = {"indexer_errors": [{"reason": in_words_of_requests(row["reason"] or "")}]}
    if row["state"] == "COMPLETED":
        return _result(200, counts, started)
    status = 202 if row["state"] not in _ENDED else 206 if published else 400
    return _result(
        status, counts, started, {name: found for name, found in errors.items() if found}, row["id"]
    )


def _pipeline_error(error: _Object) -> _Object:
    category = error["category"]
    kinds = {
        **dict.fromkeys(_NOT_FETCHED, "storage_error"),
        **dict.fromkeys(_NOT_READ, "deserialization_error"),
    }
    return {"id": error["id"], "reason": kinds.get(category, "publish_error")}


def _result(
    status: int,
    counts: tuple[int, int, int, int] = (0, 0, 0, 0),
    started: int = 0,
    errors: _Object | None = None,
    job: str | None = None,
) -> Response:
    names = ("indexed_count", "fetched_count", "deserialized_count", "published_count")
    summary = ({"starting_count": started} if started else {}) | dict(zip(names, counts, strict=True))
    body = {"status": status, "msg": _MESSAGES[status], "summary": summary, "errors": errors or {}}
    return _json(body | ({"resubmission": job} if job else {}), status)


# The answers of the Indexer API.


def _listed(selection: Selection | None) -> Response:
    limit, offset = _number("limit") or _PAGE, _number("offset")
    found = [] if selection is None else list(documents(page(index(), selection, limit, offset)))
    total = 0 if selection is None else count(index(), selection)
    counts = {"total_count": total, "returned_count": len(found), "limit": limit, "offset": offset}
    return _json(counts | {"messages": found or None})


def _refusing(answer: Callable[[], Response]) -> Response:
    try:
        return answer()
    except BindingError as error:
        return _text({"error": str(error), "message": "bad request"})
    except RefusedError as error:
        return _json({"error": str(error), "message": "bad request"}, 400)


def _number(name: str) -> int:
    """Ignore a value that is not a number or below 0."""
    text = request.args.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, content_type="application/json; charset=utf-8")


def _text(body: _Object) -> Response:
    """A JSON error with the content type text."""
    return Response(json.dumps(body), 400, content_type="text/plain; charset=utf-8")


def _as_go(moment: datetime) -> str:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S.%f} +0000 UTC"
