"""A lake on a disk after a process was killed or the power was cut: what has a name is whole."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from tests._messages import row, table
from tests._processes import spawned
from transforms import registry
from transforms.errors import PermanentError
from transforms.lake import Lake
from transforms.layout import file_path
from transforms.model import Batch, Layout
from transforms.reading.claims import Chain, Claim, Claims
from transforms.reading.newest import resume
from transforms.writing import BatchWriter

_CUT = """
import os, signal, sys
from pathlib import Path
from transforms.lake import Lake

root, at, path = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
calls, synced = 0, set()

def cut_at_this_call():
    global calls
    calls += 1
    if calls == at:
        # What the disk was not asked to keep is gone, as after a power cut.
        for file in root.rglob("*"):
            if file.is_file() and file.stat().st_ino not in synced:
                os.truncate(file, 0)
        os.kill(os.getpid(), signal.SIGKILL)

def wrapped(call, note=lambda *_: None):
    def called(*given, **more):
        cut_at_this_call()
        call(*given, **more)
        note(*given)
    return called

os.fsync = wrapped(os.fsync, lambda opened: synced.add(os.fstat(opened).st_ino))
os.link = wrapped(os.link)
os.unlink = wrapped(os.unlink)
Lake(f"file://{root}").put_new(path, b"all of it")
"""
_WRITER = """
import hashlib, itertools, os, sys
from transforms.lake import Lake

lake = Lake(sys.argv[1])
for number in itertools.count():
    data = os.urandom(200_000)
    lake.put_new(f"orders/{hashlib.sha256(data).hexdigest()}", data)
"""
_MANY = 40


def test_wherever_the_power_is_cut_a_name_has_its_content(tmp_path: Path) -> None:
    codes = []
    for at in range(1, _MANY):
        root = tmp_path / str(at)
        lake = Lake(f"file://{root}")
        command = [sys.executable, "-c", _CUT, str(root), str(at), "orders/a"]
        codes.append(subprocess.run(command, check=False).returncode)
        there = list(lake.list())
        assert there in ([], [("orders/a", 9)]), f"torn at call {at}"
        assert lake.put_new("orders/a", b"all of it") is (there == [])
        assert bytes(lake.get("orders/a")) == b"all of it"
        if codes[-1] == 0:
            break
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    assert len(codes) > 5


def test_a_writer_that_is_killed_at_any_moment_leaves_whole_objects(tmp_path: Path) -> None:
    lake, chance, seen = Lake(f"file://{tmp_path}/lake"), random.Random(7), 0
    for _ in range(8):
        with spawned([sys.executable, "-c", _WRITER, lake.url]) as process:
            deadline = time.monotonic() + 60
            while len(list(lake.list())) <= seen and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.1))
            process.kill()
            process.wait()
        objects = list(lake.list())
        assert len(objects) > seen
        seen = len(objects)
        for path, _size in objects:
            assert hashlib.sha256(lake.get(path)).hexdigest() == path.rpartition("/")[2]
    seen_by_others = ds.dataset(tmp_path / "lake", format="parquet", schema=pa.schema([])).files
    assert {Path(file).name for file in seen_by_others} == {path.rpartition("/")[2] for path, _ in objects}


def test_an_empty_claim_is_named_with_what_to_do(lake: Lake) -> None:
    claims, chain = Claims(lake), Chain("orders", 1, 0)
    lake.put_new("_persistor/claims/orders/0/00000000000000000000", b"")
    for call in (
        lambda: claims.make(chain, 0, Claim(5, 5, 0, "{topic}", "parquet")),
        lambda: resume(claims, chain, None),
        lambda: claims.ahead(chain, 0),
    ):
        with pytest.raises(PermanentError, match=r"claims/orders/0/0{20} is empty: .* Delete it"):
            call()


@pytest.mark.parametrize("dead_letters", [False, True])
@pytest.mark.parametrize(("content", "told"), [(b"", "is empty"), (b"PAR1", "is damaged")])
@pytest.mark.parametrize("format", ["parquet", "avro", "jsonl"])
def test_an_empty_or_damaged_file_is_named_and_no_dead_letter(
    lake: Lake, format: str, content: bytes, told: str, dead_letters: bool
) -> None:
    layout = Layout("{topic}", format)
    messages = table(row(id="orders_0_0", topic="orders", data=b"x"), sums=True)
    batch = Batch("orders", 1, 0, messages, "orders-0-0", layout, "count")
    path = file_path("orders", batch.name, format)
    lake.put_new(path, content)
    writer = BatchWriter(lake, dead_letters=dead_letters)
    with pytest.raises(PermanentError, match=rf"^{lake.location(path)} {told}.* Delete it, and what"):
        writer.write(batch)
    gone = replace(batch, messages=messages.slice(0, 0), elsewhere=("orders",))
    with pytest.raises(PermanentError, match=rf"^{lake.location(path)} {told}"):
        writer.write(gone)
    Path(lake.location(path).removeprefix("file://")).unlink()
    files, dead = writer.write(batch)
    assert (len(files), dead) == (1, [])
    assert registry.format_of(format).decode(lake.get(path)).equals(messages)
