"""The index of shards: which samples there are and where, and nothing else."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m4.errors import InputError
from pipelines import index, shards
from pipelines.beam import BeamSettings
from pipelines.index import INDEX, IndexSettings, index_shard, index_shards
from pipelines.record import read_run
from pipelines.shards import Failure, Identity, Sample, ShardRef, read_identities, read_samples
from pipelines.tables import IDENTITY, read_commit, read_table

Member = tuple[str, bytes]
MakeTar = Callable[..., bytes]
MakePair = Callable[..., list[Member]]
People = Callable[[int], list[list[Member]]]
Write = Callable[[Path, bytes], ShardRef]
WriteShards = Callable[..., list[ShardRef]]
FORMATS = [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]


def rows_of(folder: Path, shard: ShardRef) -> list[tuple[Any, ...]]:
    table = read_table(str(folder), shard.stem)
    assert table.schema.names == [field.name for field in IDENTITY]
    return list(zip(*table.to_pydict().values(), strict=True))


def samples_of(shard: ShardRef) -> list[tuple[str, str, int, int]]:
    found = [each for each in read_samples(shard) if isinstance(each, Sample)]
    return [(each.uid, each.key, each.span.offset, each.span.length) for each in found]


def failures_of(found: list[Any]) -> list[Failure]:
    return [each for each in found if isinstance(each, Failure)]


@pytest.fixture
def made(tmp_path: Path, people: People, write_shards: WriteShards) -> list[ShardRef]:
    """Three shards of 90 samples in all."""
    return write_shards(tmp_path / "shards", people(90), 3)


@pytest.fixture
def chosen(tmp_path: Path) -> IndexSettings:
    return IndexSettings(shards=(str(tmp_path / "shards"),), run=str(tmp_path / "run"))


# One shard


@pytest.mark.parametrize("tar_format", FORMATS)
def test_the_index_has_the_samples_that_are_read(
    tmp_path: Path, tar_bytes: MakeTar, pair: MakePair, write: Write, tar_format: int
) -> None:
    long = "folder/" * 30 + "c" if tar_format != tarfile.USTAR_FORMAT else "c"
    members = [*pair("a", "x", {"uid": "0" * 32}), *pair("b"), *pair(long, None, {"caption": "y"})]
    shard = write(tmp_path / "shard.tar", tar_bytes(members, tar_format))
    commit = index_shard(shard, str(tmp_path / "index"))
    assert rows_of(tmp_path / "index", shard) == samples_of(shard)
    assert [row[1] for row in samples_of(shard)] == ["a", "b", long]
    assert (commit.rows, commit.failures, commit.damaged) == (3, {}, False)
    assert read_commit(str(tmp_path / "index"), "shard") == commit


def broken_shards(
    tar_bytes: MakeTar, pair: MakePair, jpeg: bytes
) -> dict[str, tuple[bytes, dict[str, int]]]:
    good = [*pair("a"), *pair("z")]
    whole = tar_bytes([*good, *pair("zz")])
    flipped = bytearray(whole)
    flipped[whole.find(b"z.jpg")] ^= 0xFF
    named: Any = tar_bytes([*pair("a"), ("b.jpg", jpeg), ("c.txt", b"c"), *pair("a"), *pair("z")])
    uid = tar_bytes([*pair("a"), *pair("b", "x", {"uid": "no"}), *pair("z")])
    return {
        "half and repeated": (
            named,
            {"no caption": 1, "no image": 1, "repeated or interleaved key": 1},
        ),
        "bad uid": (uid, {"uid is not 32 lower-case hexadecimal digits": 1}),
        "damaged": (
            bytes(flipped),
            {"damaged shard: bad header": 1, "next to a damaged stretch": 2},
        ),
        "truncated": (whole[:3000], {"truncated shard": 1, "next to a damaged stretch": 1}),
        "no tar": (b"?" * 2000, {"not a tar: bad header": 1}),
        "empty": (bytes(2048), {"empty shard": 1}),
    }


@pytest.mark.parametrize(
    "case", ["half and repeated", "bad uid", "damaged", "truncated", "no tar", "empty"]
)
def test_what_read_samples_sets_aside_is_counted(
    tmp_path: Path, tar_bytes: MakeTar, pair: MakePair, jpeg: bytes, write: Write, case: str
) -> None:
    content, counted = broken_shards(tar_bytes, pair, jpeg)[case]
    shard = write(tmp_path / "shard.tar", content)
    commit = index_shard(shard, str(tmp_path / "index"))
    assert failures_of(list(read_identities(shard))) == failures_of(list(read_samples(shard)))
    assert rows_of(tmp_path / "index", shard) == samples_of(shard)
    assert commit.failed == len(failures_of(list(read_samples(shard))))
    assert commit.damaged == any(each.rest for each in failures_of(list(read_samples(shard))))
    assert commit.failures == counted


def test_pictures_are_not_read(
    tmp_path: Path,
    tar_bytes: MakeTar,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = [("a.jpg", b"x" * 9), ("a.txt", b"caption"), ("a.json", b"{}")]
    shard = write(tmp_path / "shard.tar", tar_bytes(members))
    read, names = shards.TarReader.read, []

    def watched(tar: Any, member: Any) -> bytes:
        names.append(member.name)
        return read(tar, member)

    monkeypatch.setattr(shards.TarReader, "read", watched)
    assert len(list(read_identities(shard))) == 1
    assert names == ["a.json", "a.txt"]


def test_samples_that_depend_on_a_global_header_are_set_aside(
    tmp_path: Path, tar_bytes: MakeTar, pair: MakePair, write: Write
) -> None:
    """Their bytes, copied to another tar, would be read as something else."""
    global_header = tarfile.TarInfo("g").create_pax_global_header({"path": "all.jpg"})
    tar = tar_bytes(pair("a")).rstrip(b"\0")
    tar += bytes(-len(tar) % tarfile.BLOCKSIZE)
    shard = write(tmp_path / "shard.tar", tar + global_header + tar_bytes(pair("b")))
    for found in (list(read_samples(shard)), list(read_identities(shard))):
        assert [(each.key, each.reason) for each in failures_of(found)] == [
            ("all", "name or size from a PAX global header"),
            ("all", "repeated or interleaved key"),
        ]
    comment = tarfile.TarInfo("g").create_pax_global_header({"comment": "harmless"})
    shard = write(tmp_path / "shard.tar", tar + comment + tar_bytes(pair("b")))
    assert [each[1] for each in samples_of(shard)] == ["a", "b"]


def test_a_shard_that_cannot_be_read_is_set_aside_whole(
    tmp_path: Path, made: list[ShardRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(tar: Any, member: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shards.TarReader, "read", failing)
    commit = index_shard(made[0], str(tmp_path / "index"))
    assert commit.failures == {"unreadable shard: Input/output error": 1}
    assert commit.damaged and commit.rows == 0
    gone = ShardRef(str(tmp_path / "gone.tar"), 0, 0.0)
    commit = index_shard(gone, str(tmp_path / "index"))
    assert commit.failures == {"unreadable shard: No such file or directory": 1}


# The stage


def test_all_shards_are_indexed_and_recorded(chosen: IndexSettings, made: list[ShardRef]) -> None:
    told: list[tuple[int, int]] = []
    record = index_shards(chosen, progress=lambda done, total: told.append((done, total)))
    assert (record.stage, record.rows_in, record.kept, record.failed) == ("index", 90, 90, 0)
    assert read_run(chosen.run)["index"] == record
    assert told[-1] == (3, 3)
    for shard in made:
        assert rows_of(Path(chosen.run) / INDEX, shard) == samples_of(shard)


def test_the_same_bytes_for_any_number_of_workers(
    chosen: IndexSettings, made: list[ShardRef], tmp_path: Path
) -> None:
    several = chosen.model_copy(
        update={"run": str(tmp_path / "other"), "beam": BeamSettings(processes=2)}
    )
    for each in (chosen, several):
        index_shards(each)
    one, two = (
        {path.name: path.read_bytes() for path in (Path(each.run) / INDEX).iterdir()}
        for each in (chosen, several)
    )
    assert len(one) == 6 and one == two


def test_what_is_committed_is_not_read_again(
    chosen: IndexSettings, made: list[ShardRef], monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    index_shards(chosen)
    folder = Path(chosen.run) / INDEX

    def times() -> dict[str, int]:
        return {path.stem: path.stat().st_mtime_ns for path in folder.glob("*.json")}

    before = times()
    (folder / "00001.json").unlink()  # killed before the marker was written
    kept = (folder / "00001.parquet").read_bytes()
    (folder / "00002.parquet").unlink()
    index_shards(chosen)
    changed = {stem for stem, time in times().items() if time != before[stem]}
    assert changed == {"00001", "00002"} and (folder / "00001.parquet").read_bytes() == kept
    before = times()
    shard = Path(made[2].path)
    write(shard, shard.read_bytes() + bytes(512))
    index_shards(chosen)
    assert {stem for stem, time in times().items() if time != before[stem]} == {"00002"}
    before = times()
    monkeypatch.setattr(index, "DIGEST", "another")
    assert index_shards(chosen).kept == 90
    assert all(time != before[stem] for stem, time in times().items())


def test_a_shard_that_could_not_be_read_is_tried_again(
    chosen: IndexSettings, made: list[ShardRef]
) -> None:
    folder = Path(chosen.run) / INDEX
    index_shards(chosen)
    marker = json.loads((folder / "00000.json").read_text())
    marker.update(rows=0, failures={"unreadable shard: Input/output error": 1})
    (folder / "00000.json").write_text(json.dumps(marker))
    assert index_shards(chosen).kept == 90


def test_too_many_failures_end_with_an_error(
    chosen: IndexSettings, made: list[ShardRef], tar_bytes: MakeTar, pair: MakePair, write: Write
) -> None:
    write(Path(made[0].path), tar_bytes([*pair("a"), *pair("b", None)]))
    with pytest.raises(InputError, match="1 of 62 samples were set aside: 1 x no caption"):
        index_shards(chosen)
    record = index_shards(chosen.model_copy(update={"max_failures": 0.1}))
    assert (record.kept, record.failures) == (61, {"no caption": 1})
    assert record.examples == {"no caption": f"{made[0].path}: b"}


def test_tables_of_metadata_are_refused(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "meta.parquet", b"parquet")
    with pytest.raises(InputError, match=r"meta\.parquet: a table of metadata, not a tar"):
        index_shards(IndexSettings(shards=(str(tmp_path / "meta.parquet"),), run=str(tmp_path)))


def test_remote_shards_and_runs(
    tmp_path: Path, made: list[ShardRef], shelf: Callable[[Path], str]
) -> None:
    (tmp_path / "run" / INDEX).mkdir(parents=True)
    chosen = IndexSettings(shards=(shelf(tmp_path / "shards"),), run=shelf(tmp_path / "run"))
    assert index_shards(chosen).kept == 90
    assert rows_of(tmp_path / "run" / INDEX, made[1]) == samples_of(made[1])


# Reading json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
spellings = st.tuples(values, st.booleans(), st.sampled_from([None, 1]), st.sampled_from(
    ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"]
)).map(lambda drawn: json.dumps(
    drawn[0], ensure_ascii=drawn[1], indent=drawn[2]
).encode(drawn[3], "surrogatepass"))  # fmt: skip


def parsed(parse: Callable[[bytes], Any], content: bytes) -> Any:
    try:
        return repr(parse(content))
    except (ValueError, RecursionError) as error:
        return type(error)


@settings(deadline=None, max_examples=300)
@given(content=spellings, end=st.sampled_from([b"", b"\n", b" ", b"}", b"x", b"\xff"]))
def test_json_is_read_as_the_standard_library_reads_it(content: bytes, end: bytes) -> None:
    for text in (content + end, content[: len(content) // 2]):
        assert parsed(shards._parsed, text) == parsed(json.loads, text)


def test_an_identity_is_a_row_of_the_table() -> None:
    assert list(Identity._fields) == [field.name for field in IDENTITY]
