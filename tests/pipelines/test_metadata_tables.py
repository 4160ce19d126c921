"""Tables of metadata as shards: the same samples as in tars, and what is wrong with a row."""

import datetime
import decimal
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as checked
from hypothesis import strategies as st

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines import metadata_tables
from pipelines.annotators.fields import FieldAnnotator
from pipelines.annotators.marks import Batch
from pipelines.batches import CAPTIONS, read_parts
from pipelines.metadata_tables import Dropped, read_rows
from pipelines.shards import Failure, Sample, ShardRef, find_shards, read_samples

Found = list[Sample | Failure | Dropped]

DATACOMP = {
    "uid": pa.string(),
    "url": pa.string(),
    "text": pa.string(),
    "original_width": pa.int64(),
    "original_height": pa.int64(),
    "clip_b32_similarity_score": pa.float32(),
    "clip_l14_similarity_score": pa.float32(),
    "face_bboxes": pa.list_(pa.list_(pa.float64())),
    "sha256": pa.string(),
}
IMG2DATASET = {
    "caption": pa.string(),
    "url": pa.string(),
    "key": pa.string(),
    "status": pa.string(),
    "error_message": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "original_width": pa.int32(),
    "original_height": pa.int32(),
    "exif": pa.string(),
    "sha256": pa.string(),
}


