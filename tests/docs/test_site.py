"""The site is whole: no link is dead, and nothing is fetched from elsewhere when a page is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LOADED = re.compile(
    r"<(?:link|script|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, check=False, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return place


def test_the_readme_is_the_first_page_and_its_links_are_pages_of_the_site(site: Path) -> None:
    first = (site / "index.html").read_text()
    assert "Two commands" in first
    for target in ("EXTENDING.html", "CONTRIBUTING.html", "reference/settings.html"):
        assert f'href="{target}"' in first
        assert (site / target).exists()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    found = {page.name: fetched for page in pages if (fetched := _LOADED.findall(page.read_text()))}
    assert found == {}
    styles = [*site.glob("*.css"), *site.glob("assets/stylesheets/*.css")]
    assert styles
    for style in styles:
        assert not re.search(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", style.read_text()), style
