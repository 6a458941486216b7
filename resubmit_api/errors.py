"""Turns every error into a problem document (RFC 9457, ``application/problem+json``)."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from apiflask import APIFlask
from apiflask.exceptions import HTTPError
from flask import Response, url_for

from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.jobs.states import WrongStateError
from transforms.replay.options import Options
from transforms.settings import settings_in
from transforms.settings.naming import in_words

__all__ = [
    "PROBLEM_TYPE",
    "RETRY_AFTER",
    "AwayError",
    "UnknownOutcomeError",
    "as_flag",
    "in_words_of_requests",
    "needs",
    "problem",
    "problem_body",
    "register",
    "stores",
]

_log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER = 5
"""Seconds after which a client may retry when a server was unreachable."""

_TITLES = {
    "busy": "Too many searches at once",
    "slow": "The search takes too long",
    "cursor": "Invalid cursor",
    "forbidden": "Not allowed",
    "forgery": "The request may be forged",
    "limit": "Too many requests",
    "unauthenticated": "Authentication required",
    "damaged": "The stored message cannot be read",
    "host": "Unknown host name",
    "json": "The request is not JSON",
    "gone": "The stored message no longer exists",
    "message": "No such message",
    "mismatch": "The stored message failed verification",
    "key": "The Idempotency-Key was used by another request",
    "refused": "The request cannot be carried out",
    "failing": "A required server failed",
    "resubmission": "No such resubmission",
    "state": "The resubmission's state does not allow this",
    "unavailable": "A required server does not answer",
    "validation": "Invalid request",
}
_OPTIONS = {option.name for option in settings_in(Options)}
_GENERIC = {
    400: "The request cannot be parsed.",
    404: "Nothing exists at this address; /docs lists all endpoints.",
    405: "This endpoint does not support the method; the header Allow lists the supported ones.",
    413: "The request is larger than 1 MiB; split it.",
    415: "Send JSON with the header Content-Type: application/json.",
    500: "The service failed on this request; see its log.",
}


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    errors: Iterable[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> HTTPError:
    """An error to raise; ``kind`` names its type and title, ``errors`` the individual causes."""
    extra: dict[str, Any] = {"type": f"urn:persistor:problem:{kind}"}
    if listed := list(errors):
        extra["errors"] = listed
    return HTTPError(status, _TITLES[kind], detail, dict(headers or {}), extra)


class AwayError(TransientError):
    """A server does not answer; the text may be shown to the caller."""


class UnknownOutcomeError(AwayError):
    """Whether a resubmission was stored is not known.

    Attributes:
        row: as it was to be stored.
        keyless: whether it was asked for without an Idempotency-Key.
    """

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.row = row
        # Who obeys "try again" without a key would send twice.
        self.keyless = row["idempotency_key"] == row["id"]
        again = f"the header Idempotency-Key: {row['id']}" if self.keyless else "the same headers"
        super().__init__(
            "The index does not answer, and whether the resubmission was stored is not known. Look for it "
            f"where Location says, or ask again in {RETRY_AFTER} seconds with {again}: neither sends twice."
        )


@contextlib.contextmanager
def stores(row: Mapping[str, Any]) -> Iterator[None]:
    """Say of a transient failure that ``row`` may be stored all the same, and how to find out."""
    try:
        yield
    except TransientError as error:
        _log.warning("Whether resubmission %s is stored is not known: %s", row["id"], error)
        raise UnknownOutcomeError(row) from error


@contextlib.contextmanager
def needs(what: str) -> Iterator[None]:
    """Reduce a transient failure to "``what`` does not answer"; callers may know no more."""
    try:
        yield
    except AwayError:
        raise
    except TransientError as error:
        _log.warning("%s does not answer: %s", what, error)
        text = f"{what} does not answer; try again in {RETRY_AFTER} seconds."
        raise AwayError(text) from error


def problem_body(status: int, title: str, detail: str) -> bytes:
    """A problem document without its own type."""
    return json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail}).encode()


def register(app: APIFlask) -> None:
    """Respond to every failure of the application with a problem document."""
    app.error_processor(_to_response)
    app.register_error_handler(ConfigurationError, _refused)
    app.register_error_handler(TransientError, _away)
    app.register_error_handler(UnknownOutcomeError, _unknown)
    app.register_error_handler(PermanentError, _failing)
    app.register_error_handler(WrongStateError, _wrong_state)


def in_words_of_requests(text: str) -> str:
    """A text whose settings are named as requests have them; other settings as on a command line."""
    return in_words(text, _word)


def _word(name: str, value: str | None) -> str:
    if name in _OPTIONS:
        return f'"{name}": {"true" if value is None else json.dumps(value)}'
    return as_flag(name, value)


def as_flag(name: str, value: str | None) -> str:
    """A setting of a command that is run elsewhere, such as the one that serves."""
    return f"--{name}" if value is None else f"--{name} {value}"


def _refused(error: ConfigurationError) -> Response:
    problems = [in_words_of_requests(text) for text in error.problems]
    return _to_response(problem(422, "refused", " ".join(problems), errors=[{"detail": p} for p in problems]))


def _wrong_state(error: WrongStateError) -> Response:
    text = in_words_of_requests(str(error))
    return _to_response(problem(409, "state", text, errors=[{"possible": a} for a in error.possible]))


def _unknown(error: UnknownOutcomeError) -> Response:
    row = error.row
    view = "plans.get" if row["state"] == "PLANNED" else "resubmissions.get"
    more = {"Idempotency-Key": row["id"]} if error.keyless else {"Retry-After": str(RETRY_AFTER)}
    headers = {"Location": url_for(view, id=row["id"]), **more}
    return _to_response(problem(503, "unavailable", str(error), headers=headers))


def _away(error: TransientError) -> Response:
    detail = str(error) if isinstance(error, AwayError) else "A required server does not answer."
    return _to_response(problem(503, "unavailable", detail, headers={"Retry-After": str(RETRY_AFTER)}))


def _failing(error: PermanentError) -> Response:
    _log.error("A request failed: %s", error)
    detail = "The index, a lake or the destination failed or refused; see the service's log."
    return _to_response(problem(502, "failing", detail))


def _to_response(error: HTTPError) -> Response:
    body = {"type": "about:blank", "title": error.message, "status": error.status_code}
    body |= _validation(error.detail) if isinstance(error.detail, dict) and error.detail else {}
    body |= error.extra_data
    if isinstance(error.detail, str):
        body["detail"] = error.detail
    body.setdefault("detail", _GENERIC.get(error.status_code, f"{error.message}."))
    response = Response(json.dumps(body), error.status_code, mimetype=PROBLEM_TYPE)
    response.headers.extend(error.headers)
    return response


def _validation(detail: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Any]:
    errors = [
        {"field": field, "in": "query" if place == "query" else "body", "detail": _sentence(text)}
        for place, fields in detail.items()
        for field, texts in fields.items()
        for text in texts
    ]
    return {
        "type": "urn:persistor:problem:validation",
        "title": _TITLES["validation"],
        "detail": " ".join(f"{error['field']}: {error['detail']}" for error in errors[:10]),
        "errors": errors,
    }


def _sentence(text: str) -> str:
    if text == "Extra inputs are not permitted":
        return "Unknown field; remove it."
    return text.removeprefix("Value error, ").rstrip(".") + "."
