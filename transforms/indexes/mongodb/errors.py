"""Translates MongoDB's errors into ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pymongo
from bson import InvalidDocument
from pymongo import errors as mongo

from transforms import budget
from transforms.errors import PermanentError, PersistorError, TransientError

__all__ = ["RefusedError", "failure_of", "translated"]

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_REFUSED = {13, 18, 8000}
_PERMANENT = {2, 9, 14, 121, 10334}
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


class RefusedError(TransientError):
    """Credentials, roles or certificates are insufficient; this may change while we retry."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise the block's failures as our errors; it ends with the budget, if there is one."""
    limit = budget.current()
    try:
        with nullcontext() if limit is None else pymongo.timeout(limit.left()):
            yield
    except (mongo.ExecutionTimeout, mongo.NetworkTimeout) as error:
        if limit is not None and (limit.spent() or isinstance(error, mongo.ExecutionTimeout)):
            raise budget.TooSlowError("MongoDB did not answer in time") from error
        raise _unanswered(str(error)) from error
    except mongo.ConnectionFailure as error:
        raise _unanswered(str(error)) from error
    except mongo.OperationFailure as error:
        raise failure_of(error.code, error.details or {}) from error
    except (InvalidDocument, mongo.InvalidOperation) as error:
        raise PermanentError(f"MongoDB cannot take an entry: {type(error).__name__}") from error


def failure_of(code: int | None, details: Any) -> PersistorError:
    """The error for a code of the server."""
    # The server's text may quote documents.
    reason = f"MongoDB answers {details.get('codeName', 'error')} ({code})"
    if code in _REFUSED:
        return RefusedError(f"{reason}; check user, password and roles")
    return PermanentError(reason) if code in _PERMANENT else TransientError(reason)


def _unanswered(words: str) -> TransientError:
    """The client reports what it knows of each server, then repeats it."""
    reason_text = re.sub(r" \(configured timeouts: [^)]*\)", "", words).partition(", Timeout: ")[0]
    if _UNTRUSTED in reason_text:
        return RefusedError(
            f"MongoDB's certificate is not trusted; check tlsCAFile and the hosts' names: {reason_text}"
        )
    return TransientError(f"MongoDB does not answer: {reason_text}")
