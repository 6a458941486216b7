"""The jars of Apache Flink and of Beam's job server for it.

Neither Flink's distribution nor Beam's job server is in a registry as such. Flink's jars come out
of the package that brings them to Python, the job server is put together from Maven's artifacts.
"""

from __future__ import annotations

import re
import shutil
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.servers import fetch_once, run, tool
from tests.servers._java import JAVA_LINE, java

__all__ = ["flink_jars", "job_server_jar"]

VERSION = "1.19.3"
BEAM_ON_FLINK = "2.70.0"
"""The newest of Beam's Flink runners for this Flink whose artifacts Maven has; it runs newer Python SDKs."""

_PACKAGE = "apache-flink-libraries"
_POM = """<project><modelVersion>4.0.0</modelVersion>
<groupId>persistor</groupId><artifactId>flink</artifactId><version>1</version>
<dependencyManagement><dependencies><dependency>
<groupId>org.apache.beam</groupId><artifactId>beam-runners-java-job-service</artifactId><version>2.65.0</version>
</dependency></dependencies></dependencyManagement>
<dependencies><dependency>
<groupId>org.apache.beam</groupId><artifactId>beam-runners-flink-{flink}</artifactId><version>{version}</version>
<exclusions><exclusion><groupId>org.apache.flink</groupId><artifactId>*</artifactId></exclusion></exclusions>
</dependency></dependencies></project>
"""
_MANIFEST = "Manifest-Version: 1.0\nMain-Class: org.apache.beam.runners.flink.FlinkJobServerDriver\n"
_LEFT_OUT = re.compile(
    r"META-INF/([^/]+\.(SF|DSA|RSA|EC)|MANIFEST\.MF|INDEX\.LIST)|.*/|org/slf4j/.*|module-info.class"
)


def job_server_jar() -> Path:
    """The jar that ``--flink_job_server_jar`` takes; it is the core of every job's jar as well."""
    return fetch_once(f"beam-on-flink-{BEAM_ON_FLINK}", _fetch_beam) / "job-server.jar"


def flink_jars() -> Path:
    """The folder with Flink's jars."""
    java()
    return fetch_once(f"flink-{VERSION}", _fetch_flink)


def _fetch_flink(target: Path) -> None:
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(target)]
    run([*download, f"{_PACKAGE}=={VERSION}"], cwd=target)
    [source] = target.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            file = archive.extractfile(member) if re.match(r"(flink-dist|log4j-).*\.jar$", name) else None
            if file is not None:
                with (target / name).open("wb") as jar:
                    shutil.copyfileobj(file, jar)
    source.unlink()


def _fetch_beam(target: Path) -> None:
    flink = VERSION.rpartition(".")[0]
    (target / "pom.xml").write_text(_POM.format(flink=flink, version=BEAM_ON_FLINK))
    copy = ["dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime"]
    run([tool("mvn", JAVA_LINE), "-q", "-B", *copy], cwd=target)
    _merge(sorted((target / "libs").glob("*.jar")), target / "job-server.jar")
    shutil.rmtree(target / "libs")


def _merge(jars: Sequence[Path], target: Path) -> None:
    """One jar of many: the first of equal names stands, lists of services are joined."""
    services: dict[str, list[str]] = defaultdict(list)
    known = set[str]()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as merged:
        merged.writestr("META-INF/MANIFEST.MF", _MANIFEST)
        for name, content in _members(jars):
            if name.startswith("META-INF/services/"):
                services[name] += content.decode().splitlines()
            elif name not in known:
                known.add(name)
                merged.writestr(name, content)
        for name, lines in services.items():
            merged.writestr(name, "".join(f"{line}\n" for line in dict.fromkeys(lines)))


def _members(jars: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for jar in jars:
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if not _LEFT_OUT.fullmatch(name):
                    yield name, archive.read(name)
