"""Files, local and on a storage that only Beam's FileSystems knows."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import storage

Address = Callable[[Path], str]


@pytest.fixture(params=["local", "remote"])
def address(request: pytest.FixtureRequest, shelf: Address) -> Address:
    return str if request.param == "local" else shelf


def test_what_is_written_is_read_back(tmp_path: Path, address: Address) -> None:
    path = address(tmp_path / "deep" / "er" / "file.bin")
    assert not storage.exists(path)
    storage.write_bytes(path, b"\x00\xff" * 1000)
    assert storage.exists(path)
    assert storage.read_bytes(path) == b"\x00\xff" * 1000
    assert [each.name for each in (tmp_path / "deep" / "er").iterdir()] == ["file.bin"]


def test_a_file_is_replaced_whole(tmp_path: Path, address: Address) -> None:
    path = address(tmp_path / "file")
    storage.write_bytes(path, b"a long first version")
    storage.write_bytes(path, b"short")
    assert storage.read_bytes(path) == b"short"


def test_a_block_that_raises_leaves_nothing_behind(tmp_path: Path, address: Address) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        storage.atomic_output(address(tmp_path / "new")) as stream,
    ):
        stream.write(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_raises_leaves_the_old_file(tmp_path: Path, address: Address) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), storage.atomic_output(address(path)) as stream:
        stream.write(b"half of the new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_stands_under_the_final_name_before_the_end(
    tmp_path: Path, address: Address
) -> None:
    path = tmp_path / "file"
    with storage.atomic_output(address(path)) as stream:
        stream.write(b"x" * 100_000)
        stream.flush()
        assert not path.exists()
        assert len(list(tmp_path.glob("file.*.partial"))) == 1
    assert path.stat().st_size == 100_000


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path, address: Address) -> None:
    path = address(tmp_path / "file")
    with storage.atomic_output(path) as first:
        first.write(b"first")
        with storage.atomic_output(path) as second:
            second.write(b"second")
        assert storage.read_bytes(path) == b"second"
    assert storage.read_bytes(path) == b"first"


def test_a_killed_writer_leaves_no_file_under_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    script = (
        "import os, signal, sys\n"
        "from pipelines import storage\n"
        "with storage.atomic_output(sys.argv[1]) as stream:\n"
        "    stream.write(b'half'); stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert killed.returncode == -9
    assert not path.exists()


def test_match_is_sorted(tmp_path: Path, address: Address) -> None:
    for name in ("b.tar", "a.tar", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    pattern = storage.join(address(tmp_path), "*.tar")
    assert storage.match(pattern) == [address(tmp_path / "a.tar"), address(tmp_path / "b.tar")]
    assert storage.match(storage.join(address(tmp_path), "*.png")) == []


def test_size_and_time_are_the_files_own(tmp_path: Path, address: Address) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert storage.size_and_time(address(path)) == (5, path.stat().st_mtime)


def test_a_missing_file_has_no_size(tmp_path: Path, address: Address) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        storage.size_and_time(address(tmp_path / "nothing"))


def test_nothing_is_unpacked_by_its_name(tmp_path: Path, address: Address) -> None:
    path = address(tmp_path / "plain.gz")
    storage.write_bytes(path, b"not gzip at all")
    assert storage.read_bytes(path) == b"not gzip at all"
    assert (tmp_path / "plain.gz").read_bytes() == b"not gzip at all"


def test_only_a_scheme_is_remote() -> None:
    assert storage.is_remote("gs://bucket/a.tar")
    assert not storage.is_remote("/data/a.tar")
    assert not storage.is_remote("a:b/c.tar")


def test_a_folder_is_listed_and_removed_with_all_below_it(tmp_path: Path, address: Address) -> None:
    folder = tmp_path / "folder"
    for name, size in (("b.bin", 3), ("a.bin", 5), ("deep/er/c.bin", 7), (".hidden", 2)):
        storage.write_bytes(address(folder / name), b"x" * size)
    storage.write_bytes(address(tmp_path / "folder-beside"), b"stays")
    found = storage.sizes_below(address(folder))
    assert found == {
        address(folder / name): size
        for name, size in ((".hidden", 2), ("a.bin", 5), ("b.bin", 3), ("deep/er/c.bin", 7))
    }
    assert list(found) == sorted(found)
    storage.remove_all(list(found)[:2])
    assert list(storage.sizes_below(address(folder))) == list(found)[2:]
    storage.remove_folder(address(folder))
    assert [each.name for each in tmp_path.iterdir()] == ["folder-beside"]
    storage.remove_folder(address(folder))  # nothing there, nothing to do
    assert storage.sizes_below(address(folder)) == {}


def test_a_linked_folder_is_removed_with_what_it_leads_to(tmp_path: Path) -> None:
    elsewhere, link = tmp_path / "elsewhere", tmp_path / "link"
    storage.write_bytes(str(elsewhere / "deep" / "file"), b"content")
    link.symlink_to(elsewhere)
    assert storage.sizes_below(str(link)) == {str(link / "deep" / "file"): 7}
    storage.remove_folder(str(link))
    assert list(tmp_path.iterdir()) == []


def test_a_link_whose_folder_is_gone_already_is_removed(tmp_path: Path) -> None:
    """As a removal leaves it that was killed in between."""
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    storage.remove_folder(str(tmp_path / "link"))
    assert list(tmp_path.iterdir()) == []
