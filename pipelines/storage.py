"""Files, local or on any storage that Beam's FileSystems reads.

Local paths are handled by the standard library, so that the training loader does not have to
import Beam for them.
"""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

COPIED = 1024 * 1024  # bytes at a time


def is_remote(path: str) -> bool:
    return "://" in path


def _filesystems() -> Any:
    from apache_beam.io.filesystems import FileSystems  # over a second to import

    return FileSystems


def join(folder: str, *names: str) -> str:
    if is_remote(folder):
        return _filesystems().join(folder, *names)
    return os.path.join(folder, *names)


def open_input(path: str) -> IO[bytes]:
    """Open a file for reading bytes, as it lies there: nothing is unpacked by its name."""
    if not is_remote(path):
        return open(path, "rb")
    from apache_beam.io.filesystem import CompressionTypes

    return _filesystems().open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def exists(path: str) -> bool:
    return _filesystems().exists(path) if is_remote(path) else os.path.exists(path)


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    if not is_remote(path):
        Path(path).unlink(missing_ok=True)
    elif exists(path):
        _filesystems().delete([path])


def remove_all(paths: Sequence[str]) -> None:
    """Remove files that are there."""
    if paths and is_remote(paths[0]):
        _filesystems().delete(list(paths))
    else:
        for path in paths:
            os.unlink(path)


def remove_folder(folder: str) -> None:
    """Remove a folder with all that is in it, if it is there; of a link, what it leads to first."""
    if not is_remote(folder):
        target = os.path.realpath(folder)
        if os.path.isdir(target):
            shutil.rmtree(target)
        if os.path.islink(folder):
            os.unlink(folder)
        return
    remove_all(list(sizes_below(folder)))
    if exists(folder):  # on storage that has folders
        _filesystems().delete([folder])


def sizes_below(folder: str) -> dict[str, int]:
    """Size in bytes of every file in a folder and in those below it, by path, sorted."""
    if is_remote(folder):
        found = _filesystems().match([join(folder, "**")])[0].metadata_list
        return dict(sorted((entry.path, entry.size_in_bytes) for entry in found))
    paths = [os.path.join(root, name) for root, _, names in os.walk(folder) for name in names]
    return {path: os.lstat(path).st_size for path in sorted(paths)}


def size_and_time(path: str) -> tuple[int, float]:
    """Size in bytes and time of the last change in seconds, the file's fingerprint."""
    if not is_remote(path):
        status = os.stat(path)
        return status.st_size, status.st_mtime
    found = _filesystems().match([path])[0].metadata_list
    if not found:
        raise FileNotFoundError(path)
    return found[0].size_in_bytes, found[0].last_updated_in_seconds


def match(pattern: str) -> list[str]:
    """Paths that match a glob, sorted."""
    if is_remote(pattern):
        found = _filesystems().match([pattern])[0].metadata_list
        return sorted(entry.path for entry in found)
    import glob

    return sorted(glob.glob(pattern))


def files(folder: str, pattern: str) -> list[str]:
    """Paths in a folder whose names match a pattern, sorted; the folder's own name is none."""
    if is_remote(folder):
        return match(join(folder, pattern))
    import glob

    return sorted(glob.glob(os.path.join(glob.escape(folder), pattern)))


def make_folder(path: str) -> None:
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)


@contextlib.contextmanager
def atomic_output(path: str, *, reread: bool = True) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name and rename it when the block ends without an error.

    Parameters
    ----------
    reread : the file is soon to be read here; else the system need not keep it in memory
    """
    temporary = f"{path}.{uuid.uuid4().hex}.partial"
    if not is_remote(path):
        make_folder(os.path.dirname(path) or ".")
        try:
            with open(temporary, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                if not reread:
                    let_go_of(stream)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        return
    from apache_beam.io.filesystem import CompressionTypes

    files = _filesystems()
    try:
        with files.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            yield stream
        if files.exists(path):
            files.delete([path])
        files.rename([temporary], [path])
    finally:
        if files.exists(temporary):
            files.delete([temporary])


def let_go_of(stream: IO[bytes]) -> None:
    """Free the memory in which the system keeps a local file that lies on its disk."""
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(source: str, target: str) -> None:
    """Copy a file; either may be remote."""
    with open_input(source) as stream, atomic_output(target) as output:
        shutil.copyfileobj(stream, output, COPIED)


def read_bytes(path: str) -> bytes:
    with open_input(path) as stream:
        return stream.read()


def write_bytes(path: str, content: bytes) -> None:
    with atomic_output(path) as stream:
        stream.write(content)
