"""Tokens: what is kept of them, what they open, and how one is taken back."""

from __future__ import annotations

import hmac
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from resubmit_api.auth.grants import CallersIndex
from resubmit_api.auth.limits import RateLimit
from resubmit_api.auth.tokens import Caller, Role, Tokens, digest_of, line_of, new_token
from tests._entries import entry, table
from transforms.errors import ConfigurationError, TransientError
from transforms.indexes import Index
from transforms.selection import Selection, parse_selection

PROGRAM = Path(sys.executable).with_name("persistor")


def a_line(token: str, name: str = "alice", **others: object) -> str:
    return json.dumps({"name": name, "role": "viewer", "sha256": digest_of(token)} | others)


def write(file: Path, *lines: str) -> Path:
    """Replace the list as an editor or a mounted secret does: by another file."""
    new = file.with_suffix(".new")
    new.write_text("".join(f"- {line}\n" for line in lines))
    new.replace(file)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.yaml"


def test_no_two_tokens_are_alike_and_none_can_be_guessed() -> None:
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert all(token.startswith("persistor_") and len(token) == 53 for token in made)


def test_a_token_opens_what_its_line_says(file: Path) -> None:
    write(file, a_line("t1", sources=["orders*"]), a_line("t2", "bob", role="admin"))
    tokens = Tokens(str(file))
    assert tokens.find(digest_of("t1")) == Caller("alice", Role.VIEWER, ("orders*",), None, digest_of("t1"))
    assert tokens.find(digest_of("t2")) == Caller("bob", Role.ADMIN, None, None, digest_of("t2"))
    for wrong in ("t3", "", "T1", "t1 ", "\ud800", "ü", digest_of("t1")):
        assert tokens.find(digest_of(wrong)) is None


def test_digests_are_compared_in_constant_time_with_every_token(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    write(file, a_line("t1"), a_line("t2", "bob"), a_line("t3", "carol"))
    assert Tokens(str(file)).find(digest_of("t1")).name == "alice"
    assert compared == [(digest_of(token), digest_of("t1")) for token in ("t1", "t2", "t3")]


def test_a_token_that_is_taken_out_of_the_file_opens_nothing_any_more(file: Path) -> None:
    write(file, a_line("t1"), a_line("t2", "bob"))
    tokens = Tokens(str(file))
    assert tokens.find(digest_of("t2")) is not None
    write(file, a_line("t1"))
    assert (tokens.find(digest_of("t2")), tokens.named("bob")) == (None, None)
    write(file)
    assert tokens.find(digest_of("t1")) is None


def test_while_the_file_is_wrong_nobody_is_let_in(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokens = Tokens(str(write(file, a_line("t1"))))
    for broken in ('{"name": "x"}', "]["):
        write(file, broken)
        with pytest.raises(TransientError, match="not valid"):
            tokens.find(digest_of("t1"))
    assert "every request is refused until it is fixed" in caplog.text
    file.unlink()
    with pytest.raises(TransientError):
        tokens.named("alice")
    write(file, a_line("t1"))
    assert tokens.find(digest_of("t1")) is not None


def test_a_variable_may_hold_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENS", f"[{a_line('t1')}]")
    assert Tokens("${env:TOKENS}").find(digest_of("t1")).name == "alice"
    monkeypatch.delenv("TOKENS")
    with pytest.raises(ConfigurationError, match="TOKENS"):
        Tokens("${env:TOKENS}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: b", "write a list of tokens"),
        ("- {", "`tokens`, line"),
        ("- {name: a b, role: viewer, sha256: x}", "entry 1, name"),
        ("- {name: a, role: root, sha256: x}", "entry 1, role"),
        ("- {name: a, role: viewer, sha256: persistor_secret}", "entry 1, sha256"),
        ("- {name: a, role: viewer}", "entry 1, sha256: Field required"),
        ("- {name: a, token: persistor_secret}", "entry 1, token: Extra inputs"),
        ("- {name: a, role: viewer, source: x}", "entry 1, source"),
        (f"- {a_line('1')}\n- {a_line('2')}", "alice has the name of another entry"),
        (f"- {a_line('1')}\n- {a_line('1', 'bob')}", "bob has the token of another entry"),
    ],
)
def test_a_wrong_list_is_reported_without_what_is_in_it(file: Path, text: str, problem: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=problem) as raised:
        Tokens(str(file))
    assert "secret" not in str(raised.value)


