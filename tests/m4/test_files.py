"""Files that are there whole or not at all."""

from pathlib import Path

import pytest

from m4 import files
from m4.files import write_whole


def test_a_file_is_written_and_replaced(tmp_path: Path):
    path = tmp_path / "result.json"
    for content in (b"one", b"another"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "result.json"
    write_whole(path, b"old")

    def refuse(*paths: Path) -> None:
        raise OSError("no")

    monkeypatch.setattr(files.os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
