"""What every index store must do with jobs and the audit trail."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from transforms import registry
from transforms.indexes import Index

JOB = {
    "id": "20261101-b",
    "version": 7,
    "state": "RUNNING",
    "count": 2**53,
    "a.b": {"$set": [None, 1.5, "\0"]},
}


def job(id: str, **values: Any) -> dict[str, Any]:
    return {"id": id, "version": 0, "state": "RUNNING", "requested_by": "ann", **values}


def make(index: Index, row: dict[str, Any]) -> dict[str, Any]:
    return index.create_job(row, asked(row))


def asked(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "who": "ann", "a.b": {"$set": [None, "\0"]}}


class TestJobs:
    def test_a_job_is_kept_as_it_was_given(self, index: Index) -> None:
        assert make(index, JOB) == JOB
        assert index.get_job(JOB["id"]) == JOB
        assert index.get_job("other") is None

    def test_only_the_version_that_was_read_is_replaced(self, index: Index) -> None:
        make(index, job("1"))
        assert index.replace_job(job("1", state="PAUSED"), 0)
        assert index.get_job("1") == job("1", state="PAUSED", version=1)
        assert not index.replace_job(job("1", state="CANCELLING"), 0)
        assert not index.replace_job(job("2"), 0)
        assert index.get_job("1") == job("1", state="PAUSED", version=1)
        assert index.get_job("2") is None

    def test_of_many_writers_one_replaces_a_version(self, index: Index) -> None:
        make(index, job("1", count=0))

        def add(_: int) -> None:
            while True:
                row = index.get_job("1") or {}
                if index.replace_job({**row, "count": row["count"] + 1}, row["version"]):
                    return

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(40)))
        assert index.get_job("1") == job("1", count=40, version=40)

    def test_a_key_makes_one_job_of_each_requester(self, index: Index) -> None:
        first = make(index, job("1", idempotency_key="k"))
        assert make(index, job("2", idempotency_key="k")) == first
        assert index.get_job("2") is None
        others: list[dict[str, Any]] = [{"requested_by": "bob"}, {"requested_by": None}]
        for id, other in zip("34", others, strict=True):
            assert make(index, job(id, idempotency_key="k", **other))["id"] == id
        assert make(index, job("5", idempotency_key="k", requested_by=None))["id"] == "4"
        for id in "67":
            assert make(index, job(id, idempotency_key=None))["id"] == id

    def test_a_key_holds_also_for_requests_at_the_same_time(self, url: str) -> None:
        opened = [registry.index(url).open(url) for _ in range(2)]
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda n: make(opened[n % 2], job(str(n), idempotency_key="k")), range(16)))
        assert len({row["id"] for row in made}) == 1
        assert opened[0].list_jobs(5) == made[:1]
        for index in opened:
            index.close()

    def test_an_id_that_is_taken_gives_the_job_that_has_it(self, index: Index) -> None:
        first = make(index, job("1", count=1))
        assert make(index, job("1", count=2)) == first == index.get_job("1")

    def test_jobs_are_listed_last_first(self, index: Index) -> None:
        for id in ("1", "3", "2"):
            make(index, job(id))
        assert [row["id"] for row in index.list_jobs(2)] == ["3", "2"]
        assert [row["id"] for row in index.list_jobs(5, before="3")] == ["2", "1"]
        assert index.list_jobs(5, before="1") == []

    def test_jobs_are_listed_by_state(self, index: Index) -> None:
        for id, state in zip("12345", ["RUNNING", "PAUSED", "FAILED", "RUNNING", "PAUSED"], strict=True):
            make(index, job(id, state=state))
        assert index.replace_job(job("2", state="RUNNING"), 0)
        assert [row["id"] for row in index.list_jobs(9, states=["RUNNING"])] == ["4", "2", "1"]
        assert [row["id"] for row in index.list_jobs(3, states=["FAILED", "RUNNING"])] == ["4", "3", "2"]
        assert [row["id"] for row in index.list_jobs(9, "4", ["PAUSED", "RUNNING"])] == ["2", "1"]
        assert index.list_jobs(9, states=[]) == []


class TestAudit:
    def test_records_are_listed_last_first_as_they_were_given(self, index: Index) -> None:
        records = [{"id": id, "who": "ann", "a.b": {"$set": [None, "\0"]}} for id in "123"]
        for record in records:
            index.append_audit(record)
        assert index.list_audit(2) == [records[2], records[1]]
        assert index.list_audit(5, before="2") == [records[0]]

    def test_who_asked_for_a_job_is_stored_with_it_and_stays(self, index: Index) -> None:
        index.append_audit(asked({"id": "1"}))
        for id in ("2", "4"):
            make(index, job(id))
        index.append_audit(asked({"id": "3"}))
        assert index.replace_job(job("2", requested_by="bob"), 0)
        assert index.list_audit(3) == [asked({"id": id}) for id in "432"]
        assert index.list_audit(9, before="3") == [asked({"id": id}) for id in "21"]

    def test_who_asks_for_a_job_that_is_there_leaves_no_record(self, index: Index) -> None:
        make(index, job("1", idempotency_key="k"))
        for row in (job("1"), job("2", idempotency_key="k")):
            assert index.create_job(row, {**asked(row), "who": "eve"})["id"] == "1"
        assert index.list_audit(9) == [asked({"id": "1"})]

    def test_a_change_and_the_record_of_who_asked_for_it_are_one_write(self, index: Index) -> None:
        make(index, job("1"))
        index.append_audit(asked({"id": "4"}))
        assert index.replace_job(job("1", state="PAUSED"), 0, asked({"id": "3"}))
        assert index.replace_job(job("1", state="RUNNING"), 1, asked({"id": "5"}))
        assert [record["id"] for record in index.list_audit(9)] == ["5", "4", "3", "1"]
        assert [record["id"] for record in index.list_audit(2, before="5")] == ["4", "3"]

    def test_what_does_not_happen_leaves_no_record_and_what_leaves_none_does_not_happen(
        self, index: Index
    ) -> None:
        make(index, job("1"))
        assert not index.replace_job(job("1", state="PAUSED"), 7, asked({"id": "2"}))
        with pytest.raises(TypeError):
            index.replace_job(job("1", state="PAUSED"), 0, {"id": "3", "who": b"no JSON"})
        assert index.get_job("1") == job("1")
        assert index.list_audit(9) == [asked({"id": "1"})]

    def test_a_job_whose_record_cannot_be_stored_is_not_made(self, index: Index) -> None:
        with pytest.raises(TypeError):
            index.create_job(job("1"), {"id": "1", "who": b"no JSON"})
        assert (index.get_job("1"), index.list_jobs(9), index.list_audit(9)) == (None, [], [])
