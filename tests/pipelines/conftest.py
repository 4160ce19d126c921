"""Real tars, catalogues and run directories, all made in the tests' own folders."""

import hashlib
import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.localfilesystem import LocalFileSystem
from PIL import Image

from m4.catalogue import Catalogue, load_catalogue
from pipelines.settings import AnnotateSettings, CountSettings, SolveSettings
from pipelines.shards import ShardRef
from pipelines.stages import annotate, count, solve

Member = tuple[str, bytes]
Pairs = list[list[Member]]

CATALOGUE = """
name: people at work
purpose: tests of the pipelines
sensitive:
  gender:
    describes: gender as perceived
    values:
      woman:
        target: 0.5
        terms: [woman, girl, policewoman]
        ignore: ["women's watch"]
        field: {path: gender, equals: [female, both]}
      man:
        target: 0.5
        terms: [man, boy, policeman]
        field: {path: gender, equals: [male, both]}
  age:
    describes: age as perceived
    exclusive: false
    values:
      child:
        target: 0.3
        terms: [girl, boy, child]
        field: {path: faces.child}
labels:
  nurse: {terms: [nurse]}
  chef: {terms: [chef, cook], ignore: ["chef's knife"]}
  police officer: {terms: [policewoman, policeman, police officer]}
proxies:
  kitchen: {terms: [kitchen], field: {path: places, equals: [kitchen, galley]}}
tolerances: {representation: 0.05, association: 0.15}
"""

JOBS = {"nurse": 0.8, "chef": 0.25, "police officer": 0.3, "teacher": 0.5}  # share of women


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A picture of 8 x 8 pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 120, 40)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def tar_bytes() -> Callable[..., bytes]:
    """Makes a tar of (name, content) members, in their order."""

    def make(members: Sequence[Member], tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=tar_format) as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return stream.getvalue()

    return make


@pytest.fixture(scope="session")
def write() -> Callable[[Path, bytes], ShardRef]:
    """Writes a file and gives its reference."""

    def to(path: Path, content: bytes) -> ShardRef:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        status = path.stat()
        return ShardRef(str(path), status.st_size, status.st_mtime)

    return to


@pytest.fixture(scope="session")
def pair(jpeg: bytes) -> Callable[..., list[Member]]:
    """The members of one image-text pair; a caption or metadata that is None is left out."""

    def members(
        key: str, caption: str | None = "a photo", metadata: dict[str, Any] | None = None
    ) -> list[Member]:
        made = [(f"{key}.jpg", jpeg)]
        if caption is not None:
            made.append((f"{key}.txt", caption.encode()))
        if metadata is not None:
            made.append((f"{key}.json", json.dumps(metadata).encode()))
        return made

    return members


@pytest.fixture(scope="session")
def people(pair: Callable[..., list[Member]]) -> Callable[[int], Pairs]:
    """Makes n pairs of people at work, skewed by job; the i-th is the same for any n."""

    def one(i: int) -> list[Member]:
        draw = random.Random(i)
        job = draw.choice(list(JOBS))
        who = "woman" if draw.random() < JOBS[job] else "man"
        who = draw.choices([who, "person", "man and woman", "girl"], [8, 1, 1, 1])[0]
        caption = f"a {who}, the {job}, number {i}" + draw.choice(["", "", " in a kitchen"])
        metadata: dict[str, Any] = {"uid": hashlib.sha256(str(i).encode()).hexdigest()[:32]}
        if draw.random() < 0.3:
            metadata["gender"] = draw.choice(["male", "female", "both", None])
        if draw.random() < 0.3:
            metadata["faces"] = {"child": draw.choice([0.0, 0.25, 1.0])}
        return pair(f"{i:06d}", caption, metadata)

    return lambda n: [one(i) for i in range(n)]


@pytest.fixture(scope="session")
def write_shards(
    tar_bytes: Callable[..., bytes], write: Callable[[Path, bytes], ShardRef]
) -> Callable[..., list[ShardRef]]:
    """Deals pairs out to `count` tars of a folder, one after the other."""

    def to(folder: Path, pairs: Pairs, count: int) -> list[ShardRef]:
        dealt = [[m for members in pairs[i::count] for m in members] for i in range(count)]
        return [write(folder / f"{i:05d}.tar", tar_bytes(each)) for i, each in enumerate(dealt)]

    return to


@pytest.fixture(scope="session")
def catalogue_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogue") / "catalogue.yaml"
    path.write_text(CATALOGUE)
    return path


@pytest.fixture(scope="session")
def catalogue(catalogue_path: Path) -> Catalogue:
    return load_catalogue(catalogue_path)


@pytest.fixture(scope="session")
def other_catalogue_path(catalogue_path: Path) -> Path:
    """The same columns and labels, but another target, so another digest."""
    path = catalogue_path.with_name("other.yaml")
    path.write_text(CATALOGUE.replace("target: 0.3", "target: 0.4"))
    return path


@pytest.fixture(scope="session")
def annotated(
    tmp_path_factory: pytest.TempPathFactory,
    catalogue_path: Path,
    people: Callable[[int], Pairs],
    write_shards: Callable[..., list[ShardRef]],
) -> Path:
    """A run directory with the annotations of 240 pairs in 4 shards. Not to be changed."""
    folder = tmp_path_factory.mktemp("annotated")
    write_shards(folder / "shards", people(240), 4)
    annotate(
        AnnotateSettings(
            shards=(str(folder / "shards"),),
            catalogue=str(catalogue_path),
            run=str(folder / "run"),
            annotators=("captions", "fields"),
        )
    )
    return folder / "run"


@pytest.fixture(scope="session")
def policy_path(
    annotated: Path, catalogue_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The policy that balances the annotated run, with its patterns.parquet beside it."""
    folder = tmp_path_factory.mktemp("policy")
    (folder / "annotations").symlink_to(annotated / "annotations")
    count(CountSettings(run=str(folder), catalogue=str(catalogue_path)))
    solve(SolveSettings(run=str(folder), catalogue=str(catalogue_path), eta=0.6, cap=2.0))
    return folder / "policy.json"


@pytest.fixture
def run(annotated: Path, tmp_path: Path) -> Path:
    """A copy of the annotated run directory, to go on with."""
    return Path(shutil.copytree(annotated, tmp_path / "run"))


class ShelfFileSystem(LocalFileSystem):
    """A remote storage for tests: shelf:///folder/file is /folder/file of this machine."""

    @classmethod
    def scheme(cls) -> str:
        return "shelf"

    @staticmethod
    def _here(path: str) -> str:
        return path.removeprefix("shelf://")

    def _list(self, dir_or_prefix: str) -> Iterator[Any]:
        for found in super()._list(self._here(dir_or_prefix)):
            found.path = f"shelf://{found.path}"
            yield found

    def _path_open(self, path: str, *args: Any, **options: Any) -> Any:
        return super()._path_open(self._here(path), *args, **options)

    def create(self, path: str, *args: Any, **options: Any) -> Any:
        return super().create(self._here(path), *args, **options)

    def exists(self, path: str) -> bool:
        return super().exists(self._here(path))

    def metadata(self, path: str) -> Any:
        found = super().metadata(self._here(path))
        found.path = path
        return found

    def rename(self, sources: list[str], destinations: list[str]) -> None:
        super().rename([*map(self._here, sources)], [*map(self._here, destinations)])

    def delete(self, paths: list[str]) -> None:
        super().delete([*map(self._here, paths)])


@pytest.fixture(scope="session")
def shelf() -> Callable[[Path], str]:
    """The address of a local path on the remote storage."""
    return lambda path: f"shelf://{path}"
