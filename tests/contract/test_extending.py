"""What EXTENDING.md promises: a toy of each kind, in a folder of its own, is found by name and works.

A toy setting is in ``tests/unit/test_declared.py``: it is a field of a class, not a file.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from pipelines.cli import main
from pipelines.settings.parsing import parse
from pipelines.settings.streaming import PersistSettings
from resubmit_api.app import close_app, create_app
from resubmit_api.auth.tokens import digest_of, line_of, new_token
from resubmit_api.settings import ApiSettings
from tests._archive import archive
from tests._messages import row, table
from tests.servers import wait_until
from tests.unit.test_backend_types import PROTOCOLS, checked
from transforms import discovery, registry
from transforms.errors import ConfigurationError
from transforms.lake import Lake

TOYS = Path(__file__).parents[1] / "toys"
PLACES = {
    "brokers": "transforms.brokers",
    "formats": "transforms.formats",
    "indexes": "transforms.indexes",
    "launchers": "resubmit_api.launchers",
    "pages": "resubmit_api.pages",
    "views": "resubmit_api.views",
}
MODULES = {"brokers": "toybroker", "formats": "toyformat", "indexes": "toyindex", "launchers": "toylauncher"}


@pytest.fixture(scope="module", autouse=True)
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The toys, in a temporary folder that the packages look into as well."""
    folder = tmp_path_factory.mktemp("toys")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        for kind, package in PLACES.items():
            shutil.copytree(TOYS / kind, folder / kind)
            found = importlib.import_module(package)
            patch.setattr(found, "__path__", [*found.__path__, str(folder / kind)])
        yield folder
    for name in {name for name in sys.modules if ".toy" in name} - before:
        del sys.modules[name]
    discovery.load.cache_clear()


class Place:
    """A lake, an index and a topic of toys, with five messages archived."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.topic = directory, directory / "orders-replay"
        self.index_url, self.lake = f"toyindex://{directory}/index.db", Lake(f"file://{directory}/lake")
        index = registry.index(self.index_url).open(self.index_url)
        rows = [row(topic="orders", partition=0, offset=n, data=b"%d" % n) for n in range(5)]
        archive(self.lake, index, table(*rows), format="toyformat")
        index.close()

    def settings(self, **more: Any) -> ApiSettings:
        return ApiSettings(
            index=self.index_url,
            lakes=(self.lake.url,),
            destination_urls=(("toys", f"toybroker://{self.directory}"),),
            jobs_directory=self.directory / "jobs",
            **more,
        )

    def request(self) -> dict[str, Any]:
        selection = {"sources": ["orders"]}
        return {"destination": "toys", "topic": self.topic.name, "selection": selection}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def api(place: Place) -> Iterator[FlaskClient]:
    app = create_app(place.settings())
    yield app.test_client()
    close_app(app)


def test_the_toys_are_among_the_known_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["persist", "--source=nobody://h/t", "--lake=file:///l", "--index=other:///i"]) == 2
    said = capsys.readouterr().err
    assert "'nobody' is not one of the brokers; known are kafka, nats, pubsub, toybroker" in said
    assert "'other' is not one of the indexes; known are mongodb, sqlite, toyindex" in said
    with pytest.raises(ConfigurationError, match="known are dataflow, flink, subprocess, toylauncher"):
        discovery.load("resubmit_api.launchers", "nobody")


def test_the_command_line_takes_a_toy_broker_format_and_index() -> None:
    words = ["--source=toybroker:///t/orders", "--lake=file:///l", "--index=toyindex:///i"]
    settings, _ = parse(PersistSettings, [*words, "--format=toyformat"])
    assert settings.layout.format == "toyformat"
    with pytest.raises(ConfigurationError, match="it is a file on one machine"):
        parse(PersistSettings, [*words, "--runner=SparkRunner"])


def test_the_doctor_examines_a_toy_broker(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.topic.write_text("00\n")
    lake, index = f"--lake={place.lake.url}", f"--index={place.index_url}"
    assert main(["doctor", "persist", f"--source=toybroker://{place.topic}", lake, index]) == 0
    said = capsys.readouterr().out
    assert "1 topic, 1 partition: orders-replay." in said
    assert "it is a toy" in said
    assert "it has 1 source." in said


def test_a_small_resubmission_goes_from_toy_files_to_a_toy_broker(api: FlaskClient, place: Place) -> None:
    answer = api.post("/v1/resubmissions", json=place.request())
    assert answer.status_code == 202, answer.text
    id = answer.json["id"]
    wait_until(lambda: api.get(f"/v1/resubmissions/{id}").json["state"] == "COMPLETED", 60, "the end")
    assert [bytes.fromhex(line) for line in place.topic.read_text().split()] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_large_resubmission_is_given_to_a_toy_launcher(place: Place) -> None:
    words = ["--index", place.index_url, "--lake", place.lake.url, "--launcher=toylauncher"]
    words.append(f"--destination=toys=toybroker://{place.directory}")
    with pytest.raises(ConfigurationError, match="needs --launcher_config ink=COLOUR"):
        parse(ApiSettings, words)
    given, _ = parse(ApiSettings, [*words, "--launcher_config=ink=blue", "--inline_limit=0"])
    app = create_app(place.settings(**{name: getattr(given, name) for name in _OF_JOBS}))
    try:
        made = app.test_client().post("/v1/resubmissions", json=place.request()).json
        asked = place.directory / "jobs" / "asked.json"
        wait_until(asked.exists, 60, "the launcher to be asked")
        assert json.loads(asked.read_text())["resume"] == made["id"]
    finally:
        close_app(app)


_OF_JOBS = ("launcher", "launcher_config", "inline_limit")


def test_a_toy_view_is_served_and_documented(api: FlaskClient) -> None:
    assert api.get("/v1/toys").json == {"toys": ["ball"]}
    described = api.get("/openapi.json").json["paths"]["/v1/toys"]["get"]
    assert described["operationId"] == "listToys"
    assert "Requires the role viewer." in described["description"]


def test_a_toy_page_is_shown_and_in_the_navigation_of_those_who_may_open_it(place: Place) -> None:
    operator, viewer = new_token(), new_token()
    tokens = place.directory / "tokens.yaml"
    listed = (("operator", operator), ("viewer", viewer))
    lines = [line_of(role, role, digest_of(token), (), ()) for role, token in listed]
    tokens.write_text("\n".join(lines) + "\n")
    app = create_app(place.settings(tokens=str(tokens)))
    try:
        client = app.test_client()
        shown = client.get("/toys", headers={"Authorization": f"Bearer {operator}"}).text
        assert "<li>ball</li>" in shown
        assert shown.index(">Resubmit<") < shown.index(">Toys<") < shown.index(">Jobs<")
        assert '<a href="/toys" aria-current="page">Toys</a>' in shown
        client = app.test_client()
        bearer = {"Authorization": f"Bearer {viewer}"}
        assert client.get("/toys", headers=bearer).status_code == 403
        assert 'href="/toys"' not in client.get("/explore", headers=bearer).text
    finally:
        close_app(app)


@pytest.mark.parametrize("kind", MODULES)
def test_a_toy_is_checked_as_every_backend_is(kind: str, toys: Path, tmp_path: Path) -> None:
    name, protocol = MODULES[kind], PROTOCOLS[PLACES[kind]]
    program = f"import {name}\nfrom {PLACES[kind]} import {protocol}\n_: {protocol} = {name}\n"
    assert checked(program, tmp_path, toys / kind).startswith("Success")
