"""Claims in the lake: which range of a partition is one batch, and who may write it.

Every partition of every incarnation of a source has one chain of claims. The first begins at position 0,
each next one where the last one ends. Each is created by put-if-absent: the second writer takes over the
existing range. A hole in the topic (retention overtook the
reader, or reading begins late, or the messages became dead letters while the lake was away) is
a claim without rows, and so is what can never be read, which its claim says. So any number of
jobs, killed and restarted at any time, cut a partition into the same batches, and a batch has one name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from transforms.brokers import Mark
from transforms.entries import total_size
from transforms.errors import ConfigurationError, PermanentError, TransientError
from transforms.lake import INTERNAL, Lake, ObjectMissingError
from transforms.model import Layout
from transforms.stored import dump, load, load_as

__all__ = [
    "MOST",
    "Chain",
    "Claim",
    "Claims",
    "check_same",
    "described",
    "file_stem",
    "note",
    "now_us",
    "parse_note",
    "partitions",
    "rewritten",
]

_DIGITS = 20
MOST = 1000
"""Claims that are looked up at once: as many as stores list in one answer."""


@dataclass(frozen=True)
class Chain:
    """Names one chain of claims.

    Attributes:
        source: the source's name.
        incarnation: 1, and one more each time the topic was re-created.
        partition: the partition's number.
    """

    source: str
    incarnation: int
    partition: int

    @property
    def name(self) -> str:
        """``<source>/<partition>``, ``<source>~<n>/<partition>`` from the second incarnation on."""
        return f"{_incarnated(quote(self.source, safe=''), self.incarnation)}/{self.partition}"


@dataclass(frozen=True)
class Claim:
    """One range of positions, from its place in the chain up to ``next``.

    Attributes:
        next: the first position behind the range.
        rows: messages in the range when it was claimed; 0 for a hole.
        durable: the position below which everything was in lake and index when this was claimed.
        path: path template of the files; every writer of the range uses it.
        format: format of the files.
        first: checksum of the first row, None for a hole.
        first_position: position of the first row.
        directories: directories of the rows' files, known even after the broker has lost the rows.
        lost: of a hole that could not be read and was given up: what is lost, in one sentence.
        naming: how names of files are escaped, see :class:`transforms.model.Layout`.
        last_position: position of the last row, where the broker has epochs.
        leader_epoch: epoch of the leader that wrote the last row; no row of the range has a higher one.
        bytes: sizes of the rows together, as the index has them; None for a hole and where an older
            release made the claim, as what follows.
        oldest_us: lowest publish time of the rows, microseconds since 1970; None where no row has one.
        newest_us: highest publish time.
        archived_us: when the range was claimed, by the clock of whoever claimed it.
        sinks: names the sinks that ``durable`` counts for.
    """

    next: int
    rows: int
    durable: int
    path: str
    format: str
    first: int | None = None
    first_position: int | None = None
    directories: list[str] = field(default_factory=list)
    lost: str | None = None
    naming: int = 1
    last_position: int | None = None
    leader_epoch: int | None = None
    bytes: int | None = None
    oldest_us: int | None = None
    newest_us: int | None = None
    # Of two who claim the same, one is not another for these.
    archived_us: int | None = field(default=None, compare=False)
    sinks: str | None = field(default=None, compare=False)

    @property
    def layout(self) -> Layout:
        """Path template, format and naming as one."""
        return Layout(self.path, self.format, self.naming)

    @property
    def mark(self) -> Mark | None:
        """Of the last row, as far as known."""
        if self.leader_epoch is None or self.last_position is None:
            return None
        return self.last_position + 1, self.leader_epoch

    def behind(self, mark: Mark | None) -> Claim:
        """The claim with this mark of its last row."""
        return self if mark is None else replace(self, last_position=mark[0] - 1, leader_epoch=mark[1])


class Claims:
    """The claims of one lake. Thread-safe. Every method raises ``TransientError`` if it does not answer.

    Attributes:
        lake: where they are.
        seek: whether :meth:`starts` is one request, wherever it begins.
    """

    def __init__(self, lake: Lake) -> None:
        self.seek = lake.seeks
        self.lake = self._lake = lake

    def incarnation(self, source: str, broker: str, identity: str) -> int:
        """The number of a topic's incarnation; an unknown one is entered as the newest.

        Args:
            broker: identity of the broker.
            identity: identity of this topic, different from an earlier one of the same name.

        Raises:
            ConfigurationError: the source belongs to another broker.
        """
        folder = f"{INTERNAL}sources/{quote(source, safe='')}"
        known = sorted(path for path, _ in self._lake.list(folder))
        for number, path in enumerate(known, start=1):
            entry = load(self._lake.get(path), self._lake.location(path))
            _refuse_foreign(source, broker, entry["broker"], self._lake.url)
            if entry["incarnation"] == identity:
                return number
        number = len(known) + 1
        content = dump({"broker": broker, "incarnation": identity}).encode()
        if not self._lake.put_new(f"{folder}/{number:06d}.json", content):
            return self.incarnation(source, broker, identity)
        return number

    def make(self, chain: Chain, start: int, claim: Claim) -> Claim:
        """Claim a range.

        Returns:
            The claim at ``start``: this one, or an existing one.
        """
        path = _path(chain, start)
        if self._lake.put_new(path, dump(asdict(claim)).encode()):
            return claim
        try:
            return self._read(path)
        except ObjectMissingError as error:
            # S3 answers "exists" while another writer is still uploading.
            raise TransientError(f"{path} is being written by another job") from error

    def ahead(self, chain: Chain, start: int) -> dict[int, Claim]:
        """The first 1,000 claims from ``start`` on, by their start."""
        return {at: self.listed(chain, at) for at in self.starts(chain, start - 1)}

    def listed(self, chain: Chain, start: int) -> Claim:
        """The claim at a start that was listed.

        Raises:
            TransientError: it was folded or expired since then: list again.
        """
        try:
            return self.read(chain, start)
        except ObjectMissingError as error:
            raise TransientError(f"{_path(chain, start)} was removed while claims were read") from error

    def read(self, chain: Chain, start: int) -> Claim:
        """The claim at ``start``.

        Raises:
            ObjectMissingError: there is none.
        """
        return self._read(_path(chain, start))

    def starts(self, chain: Chain, after: int) -> list[int]:
        """The first 1,000 starts of claims behind a position, in order."""
        found = self._starts(chain, after)
        return list(islice(found, MOST)) if self.seek else sorted(found)[:MOST]

    def last_starts(self, chain: Chain) -> list[int]:
        """The last 1,000, by a list of the whole chain."""
        return sorted(self._starts(chain, -1))[-MOST:]

    def reach(self) -> None:
        """Send any request to the lake, to check that it answers."""
        next(self._lake.list(f"{INTERNAL}sources"), None)

    def _starts(self, chain: Chain, after: int) -> Iterator[int]:
        offset = _path(chain, after) if after >= 0 else None
        for path, _ in self._lake.list(_folder(chain), after=offset):
            yield int(path.rpartition("/")[2])

    def _read(self, path: str) -> Claim:
        return load_as(Claim, self._lake.get(path), self._lake.location(path))


def partitions(lake: Lake, source: str, incarnation: int) -> int:
    """The number of partitions of a topic from which messages were read; 0 if unknown.

    Raises:
        TransientError: the lake does not answer.
    """
    numbers = lake.folders(f"{INTERNAL}claims/{_incarnated(quote(source, safe=''), incarnation)}")
    return max(map(int, numbers), default=-1) + 1


def file_stem(source: str, incarnation: int, partition: int, start: int) -> str:
    """The stem of the names of all files of one claimed range."""
    return f"{_incarnated(source, incarnation)}-{partition}-{start:0{_DIGITS}d}"


def note(incarnation: int, start: int) -> str:
    """The note stored at the broker with a position: the start of the range before it, and its topic.

    A broker that knows topics by name would apply a late acknowledgement to the topic's successor.
    """
    return str(start) if incarnation == 1 else f"{start}~{incarnation}"


def parse_note(note: str) -> tuple[int | None, int]:
    """Start and incarnation in a note; no start if it is not ours."""
    start, _, incarnation = note.partition("~")
    return (int(start) if start.isdigit() else None), int(incarnation) if incarnation.isdigit() else 1


def described(claim: Claim, messages: pa.Table) -> Claim:
    """The claim with what it says of its rows (``FILE_SCHEMA``), for whoever does not open their files."""
    times = pc.min_max(messages["publish_time"].cast(pa.int64())).as_py()
    return replace(
        claim,
        first=messages["checksum"][0].as_py(),
        first_position=messages["offset"][0].as_py(),
        bytes=total_size(messages),
        oldest_us=times["min"],
        newest_us=times["max"],
    )


def now_us() -> int:
    """Microseconds since 1970, by this machine's clock."""
    return time.time_ns() // 1000


