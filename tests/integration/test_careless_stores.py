"""A store that overwrites what is to be created only is refused by whatever would write to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pipelines.cli import main
from tests.servers.careless import careless
from tests.servers.moto import Moto
from tests.servers.nats import Nats
from transforms.indexes import sqlite
from transforms.lake import Lake
from transforms.probe import overwrites, refuse_overwriting

_TOLD = "the store overwrote an object that was to be created only. Persistor would lose messages here"


@pytest.fixture
def store(moto: Moto) -> Iterator[tuple[str, Mapping[str, str]]]:
    bucket = moto.create_bucket(f"careless-{uuid.uuid4().hex[:8]}")
    with careless(moto) as config:
        yield bucket, config


def lake_words(url: str, config: Mapping[str, str]) -> list[str]:
    return ["--lake", url, *(f"--lake_config={name}={value}" for name, value in config.items())]


@pytest.mark.parametrize("command", ["persist", "plan", "resubmit", "api"])
def test_who_writes_refuses_it_at_the_start(
    store: tuple[str, Mapping[str, str]],
    nats: Nats,
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    index = f"sqlite://{tmp_path}/index.db"
    sqlite.open(index).close()
    to = ["--destination", f"{nats.url}/copy", "--selection", '{"sources": ["orders"]}']
    words = {
        "persist": ["--source", f"{nats.url}/orders"],
        "plan": to,
        "resubmit": to,
        "api": ["--destination", f"main={nats.url}", "--port", "0"],
    }[command]
    assert main([command, "--index", index, *words, *lake_words(*store)]) == 2
    assert _TOLD in capsys.readouterr().err


def test_doctor_finds_it(
    store: tuple[str, Mapping[str, str]], nats: Nats, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--source", f"{nats.url}/orders", "--index", "none"]
    assert main(["doctor", "persist", *source, *lake_words(*store)]) == 1
    assert "The store overwrote an object" in capsys.readouterr().out


def test_a_store_that_keeps_its_word_is_asked_again_and_has_one_object_more(moto: Moto) -> None:
    lake = Lake(moto.create_bucket(f"careful-{uuid.uuid4().hex[:8]}"), moto.config)
    for _ in range(3):
        refuse_overwriting(lake)
    assert [path for path, _ in lake.list()] == ["_persistor/conditional-writes"]
    assert not overwrites(lake, "_persistor/other", b"x")
