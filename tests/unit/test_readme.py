"""The documents say what is: options exist, links lead somewhere, the settings table is up to date."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.reference.__main__ import BEGIN, END, TABLES
from pipelines.reference.exit_codes import exit_codes_table
from pipelines.reference.metrics import declared
from pipelines.settings.beam_options import ON_BEAM
from pipelines.settings.declared import settings_of
from pipelines.settings.flink_options import FlinkNeeds
from pipelines.settings.help import EPILOGS, SUMMARIES
from transforms.registry import names
from transforms.selection import parse_selection

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BEAM = {f"--{name}" for options in (PipelineOptions, FlinkNeeds) for name in options().get_all_options()}


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command line of ``persistor`` in a text, with its options."""
    joined = re.sub(r"\\\n\s*", " ", text)
    names = "|".join(SUMMARIES)
    lines = rf"(?:^\s*(?:\$ )?|<\()persistor ((?:{names})\b[^\n#]*(?:\n[^\n$]*?'$)?)"
    for line in re.findall(lines, joined, re.MULTILINE):
        words = shlex.split(line.replace("…", "")) if line.count("'") % 2 == 0 else line.split()
        examined = words[1] if words[0] == "doctor" and len(words) > 1 else words[0]
        yield examined, [word.partition("=")[0] for word in words if word.startswith("--")]


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_is_that_of_the_declarations(name: str) -> None:
    text = (ROOT / name).read_text()
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == TABLES[name](), "run: make reference"


def test_a_process_that_serves_metrics_declares_the_same() -> None:
    lines = (
        "from pipelines.reference.metrics import metrics_table",
        "from transforms.metrics.host import watch",
        "before = metrics_table()",
        "watch('persist', [], [])",
        "assert metrics_table() == before",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_an_example_exists(page: Path) -> None:
    for command, options in commands(page.read_text()):
        known = {f"--{setting.name}" for setting in settings_of(command)} | {"--config", "--help"}
        assert set(options) <= known | (BEAM if command in ON_BEAM else set()), (command, options)


@pytest.mark.parametrize("command", sorted(EPILOGS))
def test_the_examples_of_the_help_use_options_that_exist(command: str) -> None:
    found = list(commands(EPILOGS[command]))
    assert found
    for name, options in found:
        known = {f"--{setting.name}" for setting in settings_of(command)} | {"--config"}
        assert name == command
        assert set(options) <= known | BEAM


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_selections_in_the_documents_are_valid() -> None:
    texts = [
        text for page in PAGES for text in re.findall(r"--selection '(\{.*?\})'", page.read_text(), re.DOTALL)
    ]
    page = (ROOT / "docs/reference/selection.md").read_text()
    block = re.search(r"^```json\n(\{\n.*?^\}\n)", page, re.DOTALL | re.MULTILINE)
    assert len(texts) >= 2
    assert block
    for text in [*texts, block[1]]:
        parse_selection(text)


def test_the_exit_codes_of_every_command_are_in_the_reference() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.*) \| (.+) \|$", exit_codes_table(), re.MULTILINE)
    assert {row[0] for row in rows} == set(EPILOGS) - {"token", "completion"}


def test_every_broker_has_its_column_in_the_guarantees() -> None:
    text = (ROOT / "README.md").read_text()
    [header] = re.findall(r"^\| \|(.*Kafka.*NATS.*)\|$", text, re.MULTILINE)
    assert len(header.split("|")) == len(names("brokers"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    known = {name for metric in declared() for name in {metric.name, *metric.series()}}
    assert set(re.findall(r"persistor_[a-z_]*[a-z]", page.read_text())) <= known | {"persistor_api"}


def test_make_lists_every_target_that_the_documents_name() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:`|^|\$ )make ([a-z-]+)", page.read_text(), re.MULTILINE)
        assert set(named) <= targets, page
