"""The container image, built by buildah without a daemon and run with its root file system read-only."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import SERVERS, Unavailable, fetch_once, run, tool

__all__ = ["Container", "Debian", "built", "forget", "holding"]

_ROOT = Path(__file__).resolve().parents[2]
_BASE = "localhost/persistor-base:bookworm-slim"
_APT = "apt-get install buildah debootstrap"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_NOT_IN_SLIM = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists")
_ISOLATED = "unshare", "--mount", "--pid", "--fork", "--kill-child"
_SCRIPT = """
touch "$ROOT/etc/hosts"
mount --bind "$ROOT" "$ROOT"
mount --bind /etc/hosts "$ROOT/etc/hosts"
mount -o remount,bind,ro "$ROOT"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
if [ -n "$DATA" ]; then mkdir "$ROOT/tmp/data" && mount --bind "$DATA" "$ROOT/tmp/data"; fi
if [ -n "$ALONE" ]; then ip link set lo up; fi
exec chroot --userspec="$USERSPEC" "$ROOT" /usr/bin/env -i -C "$WORKDIR" "$@"
"""


@dataclass(frozen=True)
class Container:
    """An image that is unpacked under ``root``, and what it says about itself.

    Attributes:
        data: a directory of this machine that it has as /tmp/data.
        alone: it has a network of its own, in which nobody else is.
    """

    root: Path
    config: Mapping[str, Any]
    data: Path | None = None
    alone: bool = False

    def start(self, *arguments: str, entrypoint: Sequence[str] | None = None) -> subprocess.Popen[str]:
        """Run it as its user, in its environment, with nothing but /tmp to write to."""
        words = [*(entrypoint or self.config["Entrypoint"]), *arguments]
        network = ["--net"] if self.alone else []
        return subprocess.Popen(
            [*_ISOLATED, *network, "sh", "-ec", _SCRIPT, "sh", *self.config["Env"], *words],
            env={**os.environ, **self._environment()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, entrypoint: Sequence[str] | None = None) -> tuple[int, str]:
        """Run it to its end; the exit code and what it printed."""
        process = self.start(*arguments, entrypoint=entrypoint)
        try:
            output, _ = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            raise
        return process.returncode, output

    def _environment(self) -> dict[str, str]:
        data = str(self.data or "")
        if data:
            os.chown(data, *map(int, self.config["User"].split(":")))
        alone = "1" if self.alone else ""
        said = {"WORKDIR": self.config["WorkingDir"], "USERSPEC": self.config["User"]}
        return {"ROOT": str(self.root), "DATA": data, "ALONE": alone, **said}


class Debian:
    """The base that images are built on here, where no registry of images is asked."""

    name = "debian-bookworm-slim"

    @classmethod
    def install(cls) -> Path:
        """Its root directory, made from Debian's packages.

        Raises:
            Unavailable: no image can be built here.
        """
        tool("buildah", _APT)
        tool("debootstrap", _APT)
        if os.geteuid() != 0:
            raise Unavailable("images are built as root here", "run the tests as root")
        return fetch_once(cls.name, _bootstrap) / "root"


@contextmanager
def built(target: str, **arguments: str) -> Iterator[Container]:
    """The image of a target of ``templates/Dockerfile``; its steps are kept for another until :func:`forget`.

    Raises:
        Unavailable: no image can be built here.
    """
    _import(Debian.install())
    name = f"localhost/persistor-{target}-{os.getpid()}"
    options = [f"--build-arg={key}={value}" for key, value in {"BASE": _BASE, **arguments}.items()]
    dockerfile = str(_ROOT / "templates" / "Dockerfile")
    flags = ["--isolation=chroot", "--format=docker", "--layers", f"--target={target}"]
    _buildah("bud", *flags, *options, f"--file={dockerfile}", f"--tag={name}", str(_ROOT))
    container = _buildah("from", "--pull-never", name)
    try:
        config = json.loads(_buildah("inspect", "--type=image", name))["Docker"]["config"]
        yield Container(Path(_buildah("mount", container)), config)
    finally:
        _buildah("rm", container)
        _buildah("rmi", "--force", name)


@contextmanager
def holding(**files: Path) -> Iterator[str]:
    """An image that holds nothing but programs, by their places with ``__`` for each slash.

    Stands for an image of others of which ``templates/Dockerfile`` takes single files.
    """
    name = f"localhost/{next(iter(files)).lower()}-{os.getpid()}"
    container = _buildah("from", "scratch")
    for place, file in files.items():
        _buildah("add", "--quiet", "--chmod=755", container, str(file), "/" + place.replace("__", "/"))
    _buildah("commit", "--quiet", "--rm", container, name)
    try:
        yield name
    finally:
        _buildah("rmi", "--force", name)


def forget() -> None:
    """Remove what building has kept, but for the base."""
    _buildah("rmi", "--prune", "--force")


def _bootstrap(target: Path) -> None:
    packages = "python3,python3-venv,ca-certificates"
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(target / "root")]
    run(command, cwd=target)
    for folder in _NOT_IN_SLIM:
        shutil.rmtree(target / "root" / folder)
    # What this machine trusts, the build has to trust.
    shutil.copy(_CERTIFICATES, target / "root" / _CERTIFICATES.relative_to("/"))


def _import(root: Path) -> None:
    with contextlib.suppress(RuntimeError):  # it is not there yet
        _buildah("inspect", "--type=image", _BASE)
        return
    container = _buildah("from", "scratch")
    _buildah("add", "--quiet", container, str(root), "/")
    trusting = [f"--env={name}={_CERTIFICATES}" for name in ("SSL_CERT_FILE", "PIP_CERT")]
    _buildah("config", *trusting, container)
    _buildah("commit", "--quiet", "--rm", container, _BASE)


def _buildah(*arguments: str) -> str:
    store = SERVERS / "images"
    places = [f"--root={store / 'root'}", f"--runroot={store / 'run'}", f"--storage-driver={_driver()}"]
    done = subprocess.run(
        ["buildah", *places, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"buildah {arguments[0]} failed: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout.strip()


def _driver() -> str:
    """Overlays where the kernel has them for this file system; else whole copies, which takes longer."""
    store = SERVERS / "images"
    known = store / "driver"
    if not known.exists():
        parts = [store / "probe" / name for name in ("lower", "upper", "work", "merged")]
        for part in parts:
            part.mkdir(parents=True, exist_ok=True)
        lower, upper, work, merged = parts
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        mount = ["unshare", "--mount", "mount", "-t", "overlay", "overlay", "-o", options, str(merged)]
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        known.write_text("overlay" if mounted else "vfs")
    return known.read_text()
