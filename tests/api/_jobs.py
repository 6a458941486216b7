"""Asking the service for jobs, and waiting for what becomes of them."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Client, Site
from tests.servers import wait_until

ORDERS = {"sources": ["orders"]}
SLOW = {"messages_per_second": 100}


def body(topic: str, selection: object = ORDERS, **others: object) -> dict[str, Any]:
    return {"destination": "main", "topic": topic, "selection": selection, **others}


def post(api: Client, path: str, content: object = None, status: int = 200, **headers: str) -> dict[str, Any]:
    response = api.post(f"/v1/{path}", json={} if content is None else content, headers=headers)
    assert response.status_code == status, response.text
    return dict(response.json())


def look(api: Client, job: dict[str, Any]) -> dict[str, Any]:
    return dict(api.get(f"/v1/resubmissions/{job['id']}").json())


def until(api: Client, job: dict[str, Any], *states: str, seconds: float = 60) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        found = look(api, job)
        return found if found["state"] in states else None

    return wait_until(there, seconds, f"job {job['id']} to be {states}")


def sending(api: Client, job: dict[str, Any], more_than: int = 0) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        found = look(api, job)
        return found if found["progress"]["published"] > more_than else None

    return wait_until(there, 60, f"job {job['id']} to send")


def left(site: Site, job: dict[str, Any]) -> None:
    wait_until(lambda: (site.index.get_job(job["id"]) or {})["lease"] is None, 60, "the lease to be free")


def counts(job: dict[str, Any]) -> tuple[int, int, int]:
    progress = job["progress"]
    return progress["planned"], progress["published"], progress["failed"]


def payloads(first: int, end: int) -> list[bytes]:
    return [b"order %d" % n for n in range(first, end)]
