"""``persistor search`` and ``persistor show`` on a lake of files and SQLite."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.search import arriving
from tests._archive import archive
from tests._messages import row, table
from transforms.indexes import Index
from transforms.lake import Lake
from transforms.selection import Selection
from transforms.times import moment

Said = tuple[int, str, str]
Run = Callable[..., Said]
START = 1_700_000_000_000_000


@pytest.fixture
def run(tmp_path: Path, lake: Lake, index: Index, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Runs a command on ten messages of two sources, a second apart."""
    for source in ("orders", "payments"):
        headers = [{"name": "version", "value": b"2"}, {"name": "raw", "value": b"\xff"}]
        rows = [
            row(
                offset=n,
                key=b"k%d" % n,
                data=b'{"n": %d}' % n,
                headers=headers,
                publish_time=START + n * 1_000_000,
            )
            for n in range(5)
        ]
        archive(lake, index, table(*rows), source=source)

    def command(*words: str) -> Said:
        where = ["--index", f"sqlite://{tmp_path}/index.db"]
        where += ["--lake", f"file://{tmp_path}/lake"] if words[0] == "show" else []
        code = main([*words, *where])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return command


def test_entries_are_lines_the_oldest_first(run: Run) -> None:
    code, out, err = run("search", "--source", "orders", "--where", "offset>=1", "--limit", "2")
    assert code == 0
    assert [line.split("\t") for line in out.splitlines()] == [
        [f"2023-11-14T22:13:2{n}.000000Z", "orders", "0", str(n), f"k{n}", "22 B", f"orders_0_{n}"]
        for n in (1, 2)
    ]
    assert err == "These are the oldest 2; there are more. --limit shows more, --from begins later.\n"


def test_json_is_an_object_a_line(run: Run) -> None:
    _, out, err = run("search", "--json", "--where", "key=k3")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["orders_0_3", "payments_0_3"]
    assert err == ""


def test_nothing_found_is_said(run: Run) -> None:
    assert run("search", "--from", "-1h") == (0, "", "No message matches.\n")


def test_wrong_words_are_explained_by_their_setting(run: Run) -> None:
    code, _, err = run("search", "--from", "soon", "--where", "offset=x")
    assert code == 2
    assert "--where 'offset=x': offset takes a whole number" in err
    code, _, err = run("search", "--from", "soon")
    assert "--from: write a time as" in err
    assert "or as -90s, -15m, -1h, -7d or now." in err
    code, _, err = run("search", "--source", "a", "--selection", '{"all": true}')
    assert "--source and --selection both select messages: give only one of them." in err


def test_what_arrives_is_given_once(lake: Lake, index: Index) -> None:
    def stored(source: str) -> None:
        archive(lake, index, table(row(publish_time=START)), source=source)

    stored("orders")
    found = (page["id"].to_pylist() for page in arriving(index, Selection(published_from=moment(START))))
    assert next(found) == ["orders_0_0"]
    # By its time it is past, and no longer looked for.
    stored("payments")
    assert next(found) == []


def test_a_message_is_shown_with_headers_and_payload(run: Run) -> None:
    code, out, err = run("show", "orders_0_3")
    assert (code, err) == (0, "")
    assert re.search(r"^key: +k3$", out, re.MULTILINE)
    assert re.search(r"^header version: +2$", out, re.MULTILINE)
    assert re.search(r"^header raw: +base64 /w==$", out, re.MULTILINE)
    assert out.endswith('\n\n{\n  "n": 3\n}\n')
    assert run("show", "--id", "orders_0_3", "--view", "text")[1].endswith('\n\n{"n": 3}\n')
    assert "7b 22 6e 22" in run("show", "orders_0_3", "--view", "hex")[1]


def test_a_payload_is_written_byte_for_byte_and_json_has_all(run: Run) -> None:
    assert run("show", "orders_0_3", "--payload") == (0, '{"n": 3}', "")
    shown = json.loads(run("show", "orders_0_3", "--json")[1])
    assert (shown["data"], shown["headers"][1]["value"]) == ('{"n": 3}', {"base64": "/w=="})


def test_an_unknown_id_is_an_error(run: Run) -> None:
    code, out, err = run("show", "nothing_0_0")
    assert (code, out) == (1, "")
    assert "No message with the id 'nothing_0_0' is indexed: check the id and --index." in err
