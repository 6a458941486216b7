"""MkDocs hooks: Markdown files outside of docs/, and files that pages link to, join the site.

The files are written for readers of the repository, so their links are paths in it. Here each such
link becomes one of the site: README.md is its first page, and a linked file outside of ``docs/`` is
copied below ``source/``. A link to what does not exist stays as it is, and fails the strict build.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["on_files", "on_page_markdown"]

_ROOT = Path(__file__).parents[2]
_PAGES = ("README.md", "CONTRIBUTING.md", "EXTENDING.md", "CHANGELOG.md", "bench/RESULTS.md")
_LOOKS = {
    "site.css": "docs/_site/site.css",
    "icon.svg": "resubmit_api/static/icon.svg",
    "inter.woff2": "resubmit_api/static/inter.woff2",
    "plex-mono.woff2": "resubmit_api/static/plex-mono.woff2",
}
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, the style and every file that a page links to."""
    for name in _PAGES:
        files.append(_file(config, _in_site(name), name))
    for place, path in _LOOKS.items():
        files.append(_file(config, place, path))
    outside = {path for page in files.documentation_pages() for path in _linked(page)}
    for path in sorted(outside - set(_PAGES)):
        if not path.startswith("docs/") and (_ROOT / path).is_file():
            files.append(_file(config, _in_site(path), path))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turn links between files of the repository into links between pages of the site."""
    here = page.file.src_uri
    return _LINK.sub(_in_page(here), markdown)


def _file(config: MkDocsConfig, place: str, path: str) -> File:
    return File.generated(config, place, abs_src_path=str(_ROOT / path))


def _in_page(here: str) -> Callable[[re.Match[str]], str]:
    def rewritten(link: re.Match[str]) -> str:
        target = _in_site(_in_repository(here, link[1]))
        return f"]({posixpath.relpath(target, posixpath.dirname(here) or '.')}"

    return rewritten


def _linked(page: File) -> set[str]:
    return {_in_repository(page.src_uri, target) for target in _LINK.findall(page.content_string)}


def _in_repository(here: str, target: str) -> str:
    """The path in the repository that a link of the page ``here`` means."""
    name = "README.md" if here == "index.md" else here
    folder = posixpath.dirname(name if name in _PAGES else f"docs/{here}")
    return posixpath.normpath(posixpath.join(folder, target))


def _in_site(path: str) -> str:
    """Where a file of the repository is in the site."""
    if path in _PAGES:
        return "index.md" if path == "README.md" else path
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}"