def uid_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def write_rows(
    path: Path, rows: Sequence[dict[str, Any]], types: dict[str, pa.DataType], **options: Any
) -> ShardRef:
    """Write rows whose columns have these types; what a row leaves out is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(types)), path, **options)
    return find_shards(str(path))[0]


def write_columns(path: Path, **columns: Any) -> ShardRef:
    pq.write_table(pa.table(columns), path)
    return find_shards(str(path))[0]


def datacomp_row(number: int, **given: Any) -> dict[str, Any]:
    row = {
        "uid": uid_of(number),
        "url": f"https://pictures.example/{number}.jpg",
        "text": f"picture {number}",
        "original_width": 640,
        "original_height": 480,
        "clip_b32_similarity_score": 0.25,
        "clip_l14_similarity_score": 0.5,
        "face_bboxes": [[0.1, 0.2, 0.3, 0.4]] * (number % 3),
        "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
    }
    return {**row, **given}


def img2dataset_row(number: int, **given: Any) -> dict[str, Any]:
    row = {
        "caption": f"picture {number}",
        "url": f"https://pictures.example/{number}.jpg",
        "key": f"{number:09d}",
        "status": "success",
        "error_message": None,
        "width": 256,
        "height": 256,
        "original_width": 640,
        "original_height": 480,
        "exif": "{}",
        "sha256": hashlib.sha256(str(number).encode()).hexdigest(),
    }
    return {**row, **given}


def found_in(shard: ShardRef, *fields: str) -> Found:
    return list(read_rows(shard, fields))


def samples_in(shard: ShardRef, *fields: str) -> list[Sample]:
    found = found_in(shard, *fields)
    assert all(isinstance(each, Sample) for each in found), found
    return [each for each in found if isinstance(each, Sample)]


def reasons(found: Found) -> list[str]:
    return [each.reason for each in found if not isinstance(each, Sample)]


def not_utf8(*texts: bytes | None) -> pa.Array:
    """Strings that nobody checked."""
    content = pa.array(texts, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(content), content.buffers())


# Layouts


def test_rows_of_datacomp_are_samples(tmp_path: Path) -> None:
    shard = write_rows(tmp_path / "x.parquet", [datacomp_row(i) for i in range(5)], DATACOMP)
    found = samples_in(shard, "face_bboxes", "url", "clip_l14_similarity_score")
    assert (
        [each.uid for each in found] == [each.key for each in found] == list(map(uid_of, range(5)))
    )
    assert [(each.span.offset, each.span.length) for each in found] == [(i, 0) for i in range(5)]
    assert [each.caption for each in found] == [f"picture {i}" for i in range(5)]
    assert found[2].metadata == {
        "face_bboxes": [[0.1, 0.2, 0.3, 0.4]] * 2,
        "url": "https://pictures.example/2.jpg",
        "clip_l14_similarity_score": 0.5,
    }
    assert found[0].metadata["face_bboxes"] == [] and found[0].image is None


def test_metadata_is_what_somebody_reads(tmp_path: Path) -> None:
    shard = write_rows(tmp_path / "x.parquet", [datacomp_row(1)], DATACOMP)
    assert samples_in(shard)[0].metadata == {}
    (sample,) = samples_in(shard, "text", "nowhere", "uid", "text")
    assert sample.metadata == {"text": "picture 1", "uid": uid_of(1)}


@pytest.mark.parametrize("kept", [False, True])
def test_rows_of_img2dataset_are_the_samples_of_its_tar(
    tmp_path: Path,
    pair: Callable[..., list],
    tar_bytes: Callable[..., bytes],
    write: Callable[[Path, bytes], ShardRef],
    kept: bool,
) -> None:
    """With uids that were kept as an additional column, and with derived ones."""
    more = {"uid": pa.string()} if kept else {}
    rows = [img2dataset_row(i, **({"uid": uid_of(i)} if kept else {})) for i in range(30)]
    for number in (3, 4, 11, 29):
        rows[number].update(status="failed_to_download", error_message="HTTP Error 404")
    rows[7].update(status="failed_to_resize", sha256=None)
    rows[9]["caption"] = " \n"
    rows[20]["caption"] = "  wide\u2003"
    members = [
        member
        for row in rows
        if row["status"] == "success"
        for member in pair(row["key"], row["caption"], row)
    ]
    tar = write(tmp_path / "00000.tar", tar_bytes(members))
    table = write_rows(tmp_path / "00000.parquet", rows, {**more, **IMG2DATASET}, row_group_size=10)
    found = found_in(table, "width", "exif")
    told = [each for each in read_samples(tar)]
    kept_of_both = [
        [
            (each.uid, each.key, each.caption) if isinstance(each, Sample) else each.reason
            for each in those
            if not isinstance(each, Dropped)
        ]
        for those in (found, told)
    ]
    assert kept_of_both[0] == kept_of_both[1] and len(kept_of_both[0]) == 25
    assert reasons(found).count("not downloaded (failed_to_download)") == 4
    assert reasons(found).count("not downloaded (failed_to_resize)") == 1
    assert [each.span.offset for each in found if isinstance(each, Sample)][3] == 5
    for mine, its in zip(
        (each for each in found if isinstance(each, Sample)),
        (each for each in told if isinstance(each, Sample)),
        strict=True,
    ):
        assert mine.metadata == {name: its.metadata[name] for name in ("width", "exif")}


def test_a_uid_that_is_left_out_is_derived(tmp_path: Path) -> None:
    rows = [img2dataset_row(i, uid=uid) for i, uid in enumerate([None, "", uid_of(2)])]
    shard = write_rows(tmp_path / "00007.parquet", rows, {"uid": pa.string(), **IMG2DATASET})
    wanted = [hashlib.sha256(f"00007.tar/{i:09d}".encode()).hexdigest()[:32] for i in range(2)] + [
        uid_of(2)
    ]
    assert [each.uid for each in samples_in(shard)] == wanted


@pytest.mark.parametrize("name", ["text", "caption", "txt"])
def test_captions_of_other_tables(tmp_path: Path, name: str) -> None:
    columns = {"uid": [uid_of(0)], name: [" a cook "], "status": ["whatever"]}
    assert samples_in(write_columns(tmp_path / "x.parquet", **columns))[0].caption == "a cook"


def test_an_additional_text_is_not_img2datasets_caption(tmp_path: Path) -> None:
    rows = [img2dataset_row(0, text="another")]
    shard = write_rows(tmp_path / "x.parquet", rows, {"text": pa.string(), **IMG2DATASET})
    assert samples_in(shard)[0].caption == "picture 0"


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view()])
def test_other_strings(tmp_path: Path, kind: pa.DataType) -> None:
    types = {**DATACOMP, "text": kind, "uid": kind, "url": kind}
    shard = write_rows(tmp_path / "x.parquet", [datacomp_row(0)], types)
    assert samples_in(shard, "url")[0].metadata == {"url": "https://pictures.example/0.jpg"}


def test_strings_from_a_dictionary(tmp_path: Path) -> None:
    columns = {"key": ["a", "b"], "status": ["success"] * 2, "caption": ["a nurse", None]}
    encoded = {name: pa.array(each).dictionary_encode() for name, each in columns.items()}
    found = found_in(write_columns(tmp_path / "x.parquet", **encoded), "status")
    assert isinstance(found[0], Sample) and found[0].metadata == {"status": "success"}
    assert reasons(found) == ["no caption"]


def test_many_rows_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [datacomp_row(i) for i in range(50)]
    rows[7]["text"] = None
    rows[30]["uid"] = "x"
    shard = write_rows(tmp_path / "x.parquet", rows, DATACOMP, row_group_size=9)
    whole = found_in(shard, "url")
    monkeypatch.setattr(metadata_tables, "ROWS", 4)
    assert found_in(shard, "url") == whole
    assert [each.span.offset for each in whole if isinstance(each, Sample)] == [
        i for i in range(50) if i not in (7, 30)
    ]


# What is wrong with a row


def test_rows_that_cannot_be_used_are_failures(tmp_path: Path) -> None:
    rows = [
        datacomp_row(0, text=None),
        datacomp_row(1, text=" \t"),
        datacomp_row(2, text="x" * 10_001),
        datacomp_row(3, text="x" * 10_000),
        datacomp_row(4, uid=None),
        datacomp_row(5, uid=""),
        datacomp_row(6, uid="A" * 32),
        datacomp_row(7),
    ]
    found = found_in(write_rows(tmp_path / "x.parquet", rows, DATACOMP))
    bad_uid = "uid is not 32 lower-case hexadecimal digits"
    assert [(each.key, each.reason) for each in found if isinstance(each, Failure)] == [
        ("(row 0)", "no caption"),
        ("(row 1)", "empty caption"),
        ("(row 2)", "caption is longer than 10,000 characters"),
        ("(row 4)", "no uid"),
        ("(row 5)", bad_uid),
        ("(row 6)", bad_uid),
    ]
    assert [each.uid for each in found if isinstance(each, Sample)] == [uid_of(3), uid_of(7)]


def test_keys_that_cannot_be_used_are_failures(tmp_path: Path) -> None:
    rows = [
        img2dataset_row(0),
        img2dataset_row(1, key=None),
        img2dataset_row(0),
        img2dataset_row(2, status=None),
        img2dataset_row(2),
    ]
    found = found_in(write_rows(tmp_path / "x.parquet", rows, IMG2DATASET))
    assert isinstance(found[0], Sample) and isinstance(found[4], Sample)
    assert found[1:4] == [
        Failure("x.parquet", "(row 1)", "no key"),
        Failure("x.parquet", "000000000", "repeated or interleaved key"),
        Dropped("not downloaded (no status)"),
    ]


def test_what_is_not_utf8_is_a_failure_of_its_row(tmp_path: Path) -> None:
    bad = b"\xff\xfe"
    columns = {
        "key": not_utf8(b"a", bad, b"c", b"d", b"e"),
        "status": not_utf8(*[b"success"] * 4, bad),
        "caption": not_utf8(b"one", b"two", bad, b"four", b"five"),
        "url": not_utf8(b"u", b"u", b"u", bad, b"u"),
    }
    shard = write_columns(tmp_path / "x.parquet", **columns)
    found = found_in(shard, "url")
    assert isinstance(found[0], Sample) and found[0].metadata == {"url": "u"}
    assert found[1:] == [
        Failure("x.parquet", "\\xff\\xfe", "key is not UTF-8"),
        Failure("x.parquet", "c", "caption is not UTF-8"),
        Failure("x.parquet", "d", "metadata cannot be read"),
        Dropped("not downloaded (\\xff\\xfe)"),
    ]
    assert len([each for each in found_in(shard) if isinstance(each, Sample)]) == 2  # nobody reads


def test_a_uid_that_is_not_utf8(tmp_path: Path) -> None:
    shard = write_columns(tmp_path / "x.parquet", uid=not_utf8(b"\xff" * 32), text=["a"])
    assert reasons(found_in(shard)) == ["uid is not 32 lower-case hexadecimal digits"]


# What is wrong with a table


@pytest.mark.parametrize(
    ("columns", "wrong"),
    [
        ({"uid": ["a"], "url": ["b"]}, "not a table of metadata: .* it has uid, url"),
        ({"text": ["a"], "url": ["b"]}, "not a table of metadata"),
        ({"uid": ["a"], "text": ["b"], "caption": ["c"]}, "not a table of metadata"),
        ({"key": ["a"], "status": ["success"], "text": ["b"]}, "not a table of metadata"),
        ({"uid": ["a"], "text": [1]}, "column text holds int64; it must hold strings"),
        ({"uid": [1], "text": ["a"]}, "column uid holds int64"),
        ({"key": [1], "text": ["a"]}, "column key holds int64"),
        ({"uid": [b"a"], "text": ["a"]}, "column uid holds binary"),
        ({"key": ["a"], "status": [True], "caption": ["a"]}, "column status holds bool"),
    ],
)
def test_tables_without_what_they_need_are_refused(
    tmp_path: Path, columns: dict[str, list], wrong: str
) -> None:
    with pytest.raises(InputError, match=rf"x\.parquet: {wrong}"):
        found_in(write_columns(tmp_path / "x.parquet", **columns))


@pytest.mark.parametrize("name", ["text", "url"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    table = pa.table([["a"], ["b"], ["c"], ["d"]], names=["uid", "text", "url", name])
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(InputError, match=f"2 columns are named {name}; keep one"):
        found_in(find_shards(str(tmp_path / "x.parquet"))[0])


def test_a_table_without_rows_is_an_empty_shard(tmp_path: Path) -> None:
    shard = write_rows(tmp_path / "x.parquet", [], DATACOMP)
    assert found_in(shard) == [Failure("x.parquet", None, "empty shard", rest=True)]


def test_a_table_of_which_nothing_was_downloaded_is_no_empty_shard(tmp_path: Path) -> None:
    rows = [img2dataset_row(i, status="failed_to_download") for i in range(3)]
    shard = write_rows(tmp_path / "x.parquet", rows, IMG2DATASET)
    (part,) = read_parts(shard, 0)
    assert dict(part.drops) == {"not downloaded (failed_to_download)": 3}
    assert not part.failures and not part.batch.samples


def test_a_column_without_any_string_fails_row_by_row(tmp_path: Path) -> None:
    shard = write_columns(tmp_path / "x.parquet", uid=[uid_of(0)], text=pa.nulls(1))
    assert reasons(found_in(shard)) == ["no caption"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "x.parquet"
    rows = [datacomp_row(i) for i in range(200)]
    write_rows(path, rows, DATACOMP, row_group_size=50, write_page_checksum=True)
    return path.read_bytes()


@pytest.mark.parametrize("left", [0, 3, 4, 100, 0.5, 0.9, -1])
def test_a_truncated_table_is_refused(
    tmp_path: Path, whole: bytes, write: Callable[[Path, bytes], ShardRef], left: float
) -> None:
    end = int(left * len(whole)) if isinstance(left, float) else left
    shard = write(tmp_path / "x.parquet", whole[:end])
    with pytest.raises(InputError, match=r"x\.parquet: cannot be read: "):
        found_in(shard)


def test_a_name_that_is_not_utf8_is_refused(
    tmp_path: Path, whole: bytes, write: Callable[[Path, bytes], ShardRef]
) -> None:
    shard = write(tmp_path / "x.parquet", whole.replace(b"sha256", b"\xff\xfe\xfd256"))
    with pytest.raises(InputError, match="cannot be read: 'utf-8' codec can't decode"):
        found_in(shard)


def test_other_content_and_missing_files_are_refused(
    tmp_path: Path, write: Callable[[Path, bytes], ShardRef]
) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        found_in(write(tmp_path / "x.parquet", b"a table by name" * 100))
    with pytest.raises(InputError, match=r"cannot be read: .*No such file"):
        found_in(ShardRef(str(tmp_path / "y.parquet"), 1, 1.0))


@checked(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_is_refused_or_changes_nothing_that_is_read(
    tmp_path: Path, whole: bytes, write: Callable[[Path, bytes], ShardRef], data: st.DataObject
) -> None:
    """Pages have checksums here; a byte in the footer may change what no reader looks at."""
    at = data.draw(st.integers(0, len(whole) - 1))
    content = bytearray(whole)
    content[at] ^= data.draw(st.integers(1, 255))
    try:
        found = found_in(write(tmp_path / "x.parquet", bytes(content)), "face_bboxes")
    except InputError as error:
        assert "x.parquet" in str(error)
    else:
        if at < 4 + len(whole) // 10:  # the pages come first
            assert [each.uid for each in found if isinstance(each, Sample)] == [
                uid_of(i) for i in range(200)
            ]


# Metadata as JSON would have it


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        (pa.array([datetime.date(2020, 1, 2), None]), ["2020-01-02", None]),
        (
            pa.array([datetime.datetime(2020, 1, 2, 3)], pa.timestamp("ms")),
            ["2020-01-02 03:00:00.000"],
        ),
        (pa.array([decimal.Decimal("0.25"), None]), [0.25, None]),
        (pa.array([np.float16(0.25), None], pa.float16()), [0.25, None]),
        (pa.array([b"woman", None]), ["woman", None]),
        (pa.array([b"abc"], pa.binary(3)), ["abc"]),
        (pa.array(["a", None]).dictionary_encode(), ["a", None]),
        (pa.array([[b"a", None], None]), [["a", None], None]),
        (pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)), [[1.0, 2.0]]),
        (pa.array([[[0.5]], []], pa.large_list(pa.list_(pa.float32()))), [[[0.5]], []]),
        (pa.array([{"child": 0.5, "on": datetime.date(2020, 1, 2)}, None]), None),
        (pa.array([[("a", b"x")], None], pa.map_(pa.string(), pa.binary())), [{"a": "x"}, None]),
        (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
        (pa.array([True, None]), [True, None]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_metadata_is_plain(tmp_path: Path, column: pa.Array, wanted: list | None) -> None:
    wanted = wanted or [{"child": 0.5, "on": "2020-01-02"}, None]
    uids = [uid_of(i) for i in range(len(column))]
    shard = write_columns(tmp_path / "x.parquet", uid=uids, text=["a"] * len(column), odd=column)
    found = [each.metadata["odd"] for each in samples_in(shard, "odd")]
    assert found == wanted
    assert [type(each) for each in found] == [type(each) for each in wanted]


def test_bytes_that_are_no_text_make_their_row_unusable(tmp_path: Path) -> None:
    columns = {"uid": [uid_of(0), uid_of(1)], "text": ["a", "b"], "jpg": [b"\xff\xd8", b"text"]}
    shard = write_columns(tmp_path / "x.parquet", **columns)
    assert reasons(found_in(shard, "jpg")) == ["metadata cannot be read"]
    assert len(samples_in(shard)) == 2  # pictures that nobody reads are none of our business


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy]] = {
    "whole": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "large": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "score": (pa.float64(), st.floats()),
    "name": (pa.string(), texts),
    "is": (pa.bool_(), st.booleans()),
    "faces": (pa.list_(pa.list_(pa.float64())), st.lists(st.lists(st.floats(), max_size=4))),
    "gender": (pa.list_(pa.string()), st.lists(st.none() | texts, max_size=3)),
    "places": (
        pa.struct({"a": pa.string(), "b": pa.list_(pa.int64())}),
        st.fixed_dictionaries({"a": texts, "b": st.lists(st.integers(0, 9), max_size=2)}),
    ),
}
records = st.fixed_dictionaries({name: st.none() | each for name, (_, each) in COLUMNS.items()})


@checked(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(records, min_size=1, max_size=6))
def test_rows_say_what_json_would_say(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    types = {"uid": pa.string(), "text": pa.string()}
    types.update({name: kind for name, (kind, _) in COLUMNS.items()})
    full = [{"uid": uid_of(i), "text": "a", **row} for i, row in enumerate(rows)]
    shard = write_rows(tmp_path / "x.parquet", full, types)
    found = [each.metadata for each in samples_in(shard, *COLUMNS)]
    told = [json.loads(json.dumps(row)) for row in rows]
    # As text, where a NaN is a NaN.
    assert json.dumps(found, sort_keys=True) == json.dumps(told, sort_keys=True)


FIELDS = {
    "gender": pa.string(),
    "faces": pa.struct({"child": pa.float64()}),
    "places": pa.list_(pa.string()),
}
MARKED = st.fixed_dictionaries(
    {
        "gender": st.sampled_from([None, "male", "female", "both", "unclear"]),
        "faces": st.none()
        | st.fixed_dictionaries({"child": st.sampled_from([None, 0.0, 0.25, 1.0, 1.5, math.nan])}),
        "places": st.none() | st.lists(st.sampled_from(["kitchen", "garden", None]), max_size=2),
    }
)


@checked(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(MARKED, min_size=1, max_size=8))
def test_fields_are_marked_as_those_of_json(
    tmp_path: Path, catalogue: Catalogue, rows: list[dict[str, Any]]
) -> None:
    full = [{"uid": uid_of(i), "text": "a", **row} for i, row in enumerate(rows)]
    shard = write_rows(
        tmp_path / "x.parquet", full, {**dict.fromkeys(("uid", "text"), pa.string()), **FIELDS}
    )
    annotator = FieldAnnotator(catalogue)
    found = samples_in(shard, *annotator.fields)
    told = [
        Sample(each.uid, each.key, each.span, "a", json.loads(json.dumps(row)))
        for each, row in zip(found, rows, strict=True)
    ]
    mine, its = annotator.annotate(Batch(found)), annotator.annotate(Batch(told))
    np.testing.assert_array_equal(mine.values, its.values)
    np.testing.assert_array_equal(mine.person, its.person)
    np.testing.assert_array_equal(mine.label_rows, its.label_rows)
    np.testing.assert_array_equal(mine.label_ids, its.label_ids)
    assert mine.unusable == its.unusable


# Batches and places


def test_batches_hold_what_became_of_every_row(tmp_path: Path) -> None:
    rows = [img2dataset_row(i) for i in range(CAPTIONS + 100)]
    rows[3]["status"] = "failed_to_download"
    rows[5]["caption"] = None
    rows[-1]["status"] = "failed_to_resize"
    shard = write_rows(tmp_path / "x.parquet", rows, IMG2DATASET)
    first, last = read_parts(shard, 0, ["width"])
    assert (len(first.batch), len(last.batch)) == (CAPTIONS, 97)
    assert dict(first.drops) == {"not downloaded (failed_to_download)": 1}
    assert dict(last.drops) == {"not downloaded (failed_to_resize)": 1}
    assert [each.reason for each in first.failures] == ["no caption"] and not last.failures
    assert last.batch.samples[0].metadata == {"width": 256}


def test_a_remote_table(tmp_path: Path, shelf: Callable[[Path], str]) -> None:
    local = write_rows(tmp_path / "x.parquet", [datacomp_row(i) for i in range(9)], DATACOMP)
    (remote,) = find_shards(shelf(tmp_path / "*.parquet"))
    assert (remote.stem, remote.is_table, remote.size) == ("x", True, local.size)
    assert samples_in(remote, "url") == samples_in(local, "url")


@pytest.fixture
def places(tmp_path: Path) -> Path:
    for name in (
        "both/00000.tar",
        "both/00000.parquet",
        "tables/00001.parquet",
        "tables/2.parquet",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("{}/both", ["00000.tar"]),
        ("{}/both/00000.parquet", ["00000.parquet"]),
        ("{}/both/*.parquet", ["00000.parquet"]),
        ("{}/both::{}/tables/*.parquet", ["00000.tar", "00001.parquet", "2.parquet"]),
        ("{}/tables/{00001..00001}.parquet", ["00001.parquet"]),
    ],
)
def test_tables_are_read_where_they_are_named(places: Path, pattern: str, names: list) -> None:
    found = find_shards(pattern.replace("{}", str(places)))
    assert [shard.name for shard in found] == names
    assert [shard.stem for shard in found] == [name.partition(".")[0] for name in names]
    assert [shard.is_table for shard in found] == [name.endswith(".parquet") for name in names]


def test_a_folder_of_tables_alone_has_no_shards(places: Path) -> None:
    with pytest.raises(InputError, match=r"no shards \(\*\.tar\) found; .* folder/\*\.parquet"):
        find_shards(str(places / "tables"))


@pytest.mark.parametrize("pattern", ["{}/both/*", "{}/both::{}/both/*.parquet"])
def test_a_tar_and_its_table_are_not_both_read(places: Path, pattern: str) -> None:
    with pytest.raises(InputError, match="a tar and a table of metadata of the same name; give"):
        find_shards(pattern.replace("{}", str(places)))
