"""Whatever producers and requesters have stored is shown everywhere as data."""

from __future__ import annotations

from urllib.parse import quote

import pyarrow as pa
import pytest

from tests.api.conftest import Client, Site, order
from tests.api.hostile._texts import (
    EVERYTHING,
    MARKUP,
    RESUBMISSIONS,
    SEARCH,
    TEXTS,
    is_page,
    short,
)
from transforms.jobs.actions import create
from transforms.jobs.rows import new_row
from transforms.replay.options import Options
from transforms.selection import Selection

ENDS_OF_TIME = (
    10**18,
    -(10**18),
    (1 << 63) - 1,
    -(1 << 63),
    253_402_300_799_999_999,
    -62_135_596_800_000_000,
)


def archive_hostile(site: Site) -> list[str]:
    """Messages as a hostile producer makes them; the ids."""
    for number, time in enumerate(ENDS_OF_TIME):
        site.archive(order(0, topic="times", publish_time=time), source=f"times-{number}")
    headers = [{"name": name, "value": name.encode()} for name in (*TEXTS, "__proto__", "")]
    letter = [
        {"name": f"persistor-error-{name}", "value": MARKUP.encode()}
        for name in ("category", "source", "reason")
    ]
    row = order(0, topic=MARKUP, key=MARKUP.encode(), headers=headers + letter, data=MARKUP.encode())
    site.archive(row, source=MARKUP.replace("/", "|"))
    stored = pa.concat_tables(list(site.index.select(EVERYTHING, ["id"])))
    return [id for id in stored["id"].to_pylist() if id != "orders_0_0"]


def test_what_a_hostile_producer_sends_is_shown_everywhere_as_data(site: Site, exposed: Client) -> None:
    ids = archive_hostile(site)
    assert len(ids) == len(ENDS_OF_TIME) + 1
    for id in ids:
        address = quote(id, safe="")
        message = exposed.get(f"/v1/messages/{address}")
        assert (message.status_code, message.json()["id"]) == (200, id)
        payload = exposed.get(f"/v1/messages/{address}/payload")
        assert payload.status_code == 200
        assert payload.headers["Content-Disposition"].startswith('attachment; filename="')
        assert payload.headers["Content-Type"] == "application/octet-stream"
        assert exposed.get(f"/exact/c/{address}").json()[0]["unique_id"] == id
        is_page(exposed.get(f"/messages/{address}"))
    page = exposed.post(SEARCH, json={"selection": {"all": True}}).json()
    assert [m["publish_time"][:4] for m in page["messages"]] == ["0001"] * 3 + ["2023"] * 2 + ["9999"] * 3
    assert exposed.post("/query/c", json={"filters": [{"unique_id": {"$exists": True}}]}).status_code == 200
    for address in (
        "/overview",
        "/dead-letters",
        '/explore?selection={"all":true}',
        '/explore/figures?selection={"all":true}',
    ):
        shown = exposed.get(address)
        assert shown.status_code == 200
        is_page(shown)


@pytest.mark.parametrize("value", TEXTS, ids=short)
def test_a_job_of_whatever_words_is_shown_as_data(site: Site, exposed: Client, value: str) -> None:
    row = new_row(
        destination=value,
        topic=value,
        selection=Selection(sources=(value,)),
        options=Options(),
        requested_by=value,
    )
    failure = {"id": value, "location": value, "category": value, "reason": value}
    row |= {"state": "FAILED", "reason": value, "errors": [failure], "finished": row["created"]}
    create(site.index, row, "resubmit")
    shown = exposed.get(f"{RESUBMISSIONS}/{row['id']}").json()
    assert [shown["topic"], shown["reason"], shown["errors"]] == [value, value, [failure]]
    for address in (f"/jobs/{row['id']}", "/jobs", "/jobs/table", f"/jobs/{row['id']}/progress", "/overview"):
        page = exposed.get(address)
        assert page.status_code == 200
        is_page(page)
    assert exposed.get("/metrics").status_code == 200
