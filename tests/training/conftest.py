"""Shards of drawn pictures whose captions can be learned, and manifests over them."""

import io
import json
import random
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from pipelines.shards import Sample, ShardRef, find_shards, read_samples
from pipelines.tables import Commit, manifest_schema, write_table

COLOURS = ("red", "green", "blue", "yellow", "purple", "white", "orange", "black")
SHAPES = ("disc", "square", "cross", "bar")


def draw(colour: str, shape: str, ground: str, size: int, generator: random.Random) -> Image.Image:
    image = Image.new("RGB", (size, size), ground)
    pen = ImageDraw.Draw(image)
    half = size * generator.uniform(0.25, 0.4)
    x, y = (size / 2 + generator.uniform(-0.1, 0.1) * size for _ in range(2))
    box = (x - half, y - half, x + half, y + half)
    if shape == "disc":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    if shape in ("cross", "bar"):
        pen.line((x - half, y, x + half, y), fill=colour, width=size // 6)
    if shape == "cross":
        pen.line((x, y - half, x, y + half), fill=colour, width=size // 6)
    return image


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


@dataclass(frozen=True)
class Pictures:
    """Tars of drawn pictures, and ways to write manifests over them."""

    folder: Path
    shards: list[ShardRef]

    def samples(self, shard: ShardRef) -> list[Sample]:
        return [sample for sample in read_samples(shard) if isinstance(sample, Sample)]

    @property
    def uids(self) -> list[str]:
        return [sample.uid for shard in self.shards for sample in self.samples(shard)]

    def manifest(
        self,
        folder: Path,
        copies: Callable[[int], int] = lambda row: 1,
        weight: Callable[[int], float] | None = None,
    ) -> str:
        """Write a manifest; `copies` and `weight` are given the number of each sample."""
        first = 0
        for shard in self.shards:
            samples = self.samples(shard)
            numbers = range(first, first + len(samples))
            first += len(samples)
            columns = {
                "uid": [sample.uid for sample in samples],
                "key": [sample.key for sample in samples],
                "offset": [sample.span.offset for sample in samples],
                "length": [sample.span.length for sample in samples],
                "copies": [copies(number) for number in numbers],
            }
            if weight is not None:
                columns["weight"] = [weight(number) for number in numbers]
            table = pa.table(columns, schema=manifest_schema(weights=weight is not None))
            commit = Commit(
                shard=shard.path,
                size=shard.size,
                modified=shard.modified,
                settings="test",
                rows=len(samples),
            )
            write_table(str(folder), shard.stem, table, commit)
        return str(folder)


@pytest.fixture(scope="session")
def draw_pictures() -> Callable[..., Pictures]:
    """Makes shards of `each` pictures of 32 pixels; all pairs of colours and all shapes occur."""

    def make(folder: Path, *, shards: int = 3, each: int = 20, seed: int = 0) -> Pictures:
        folder.mkdir(parents=True, exist_ok=True)
        generator = random.Random(seed)
        for number in range(shards):
            with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
                for row in range(each):
                    colour, ground = generator.sample(COLOURS, 2)
                    shape = generator.choice(SHAPES)
                    # A dot in the key and the caption in json are both allowed.
                    key = f"{number:03d}.{row:04d}"
                    caption = f"a {colour} {shape} on {ground}"
                    add_member(
                        tar, f"{key}.jpg", encoded(draw(colour, shape, ground, 32, generator))
                    )
                    if row % 2:
                        add_member(tar, f"{key}.txt", caption.encode())
                    else:
                        add_member(tar, f"{key}.json", json.dumps({"caption": caption}).encode())
        return Pictures(folder, find_shards(str(folder)))

    return make


@pytest.fixture(scope="session")
def pictures(
    draw_pictures: Callable[..., Pictures], tmp_path_factory: pytest.TempPathFactory
) -> Pictures:
    """60 pictures in 3 shards; not to be written to."""
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def tar_of() -> Callable[..., ShardRef]:
    """Writes a tar of (name, content) members, in their order."""

    def make(path: Path, members: Sequence[tuple[str, bytes]]) -> ShardRef:
        with tarfile.open(path, "w") as tar:
            for name, content in members:
                add_member(tar, name, content)
        return find_shards(str(path))[0]

    return make


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., bytes]:
    """A JPEG of a drawn picture, `size` pixels along each side."""

    def make(size: int = 32) -> bytes:
        return encoded(draw("red", "disc", "blue", size, random.Random(0)))

    return make
