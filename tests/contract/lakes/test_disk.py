"""What a lake on a disk must do besides: sync what it confirms, and refuse what is no directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from transforms.errors import ConfigurationError
from transforms.lake import Lake


class TestDisk:
    def test_a_file_and_all_that_leads_to_it_is_synced_by_everyone_who_meets_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[str] = []
        fsync = os.fsync

        def noting(opened: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{opened}").readlink()))
            fsync(opened)

        monkeypatch.setattr(os, "fsync", noting)
        lake = Lake(f"file://{tmp_path}/lake")
        way = [
            f"{tmp_path}{part}"
            for part in ("/lake/per%cent/b/file", "/lake/per%cent/b", "/lake/per%cent", "/lake", "")
        ]
        assert lake.put_new("per%cent/b/file", b"x") is True
        assert lake.put_new("per%cent/b/file", b"y") is False
        assert synced[0].startswith(f"{tmp_path}/lake/per%cent/b/.")  # before the file had its name
        assert synced[1:] == way * 2

    def test_what_cannot_be_a_directory_is_refused_with_advice(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.touch()
        cannot = "cannot be created; name a directory that can be written."
        for place, told in (
            (file, "that is a file; name a directory."),
            (file / "lake", cannot),
            (Path("/proc/lake"), cannot),
        ):
            with pytest.raises(ConfigurationError) as refused:
                Lake(f"file://{place}")
            assert str(refused.value) == f"`lake` file://{place}: {told}"
