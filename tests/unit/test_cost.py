"""The command ``persistor cost``: a lake's own figures, at prices that anybody can correct."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from pipelines.cost import _listed
from tests._requests import count_requests
from tests.unit.test_expire import files
from tests.unit.test_expire_claims import archived
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.maintenance import figures as counting
from transforms.maintenance.cost import Prices
from transforms.maintenance.figures import figures
from transforms.maintenance.maintain import maintain


def costs(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    code = main(["cost", "--json", *words])
    out, err = capsys.readouterr()
    return code, json.loads(out)["report"] if out else None, err


def test_figures_are_those_of_the_lake_before_and_after_maintain(lake: Lake, index: Index) -> None:
    archived(lake, index, 48)
    sizes = dict(lake.list())
    stored = sum(sizes[path] for path in files(lake))
    before = figures(lake)
    assert (before.claims, before.folded, before.files, before.messages, before.chains) == (48, 0, 48, 480, 1)
    assert (before.bytes, before.estimated) == (pytest.approx(stored, rel=0.01), False)
    assert before.days == pytest.approx(480 / 24, rel=0.05)
    maintain(lake, timedelta(0))
    after = figures(lake)
    assert (after.claims, after.folded, after.files, after.messages) == (1, 47, 48, 480)
    assert (after.bytes, after.days) == (pytest.approx(stored, rel=0.01), pytest.approx(before.days))


def test_of_many_claims_some_are_read(lake: Lake, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    archived(lake, index, 48)
    monkeypatch.setattr(counting, "_SAMPLE", 10)
    monkeypatch.setattr(counting, "_FILES", 5)
    requests = count_requests(monkeypatch)
    found = figures(lake)
    assert (found.claims, found.files, found.messages, found.estimated) == (48, 48, 480, True)
    assert (requests["get"], requests["head"]) == (10, 5)


def test_a_month_costs_what_the_prices_say(
    lake: Lake, index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archived(lake, index, 48)
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "{as_of: 2026-01, currency: EUR, file: {gb_month: 1e6, write_1000: 5, read_1000: 1}, "
        "index: {gb_month: 1e4, bytes_per_message: 100}}"
    )
    code, report, _ = costs(capsys, f"--lake={lake.url}", f"--prices={prices}")
    now, found = report["now"], report["lake"]
    a_month = 30.44 / found["days"] * 96
    assert (code, report["prices"], now["objects"]) == (0, "EUR, as of 2026-01", 96)
    assert now["writes"] == now["reads"] == round(a_month)
    assert now["request cost"] == pytest.approx(a_month * 6 / 1000, abs=0.01)
    assert now["index cost"] == pytest.approx(480 * 100 / 1e9 * 1e4, abs=0.01)
    assert now["storage cost"] == pytest.approx(now["bytes"] / 1e9 * 1e6, abs=0.01)
    assert now["cost"] == pytest.approx(
        sum(now[f"{one} cost"] for one in ("storage", "request", "index")), abs=0.02
    )
    assert report["after"]["objects"] < now["objects"]


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "file"])
def test_the_prices_that_come_with_it_know_every_store(scheme: str) -> None:
    prices = Prices.of(_listed(None), scheme)
    assert (prices.currency, prices.as_of[:2], prices.gb_month > 0) == ("USD", "20", True)


@pytest.mark.parametrize("text", ["[]", "{as_of: 1, currency: EUR, file: {gb_month: dear}}", "{"])
def test_prices_that_cannot_be_used_are_named(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "prices.yaml").write_text(text)
    code, _, problem = costs(capsys, f"--lake={lake.url}", f"--prices={tmp_path}/prices.yaml")
    assert (code, "--prices" in problem) == (2, True)


def test_people_read_it_too(lake: Lake, index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    archived(lake, index, 3)
    assert main(["cost", f"--lake={lake.url}"]) == 0
    printed = capsys.readouterr().out
    assert "now (objects)" in printed
    assert "after (cost)" in printed
