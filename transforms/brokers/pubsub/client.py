"""Shared by reader and publisher: URL, settings, Google's clients and their errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from google.api_core import exceptions
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

from transforms import secrets
from transforms.errors import ConfigurationError, PermanentError, TransientError

__all__ = ["SETTINGS", "calling", "client_options", "parse_url"]

SETTINGS = ("credentials", "endpoint")
"""``credentials``: file of a service account's key, else Google's default; ``endpoint``: HOST of a region."""

_USER = (exceptions.NotFound, exceptions.Forbidden, exceptions.Unauthorized)
_PASSING = (exceptions.ServerError, exceptions.TooManyRequests, exceptions.Conflict, exceptions.Cancelled)


def parse_url(url: str) -> tuple[str, list[str]]:
    """Project and names of ``pubsub://PROJECT/NAME[,…]``."""
    project, _, path = secrets.resolve(url, "pubsub://…").partition("://")[2].partition("/")
    names = [name for name in path.split(",") if name]
    if not project or not names or "/" in path:
        raise ConfigurationError(f"{url!r} is not pubsub://PROJECT/NAME; project or name is missing.")
    return project, list(dict.fromkeys(names))


def client_options(config: Mapping[str, str]) -> dict[str, Any]:
    """Arguments for Google's clients from our settings.

    Raises:
        ConfigurationError: an unknown setting.
    """
    unknown = sorted(set(config) - set(SETTINGS))
    if unknown:
        raise ConfigurationError(
            f"Pub/Sub has no settings {', '.join(unknown)}; known are {', '.join(SETTINGS)}."
        )
    given = secrets.resolve_all(config)
    names = {"credentials": "credentials_file", "endpoint": "api_endpoint"}
    return {"client_options": {names[name]: value for name, value in given.items()}}


@contextlib.contextmanager
def calling(what: str) -> Iterator[None]:
    """Turn the library's errors into ours; ``what`` names the call in them."""
    try:
        yield
    except _USER as error:
        raise ConfigurationError(f"Pub/Sub refuses to {what}: {error.message}.") from error
    except (DefaultCredentialsError, FileNotFoundError) as error:
        raise ConfigurationError(
            f"Pub/Sub finds no credentials to {what}; set the option credentials or log in with gcloud."
        ) from error
    except (*_PASSING, exceptions.RetryError, GoogleAuthError) as error:
        raise TransientError(f"Pub/Sub could not {what}: {type(error).__name__}") from error
    except ValueError as error:
        if "closed" not in str(error):
            raise
        raise TransientError(f"Pub/Sub could not {what}: the reader is closed") from error
    except exceptions.GoogleAPICallError as error:
        raise PermanentError(f"Pub/Sub refuses to {what}: {type(error).__name__}") from error
