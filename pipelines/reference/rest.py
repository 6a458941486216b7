"""The table of the API's requests, made from its OpenAPI document."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apiflask import APIFlask

from pipelines.settings.parsing import parse
from resubmit_api.app import close_app, create_app
from resubmit_api.settings import ApiSettings

__all__ = ["requests_table"]

_ROLE = re.compile(r"For the role (\w+)\.")


def requests_table() -> str:
    """One Markdown table: every request, what it does and the role that it needs."""
    with _app() as app:
        document: Any = app.spec
    head = ["| Request | Does | Role |", "|---|---|---|"]
    return "\n".join([*head, *_rows(document)])


@contextmanager
def _app() -> Iterator[APIFlask]:
    """The service over an empty index, so that its document can be asked for."""
    with tempfile.TemporaryDirectory() as directory:
        words = ["--index", f"sqlite://{directory}/index.db", "--lake", f"file://{directory}"]
        settings, _ = parse(ApiSettings, [*words, "--destination", "main=nats://127.0.0.1:4222"])
        app = create_app(settings)
        try:
            with app.app_context():
                yield app
        finally:
            close_app(app)


def _by_subject(path: tuple[str, Any]) -> tuple[bool, str]:
    return not path[0].startswith("/v1/"), path[0]


def _rows(document: dict[str, Any]) -> Iterator[str]:
    for path, operations in sorted(document["paths"].items(), key=_by_subject):
        for method, operation in operations.items():
            role = _ROLE.search(operation.get("description", ""))
            cells = f"`{method.upper()} {path}`", operation["summary"], role[1] if role else "anyone"
            yield f"| {' | '.join(cells)} |"
