"""How servers are fetched: once for all, into one folder of the project."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["SERVERS", "Unavailable", "fetch_once", "run", "tool"]


SERVERS = Path(__file__).resolve().parents[2] / ".servers"
"""Where servers are installed; kept between runs and out of version control."""


class Unavailable(Exception):  # noqa: N818 - it is a state of the machine, which tests turn into a skip
    """This machine cannot have that server.

    Attributes:
        reason: what is missing.
        install: the command line that would install it.
    """

    def __init__(self, reason: str, install: str) -> None:
        super().__init__(f"{reason}; install it with: {install}")
        self.reason = reason
        self.install = install

    def __reduce__(self) -> tuple[type[Unavailable], tuple[str, str]]:
        return type(self), (self.reason, self.install)


def tool(name: str, install: str) -> str:
    """The path of a program on this machine.

    Raises:
        Unavailable: it is not installed; ``install`` is the line that would.
    """
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"{name} is not on this machine", install)
    return path


def run(command: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    """Run one step of an installation.

    Raises:
        Unavailable: it failed; gives the end of what it printed.
    """
    done = subprocess.run(
        list(command),
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        end = done.stdout.decode(errors="replace").strip()[-1000:]
        raise Unavailable(f"{command[0]} failed: {end}", f"(in {cwd}) {' '.join(command)}")


def fetch_once(name: str, fetch: Callable[[Path], None]) -> Path:
    """The directory ``.servers/<name>``, which ``fetch`` fills the first time it is asked for.

    Several processes may ask at once: one fetches, the others wait. A fetch that fails leaves nothing.
    """
    target = SERVERS / name
    if target.is_dir():
        return target
    with _locked(SERVERS / f"{name.replace('/', '-')}.lock"):
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=SERVERS, prefix=".fetching-") as scratch:
                content = Path(scratch) / "content"
                content.mkdir()
                fetch(content)
                content.rename(target)
    return target


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
