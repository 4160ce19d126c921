"""How fast are samples found in shards, against Python's tarfile on the same work?"""

import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro
from numpy.random import default_rng

from benchmarks.machine import describe
from benchmarks.report import Report, Table, progress, times
from pipelines.groups import judged_groups, split_member
from pipelines.headers import BLOCK
from pipelines.index import index_shard
from pipelines.shards import ShardRef, find_shards
from pipelines.storage import open_input
from pipelines.tars import Damage, TarReader
from pipelines.validation import validate_shard

LEAVES_OUT = (
    "Shards are on a local disk and in its cache. Seconds are those of the processor.",
    "tarfile and json.loads write no table; `index_shard` and `validate_shard` do. They read the "
    "captions too, as a sample without a usable one is set aside.",
    "Starting Beam, which takes a few seconds for any number of shards.",
)

Row = tuple[str | None, str, int, int]


@dataclass(frozen=True)
class Settings:
    """What is indexed.

    Attributes
    ----------
    shards, samples : number of shards, and of samples in each
    picture : mean bytes of a picture; sizes differ by a quarter
    repeats : runs of each way, in turns; the best of each counts
    markdown : file that the report is also written to
    """

    shards: int = 2
    samples: int = 10_000
    picture: int = 5000
    repeats: int = 10
    markdown: Path | None = None


def write_shards(folder: Path, settings: Settings) -> list[ShardRef]:
    """Write shards of pictures, captions and json as a web crawl has them."""
    draw = default_rng(0)
    folder.mkdir(parents=True)
    quarter = settings.picture // 4
    for shard in range(settings.shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in range(settings.samples):
                key = f"{shard:05d}{row:04d}"
                size = int(draw.integers(settings.picture - quarter, settings.picture + quarter))
                metadata = {
                    "uid": draw.bytes(16).hex(),
                    "url": f"https://example.org/pictures/{key}.jpg",
                    "width": 640,
                    "height": 480,
                }
                for extension, content in (
                    ("jpg", draw.bytes(size)),
                    ("txt", b"a woman riding a bicycle in front of a school"),
                    ("json", json.dumps(metadata).encode()),
                ):
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return find_shards(str(folder))


def by_tarfile(shard: ShardRef, *, uids: bool) -> list[Row]:
    """Uid (where it is asked for), key, offset and length of every sample, by tarfile."""
    rows: list[Row] = []
    key: str | None = None
    uid, start, end = None, 0, 0
    with tarfile.open(shard.path, "r:") as tar:
        for member in tar:
            member_key, extension = split_member(member.name)
            if member_key != key:
                if key is not None:
                    rows.append((uid, key, start, end - start))
                uid, key, start = None, member_key, member.offset
            end = member.offset_data + member.size + -member.size % BLOCK
            if uids and extension == "json":
                stream = tar.extractfile(member)
                assert stream is not None  # it is a file
                uid = json.loads(stream.read())["uid"]
    if key is not None:
        rows.append((uid, key, start, end - start))
    return rows


def by_walk(shard: ShardRef) -> list[Row]:
    """Key, offset and length of every sample, by our walk of the tar."""
    rows: list[Row] = []
    with open_input(shard.path) as stream:
        for group in judged_groups(TarReader(stream)):
            assert not isinstance(group, Damage)
            rows.append((None, group.key, group.start, group.end - group.start))
    return rows


def seconds_of(
    ways: dict[str, Callable[[ShardRef], object]], shards: list[ShardRef], repeats: int
) -> dict[str, float]:
    """The least processor seconds of each way over all shards; the ways take turns."""
    best: dict[str, float] = {}
    for turn in range(repeats):
        for name, way in ways.items():
            started = time.process_time()
            for shard in shards:
                way(shard)
            taken = time.process_time() - started
            best[name] = min(best.get(name, taken), taken)
        progress(f"turn {turn + 1} of {repeats}")
    return best


def main(settings: Settings) -> Report:
    """Measure, and show the report."""
    machine = describe(("numpy", "pyarrow"))
    samples = settings.shards * settings.samples
    with tempfile.TemporaryDirectory() as folder:
        shards = write_shards(Path(folder) / "shards", settings)
        output = str(Path(folder) / "made")
        ways: dict[str, Callable[[ShardRef], object]] = {
            "tarfile": lambda shard: by_tarfile(shard, uids=False),
            "our walk": by_walk,
            "tarfile, uids from json": lambda shard: by_tarfile(shard, uids=True),
            "`index_shard`": lambda shard: index_shard(shard, output),
            "`validate_shard`": lambda shard: validate_shard(shard, output),
        }
        best = seconds_of(ways, shards, settings.repeats)
    plain, with_uids = best["tarfile"], best["tarfile, uids from json"]
    against = {"tarfile": plain, "our walk": plain}
    rows = tuple(
        (name, f"{samples / taken:,.0f}", times(against.get(name, with_uids) / taken))
        for name, taken in best.items()
    )
    caption = (
        f"{samples:,} samples of a picture of {settings.picture:,} bytes, a caption and json. Up "
        "to `our walk` the work is key, offset and length of every sample; below, its uid too."
    )
    table = Table(caption, ("way", "samples a CPU-second", "times tarfile"), rows)
    report = Report("Finding samples in shards", (table,), LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
