"""What the tests share that send what does harm elsewhere, and what an answer then has to be."""

from __future__ import annotations

from typing import Any

import requests

from transforms.selection import Selection

SEARCH, PLANS, RESUBMISSIONS = "/v1/messages/search", "/v1/plans", "/v1/resubmissions"
EVERYTHING = Selection(all=True)
MARKUP = "<script>alert(1)</script>"
HOSTILE = [
    {"$where": "sleep(5000)"},
    {"$gt": ""},
    {"$function": {"body": "function () { return true }", "args": [], "lang": "js"}},
    "$where",
    "$$ROOT",
    "a.$[].b",
    "'; DROP TABLE entries; --",
    '" OR 1=1 --',
    "%' OR id LIKE '%",
    "../../../../etc/passwd",
    "_persistor/plans/../../x",
    "a\r\nSet-Cookie: evil=1",
    MARKUP,
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}${7*7}",
    "\u0000",
    "\u202e\u200b",
    "\U0001f4a9" * 100,
]
TEXTS = [value for value in HOSTILE if isinstance(value, str)]
ACTIONS = ("pause", "resume", "cancel", "retry")
QUERIES = {
    "/explore": ("selection", "cursor", "from", "to", "ids", "source", "range"),
    "/explore/figures": ("selection",),
    "/resubmit": ("selection", "topic", "destination", "limit", "percent", "order"),
    "/jobs": ("state", "cursor"),
}
FORMS = {
    "/explore/selection": ("source", "from", "ids"),
    "/resubmit": ("selection", "topic", "destination", "limit", "percent", "order", "source_prefix"),
    "/resubmit-request": ("selection", "topic", "destination", "limit", "percent"),
    "/dead-letters/send-back": ("selection", "destination"),
}


def short(value: Any) -> str:
    return repr(value)[:40]


def is_problem(response: requests.Response, *statuses: int) -> None:
    assert response.status_code in statuses, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "Set-Cookie" not in response.headers


def is_page(response: requests.Response) -> None:
    assert response.status_code in {200, 400, 404, 422, 503}, response.text
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Set-Cookie" not in response.headers
    assert MARKUP not in response.text
    assert "<img src=x" not in response.text
