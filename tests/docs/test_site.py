"""The site is whole: no link is dead, and nothing is fetched from elsewhere when a page is read."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs._blocks import ROOT, pages

_LOADED = re.compile(
    r"<(?:link|script|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)"
)


def build(root: Path, place: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        command, check=False, cwd=root, env=quiet, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = build(ROOT, place)
    assert done.returncode == 0, done.stderr
    return place


def test_the_readme_is_the_first_page_and_its_links_are_pages_of_the_site(site: Path) -> None:
    first = (site / "index.html").read_text()
    assert "Two commands" in first
    for target in ("EXTENDING.html", "CONTRIBUTING.html", "tutorial.html", "reference/settings.html"):
        assert f'href="{target}"' in first
        assert (site / target).exists()


def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("bench", "docs", "resubmit_api/static", "templates", "tests/deploy/values"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("mkdocs.yml", "LICENSE", *(page for page in pages() if "/" not in page)):
        shutil.copy(ROOT / name, root)
    assert build(root, tmp_path / "site").returncode == 0
    for name, link in (
        ("README.md", "docs/gone.md"),
        ("EXTENDING.md", "GONE.md"),
        ("docs/tutorial.md", "../templates/gone.yaml"),
        ("docs/how-to/s3.md", "../explanation/the-lake.md#gone"),
    ):
        with (root / name).open("a") as page:
            page.write(f"\n[dead]({link})\n")
    done = build(root, tmp_path / "site")
    assert done.returncode != 0
    assert len(re.findall(r"WARNING .*(?:gone|GONE)", done.stderr)) == 4, done.stderr


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    found_pages = sorted(site.rglob("*.html"))
    assert len(found_pages) > 30
    found = {page.name: fetched for page in found_pages if (fetched := _LOADED.findall(page.read_text()))}
    assert found == {}
    styles = [*site.glob("*.css"), *site.glob("assets/stylesheets/*.css")]
    assert styles
    for style in styles:
        assert not re.search(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", style.read_text()), style