def check_same(chain: Chain, claim: Claim, messages: pa.Table, epoch: int | None) -> None:
    """Compare messages of a claimed range (``FILE_SCHEMA``) with what is known of those that were claimed.

    Args:
        epoch: of the leader that wrote the last of them, as far as known.

    Raises:
        PermanentError: they are others.
    """
    first = messages.slice(0, 1).to_pylist() if claim.first is not None else []
    if first and first[0]["offset"] == claim.first_position and first[0]["checksum"] != claim.first:
        raise rewritten(f"{chain.name}: position {claim.first_position} holds another message")
    if epoch is not None and claim.leader_epoch is not None and epoch > claim.leader_epoch:
        raise rewritten(f"{chain.name}: a later leader has written messages before position {claim.next}")


def rewritten(where: str) -> PermanentError:
    """The failure of a job that finds another log than the one that it has archived."""
    return PermanentError(
        f"{where}. The broker's log was rewritten, as by an unclean leader election: it has lost messages "
        "that it had confirmed. Those that were archived are safe in the lake, but their positions are given "
        "out again: archive from here on with another `source_prefix` (docs/runbooks.md, "
        "PersistorRestarting)."
    )


def _incarnated(source: str, incarnation: int) -> str:
    return source if incarnation == 1 else f"{source}~{incarnation}"


def _folder(chain: Chain) -> str:
    return f"{INTERNAL}claims/{chain.name}"


def _path(chain: Chain, start: int) -> str:
    return f"{_folder(chain)}/{start:0{_DIGITS}d}"


def _refuse_foreign(source: str, broker: str, known: str, lake: str) -> None:
    if known != broker:
        raise ConfigurationError(
            f"Source {source!r} in {lake} belongs to the broker {known}, not to {broker}: "
            "give this cluster's sources another `source_prefix`, or use another lake."
        )
