"""Writes the drawn world as WebDataset shards, byte for byte the same however it is computed."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from synthetic.pictures import draw_picture
from synthetic.world import PictureSpec, WorldSettings, apportion, plan_pictures

JPEG_QUALITY = 88
_BATCH = 64


@dataclass(frozen=True)
class Sample:
    """One sample of a shard, encoded."""

    key: str
    picture: bytes
    caption: bytes
    label: bytes


@dataclass(frozen=True)
class _Batch:
    """Work for one process: some planned pictures and the settings they belong to."""

    settings: WorldSettings
    specs: tuple[PictureSpec, ...]


def sample_uid(settings: WorldSettings, index: int) -> str:
    """Return the 32 hex digits which name a picture of a world."""
    name = f"m4-balance synthetic/{settings.seed}/{settings.skewed}/{index}"
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def encode_sample(settings: WorldSettings, spec: PictureSpec) -> Sample:
    """Draw and encode a planned picture with its caption and its label.

    The label's `perceived_gender` is null where nothing shows the gender; `depicted_gender` is
    the one that was planned, shown or not.
    """
    picture = io.BytesIO()
    draw_picture(spec, settings.picture_size).save(picture, "JPEG", quality=JPEG_QUALITY)
    label = {
        "uid": sample_uid(settings, spec.index),
        "perceived_gender": spec.gender if spec.gender_visible else None,
        "depicted_gender": spec.gender,
        "perceived_tone": spec.tone,
        "occupation": spec.occupation,
        "setting": spec.setting,
        "tool": spec.tool,
        "person": spec.person,
        "at_work": spec.at_work,
    }
    return Sample(spec.key, picture.getvalue(), spec.caption.encode(), json.dumps(label).encode())


def _encode_batch(batch: _Batch) -> list[Sample]:
    return [encode_sample(batch.settings, spec) for spec in batch.specs]


def _samples(settings: WorldSettings, processes: int) -> Generator[Sample, None, None]:
    """Yield every sample in order, drawn in this process or in a pool of spawned ones."""
    plan = plan_pictures(settings)
    batches = [
        _Batch(settings, tuple(plan[start : start + _BATCH]))
        for start in range(0, len(plan), _BATCH)
    ]
    if processes == 1:
        for batch in batches:
            yield from _encode_batch(batch)
        return
    with multiprocessing.get_context("spawn").Pool(min(processes, len(batches))) as pool:
        for encoded in pool.imap(_encode_batch, batches):
            yield from encoded


def _add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    # A fresh TarInfo has time, owner and group 0, so that only the content decides the bytes.
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o644
    archive.addfile(member, io.BytesIO(content))


def _write_shard(path: Path, samples: Iterable[Sample]) -> None:
    """Write one shard under another name, which it changes once it is complete."""
    unfinished = path.with_suffix(".tar.part")
    try:
        with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as archive:
            for sample in samples:
                _add_member(archive, f"{sample.key}.jpg", sample.picture)
                _add_member(archive, f"{sample.key}.txt", sample.caption)
                _add_member(archive, f"{sample.key}.json", sample.label)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _counted(samples: Iterable[Sample], progress: Callable[[int], None] | None) -> Iterator[Sample]:
    for number, sample in enumerate(samples, start=1):
        if progress is not None:
            progress(number)
        yield sample


def write_shards(
    directory: str | os.PathLike[str],
    settings: WorldSettings,
    *,
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Draw the world into `directory` and return the paths of its shards, in order.

    Each shard is a USTAR file `00000.tar`, `00001.tar`, ... of members `key.jpg`, `key.txt` and
    `key.json`, and holds as many pictures as the others, or one more. The bytes depend on the
    settings alone. `progress` is called with the number of pictures finished so far. With more
    than one process, the calling script needs the usual `if __name__ == "__main__"`.

    Raises ValueError for `processes` below 1, or if the directory holds shards of another world
    which would be left mixed with these.
    """
    if processes < 1:
        raise ValueError(f"processes {processes} is below 1: give the number of processes to use")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05d}.tar" for number in range(settings.shards)]
    strangers = sorted(path.name for path in set(folder.glob("*.tar")) - set(paths))
    if strangers:
        raise ValueError(
            f"shards {settings.shards} does not account for {strangers[0]} and "
            f"{len(strangers) - 1} more in {folder}: empty the directory or name another"
        )
    sizes = apportion(settings.pictures, [1.0] * len(paths))
    with closing(_samples(settings, processes)) as samples:
        counted = _counted(samples, progress)
        for path, size in zip(paths, sizes, strict=True):
            _write_shard(path, islice(counted, size))
    return paths
