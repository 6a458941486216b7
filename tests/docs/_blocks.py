"""The fenced blocks of the documents, and a session that runs those of a page as its reader would.

The line above a block says what becomes of it, in a comment that a rendered page does not show:

``<!-- tested: tests/docs/test_x.py -->``  that test runs it
``<!-- tested: tests/docs/test_x.py; keeps running -->``  it runs beside the blocks that follow
``<!-- file: persist.yaml -->``  the reader, and the test, save it under that name
``<!-- needs: Kubernetes -->``  what it needs that no test has
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests._processes import spawned
from tests.servers import free_port, wait_until
from transforms import registry
from transforms.selection import Selection

__all__ = ["ROOT", "RUN", "Block", "Session", "blocks", "indexed", "pages"]

ROOT = Path(__file__).parents[2]
RUN = ("sh", "python")
"""Languages of blocks that a reader runs."""

_FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- ((?:tested|file|needs): [^\n]*?) -->\n\Z")
_SHOWN = {"JOB": re.compile(r"^job: +(\S+)", re.MULTILINE), "TOKEN": re.compile(r"\bpersistor_[\w-]{20,}")}
"""What a reader copies from what a command printed."""


@dataclass(frozen=True)
class Block:
    """One fenced block: ``mark`` is the comment above it, empty where there is none."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    def marked(self, kind: str) -> str:
        """What follows ``kind:`` in the mark, empty where it is of another kind."""
        return self.mark.removeprefix(f"{kind}: ") if self.mark.startswith(f"{kind}: ") else ""

    @property
    def test(self) -> str:
        """The test file that runs it."""
        return self.marked("tested").partition(";")[0]

    @property
    def keeps_running(self) -> bool:
        """Whether it runs until it is stopped."""
        return self.mark.endswith("; keeps running")


def pages() -> list[str]:
    """The documents, as paths from the root."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page in their order."""
    text = (ROOT / page).read_text()
    for found in _FENCE.finditer(text):
        mark = _MARK.search(text[: found.start()])
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found["language"], found["text"], mark[1] if mark else "")


def indexed(url: str) -> int:
    """How many messages an index holds; none where its file does not exist yet."""
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite://")).exists():
        return 0
    with contextlib.closing(registry.index(url).open(url)) as index:
        return sum(source.messages for source in index.summarize(Selection(all=True)))


class Session:
    """A reader's terminal in a directory of its own.

    Args:
        places: what stands in the documents, and what it is here, such as ``broker:9092``.
        programs: directories before those of PATH.

    Attributes:
        environment: the variables of its commands.
        port: of the API.
    """

    def __init__(self, directory: Path, places: Mapping[str, str], *programs: Path) -> None:
        self.port = free_port()
        self._directory, self._places = directory, {**places, "localhost:8080": f"localhost:{self.port}"}
        path = [*map(str, programs), str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment = {**os.environ, "PATH": os.pathsep.join(path), "NO_COLOR": "1", "COLUMNS": "200"}
        self._variables = directory / ".variables"
        self._variables.touch()

    def run(self, page: str, test: str, ready: Callable[[], bool] = lambda: True) -> str:
        """Run the blocks of a page that a test is to run, and return what they printed.

        Args:
            test: the ``__file__`` of the test.
            ready: asked after each block that keeps running, until it is true.

        Raises:
            AssertionError: a block ended with another exit code than 0, or none is for that test.
        """
        name = str(Path(test).relative_to(ROOT))
        mine = [one for one in blocks(page) if one.test == name or one.marked("file")]
        assert any(one.test for one in mine), f"{page} has no block for {name}"
        printed = ""
        with contextlib.ExitStack() as running:
            for block in mine:
                printed += self._do(block, running, ready)
        return printed

    def _do(self, block: Block, running: contextlib.ExitStack, ready: Callable[[], bool]) -> str:
        if name := block.marked("file"):
            (self._directory / name).write_text(self._here(block.text))
            return ""
        if not block.keeps_running:
            return self._finish(block)
        running.enter_context(self._running(block))
        wait_until(ready, 120, f"{block.page}:{block.line} to have done its work")
        return ""

    def _finish(self, block: Block) -> str:
        command = [sys.executable, "-c", self._here(block.text)]
        if block.language == "sh":
            command = self._shell(f"{self._here(block.text)}\nexport -p > {self._variables}")
        done = subprocess.run(
            command,
            check=False,
            cwd=self._directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{block.page}:{block.line}\n{done.stdout}\n{done.stderr}"
        printed = done.stdout + done.stderr
        for place, shown in _SHOWN.items():
            if found := shown.search(printed):
                self._places[place] = found[found.re.groups]
        return printed

    @contextlib.contextmanager
    def _running(self, block: Block) -> Iterator[None]:
        """Stopped by SIGTERM at the end, which is a clean stop: exit code 0."""
        log = self._directory / f"{block.line}.log"
        # Tests run side by side, each with ports of its own.
        port = f"--port {self.port}" if " api " in block.text else "--metrics_port 0"
        command = self._shell(f"exec {self._here(block.text).rstrip()} {port}")
        with (
            log.open("w") as output,
            spawned(
                command, cwd=self._directory, env=self.environment, stdout=output, stderr=output
            ) as process,
        ):
            yield
            process.terminate()
            assert process.wait(120) == 0, log.read_text()

    def _shell(self, text: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", f". {self._variables}\n{text}"]

    def _here(self, text: str) -> str:
        for place, real in self._places.items():
            text = re.sub(rf"(?<!\w){re.escape(place)}(?!\w)", lambda _, real=real: real, text)
        return text
