"""The three kinds of failure: configuration, transient, permanent."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "ConfigurationError",
    "PermanentError",
    "PersistorError",
    "TransientError",
]


class PersistorError(Exception):
    """Base of every failure that Persistor itself raises.

    Attributes:
        exit_code: exit code of a command that fails with it.
    """

    exit_code = 1


class ConfigurationError(PersistorError):
    """The user's request or settings are not valid.

    A sentence names a setting as data, in backticks: `lossy`, or with a value `timestamp: now`. Whoever shows
    it words that (:func:`transforms.settings.naming.in_words`).

    Attributes:
        problems: one sentence per problem, each with a remedy.
    """

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[ConfigurationError], tuple[list[str]]]:
        return type(self), (self.problems,)


class TransientError(PersistorError):
    """A server does not answer, or refuses for now; the same call may succeed later."""


class PermanentError(PersistorError):
    """The same call will never succeed, however long one waits."""