def test_a_list_that_is_not_there_is_reported(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Tokens(str(file))


def test_an_empty_list_lets_nobody_in(file: Path) -> None:
    assert Tokens(str(write(file))).find(digest_of("")) is None


@pytest.mark.parametrize(
    ("pattern", "source", "open"),
    [
        ("orders", "orders", True),
        ("orders", "orders-eu", False),
        ("orders*", "orders-eu", True),
        ("orders*", "my-orders", False),
        ("*", "", True),
        ("eu.*.v*", "eu.orders.v2", True),
        ("eu.orders", "euXorders", False),
        ("[ab]", "a", False),
        ("?", "a", False),
        ("a*", "a\nb", True),
        ("ab*bc", "abc", False),
        ("a*b*b", "ab", False),
        ("*a*a*", "aba", True),
        (f"*{'a*' * 60}b", "a" * 4000, False),  # which a regular expression would try for years
    ],
)
def test_only_the_star_of_a_pattern_stands_for_anything(pattern: str, source: str, open: bool) -> None:
    assert Caller("a", Role.VIEWER, sources=(pattern,)).may_read(source) is open


@pytest.mark.parametrize(
    ("patterns", "topic", "open"),
    [
        (None, "any", True),
        ((), "any", False),
        (("main",), "any", True),
        (("other",), "any", False),
        (("main/orders-*",), "orders-replay", True),
        (("main/orders-*",), "payments", False),
        (("main/*-replay",), "{topic}-replay", True),
        (("main/orders-*",), "{topic}-replay", False),
        (("main/?topic?-replay", "main/{topic}-replay"), "{topic}-replay", False),
        (("main/{*}-replay",), "{topic}-replay", False),
        (("main/*",), "{origin}", True),
        (("main/orders", "main/{*"), "{origin}", False),
    ],
)
def test_a_destination_is_open_by_name_or_by_topic(
    patterns: tuple[str, ...] | None, topic: str, open: bool
) -> None:
    assert Caller("a", Role.OPERATOR, destinations=patterns).may_send("main", topic) is open


@pytest.mark.parametrize(
    ("patterns", "open"),
    [
        (None, True),
        ((), False),
        (("main",), True),
        (("main/orders-*",), True),
        (("mai", "main2", "main2/*", "other/main/x"), False),
        (("m*/orders",), True),
        (("*",), True),
        (("*/orders",), True),
    ],
)
def test_a_destination_is_offered_where_some_topic_of_it_is_open(
    patterns: tuple[str, ...] | None, open: bool
) -> None:
    assert Caller("a", Role.OPERATOR, destinations=patterns).may_send_to("main") is open


def test_a_selection_that_is_confined_to_very_many_sources_can_be_stored_and_read_again(index: Index) -> None:
    index.insert(table(*[entry(f"s{n}_0_0", source=f"s{n}") for n in range(1001)]))
    caller = Caller("a", Role.OPERATOR, sources=("s*",))
    confined = CallersIndex(index, caller).confine(Selection(all=True))
    assert len(confined.sources) == 1001
    assert parse_selection(confined.to_json()) == confined
    assert sum(source.messages for source in index.summarize(confined)) == 1001


def test_the_command_shows_a_token_once_and_writes_the_line_for_the_file(file: Path) -> None:
    words = ["--name", "alice", "--role", "operator", "--allow_source", "orders*", "--allow_source", "a: '#'"]
    done = subprocess.run([PROGRAM, "token", *words], capture_output=True, text=True, check=True)
    [shown] = [line.rpartition(" ")[2] for line in done.stderr.splitlines() if "not shown again" in line]
    file.write_text(done.stdout)
    assert shown not in done.stdout
    assert yaml.safe_load(done.stdout)[0]["sources"] == ["orders*", "a: '#'"]
    found = Tokens(str(file)).find(digest_of(shown))
    assert (found.name, found.role, found.destinations) == ("alice", Role.OPERATOR, None)


def test_a_name_that_the_list_would_not_take_is_refused() -> None:
    done = subprocess.run([PROGRAM, "token", "--name", "a b"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--name: write" in done.stderr


def test_a_line_of_the_list_is_what_was_meant() -> None:
    line = line_of("a", "admin", "0" * 64, ["x"], [])
    assert yaml.safe_load(line) == [{"name": "a", "role": "admin", "sha256": "0" * 64, "sources": ["x"]}]


def test_a_caller_may_ask_in_a_burst_and_then_at_the_rate() -> None:
    now = [1000.0]
    limit = RateLimit(60, lambda: now[0])
    assert [limit.take("a") for _ in range(60)] == [0.0] * 60
    assert limit.take("a") == pytest.approx(1)
    assert limit.take("b") == 0
    now[0] += 1
    assert (limit.take("a"), limit.take("a")) == (0, pytest.approx(1))
    now[0] += 60
    assert [limit.take("a") for _ in range(60)] == [0.0] * 60


def test_callers_that_fell_silent_take_no_memory() -> None:
    now = [0.0]
    limit = RateLimit(60, lambda: now[0])
    for caller in range(25_000):
        limit.take(str(caller))
        now[0] += 0.001
    assert len(limit._whole) <= 10_001


def test_what_changes_within_a_moment_is_seen(file: Path) -> None:
    tokens = Tokens(str(write(file, a_line("t1"))))
    for number in range(20):  # same size, mostly within the clock's resolution
        write(file, a_line(f"u{number:02d}"))
        assert tokens.find(digest_of(f"u{number:02d}")) is not None
    before = file.stat()
    write(file, a_line("u99"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert tokens.find(digest_of("u99")) is not None
