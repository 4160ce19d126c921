"""Subset files and lists of uids: the bytes that DataComp's tools expect, from any manifest."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from m4.errors import InputError
from pipelines.exports import ExportSettings, datacomp, export
from pipelines.exports.drawn import Exported

WriteTables = Callable[..., str]

LOW, MIDDLE, HIGH = "00000000000000010000000000000002", "7" * 32, "ff" * 16
# A magic number, the version, the header padded to 64 bytes; then each uid's halves, little-endian.
GOLDEN = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (4,), }".ljust(
        117
    )
    + b"\n"
    + bytes.fromhex("0100000000000000" + "0200000000000000")
    + bytes.fromhex("77" * 16)
    + bytes.fromhex("ff" * 32)
)


def rows_of(uids: dict[str, int]) -> list[dict[str, Any]]:
    return [{"uid": uid, "copies": copies} for uid, copies in uids.items()]


def subset_of(manifest: str, output: Path | str) -> Exported:
    return export(ExportSettings(format="datacomp", manifest=manifest, output=str(output)))


def datacomp_reads(path: Path, uids: list[str]) -> list[int]:
    """How often DataComp's resharder would write each uid: it looks them up in the mapped file."""
    subset = np.load(path, mmap_mode="r")
    assert subset.dtype == np.dtype("u8,u8")
    keys = np.array([(int(uid[:16], 16), int(uid[16:], 16)) for uid in uids], np.dtype("u8,u8"))
    first = np.searchsorted(subset, keys, side="left")
    return (np.searchsorted(subset, keys, side="right") - first).tolist()


@pytest.fixture
def manifest(tmp_path: Path, write_tables: WriteTables) -> str:
    tables = {"a": rows_of({HIGH: 2, LOW: 1}), "b": rows_of({MIDDLE: 1, "3" * 32: 0})}
    return write_tables(tmp_path / "manifest", tables)


def test_the_bytes_are_those_that_datacomp_expects(tmp_path: Path, manifest: str) -> None:
    output = tmp_path / "out" / "subset.npy"
    exported = subset_of(manifest, output)
    assert output.read_bytes() == GOLDEN
    assert datacomp_reads(output, [HIGH, LOW, MIDDLE, "3" * 32]) == [2, 1, 1, 0]
    assert exported.counts == {"shards": 2, "samples": 3, "uids": 3, "copies": 4}
    assert exported.notes == ()
    assert [path.name for path in output.parent.iterdir()] == ["subset.npy"]


def test_text_has_the_same_order_and_copies(tmp_path: Path, manifest: str) -> None:
    output = tmp_path / "uids.txt"
    exported = export(ExportSettings(format="uids", manifest=manifest, output=str(output)))
    assert output.read_text().split("\n") == [LOW, MIDDLE, HIGH, HIGH, ""]
    assert exported.counts["copies"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest", "uids.txt"]


halves = st.sampled_from(["0" * 16, "0" * 15 + "1", "a1" * 8, "80" + "0" * 14, "f" * 16])
tables = st.lists(
    st.dictionaries(st.builds(str.__add__, halves, halves), st.integers(0, 4)), min_size=1
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tables=tables, part=st.sampled_from([1, 3, 1 << 23]))
def test_any_manifest_in_parts_of_any_size_is_sorted(
    tables: list[dict[str, int]],
    part: int,
    tmp_path_factory: pytest.TempPathFactory,
    write_tables: WriteTables,
) -> None:
    """With parts of few copies, those that are sorted in place too, as of uids that are no hashes.

    In whatever order the shards are named.
    """
    folder = tmp_path_factory.mktemp("any")
    expected: Counter[str] = Counter()
    for table in tables:
        expected.update(table)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datacomp, "PART", part)
        for name, given_tables in (("one", tables), ("other", tables[::-1])):
            named = {f"{i:03d}": rows_of(table) for i, table in enumerate(given_tables)}
            path = write_tables(folder / name, named)
            exported = subset_of(path, folder / f"{name}.npy")
            export(ExportSettings(format="uids", manifest=path, output=str(folder / f"{name}.txt")))
    found = (folder / "one.txt").read_text().split()
    assert found == sorted(expected.elements())
    assert (folder / "one.npy").read_bytes() == (folder / "other.npy").read_bytes()
    assert np.load(folder / "one.npy").tolist() == [
        (int(uid[:16], 16), int(uid[16:], 16)) for uid in found
    ]
    assert exported.counts["uids"] == len(set(found))
    assert exported.counts["samples"] == sum(
        copies > 0 for each in tables for copies in each.values()
    )


def test_many_uids_over_many_parts(
    tmp_path: Path, write_tables: WriteTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(5)
    uids = {f"{draw.getrandbits(128):032x}": draw.choice([0, 1, 1, 2]) for _ in range(20_000)}
    names = list(uids)
    split = {f"{i}": rows_of({uid: uids[uid] for uid in names[i::7]}) for i in range(7)}
    path = write_tables(tmp_path / "manifest", split)
    monkeypatch.setattr(datacomp, "PART", 500)
    sizes: list[int] = []
    sort = datacomp._sort
    monkeypatch.setattr(datacomp, "_sort", lambda part: (sizes.append(len(part)), sort(part)))
    subset_of(path, tmp_path / "subset.npy")
    assert datacomp_reads(tmp_path / "subset.npy", names) == list(uids.values())
    assert len(sizes) >= 40 and max(sizes) <= 600  # a part, and one bucket of leading bits


def test_samples_that_share_a_uid_are_told(tmp_path: Path, write_tables: WriteTables) -> None:
    tables = {"a": rows_of({LOW: 1, HIGH: 1}), "b": rows_of({LOW: 2})}
    exported = subset_of(write_tables(tmp_path / "manifest", tables), tmp_path / "subset.npy")
    assert (exported.counts["samples"], exported.counts["uids"]) == (3, 2)
    assert exported.notes[0].startswith("1 samples have the uid of another one")


def test_a_manifest_that_uses_nothing_is_an_empty_subset(
    tmp_path: Path, write_tables: WriteTables
) -> None:
    manifest = write_tables(tmp_path / "manifest", {"a": rows_of({LOW: 0}), "b": []})
    subset_of(manifest, tmp_path / "subset.npy")
    export(ExportSettings(format="uids", manifest=manifest, output=str(tmp_path / "uids.txt")))
    assert len(np.load(tmp_path / "subset.npy")) == 0
    assert (tmp_path / "uids.txt").read_bytes() == b""


def test_remote_manifests_and_outputs(
    tmp_path: Path, manifest: str, shelf: Callable[[Path], str]
) -> None:
    subset_of(shelf(Path(manifest)), shelf(tmp_path / "subset.npy"))
    assert (tmp_path / "subset.npy").read_bytes() == GOLDEN
    uids = shelf(tmp_path / "uids.txt")
    export(ExportSettings(format="uids", manifest=shelf(Path(manifest)), output=uids))
    assert (tmp_path / "uids.txt").read_text().split() == [LOW, MIDDLE, HIGH, HIGH]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "manifest",
        "subset.npy",
        "uids.txt",
    ]


def test_what_was_there_stays_until_the_subset_is_whole(
    tmp_path: Path, manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "subset.npy"
    output.write_bytes(b"earlier")

    def stopped(part: np.ndarray) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(datacomp, "_sort", stopped)
        with pytest.raises(KeyboardInterrupt):
            subset_of(manifest, output)
    assert output.read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest", "subset.npy"]
    subset_of(manifest, output)
    assert output.read_bytes() == GOLDEN


@pytest.mark.parametrize("change", [{LOW: 5}, {LOW: 1}])
def test_a_manifest_that_changes_meanwhile_is_refused(
    tmp_path: Path,
    write_tables: WriteTables,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, int],
) -> None:
    manifest = write_tables(tmp_path / "manifest", {"a": rows_of({LOW: 2, HIGH: 1})})

    def writes_meanwhile(folder: Path, needed: int) -> None:
        write_tables(tmp_path / "manifest", {"a": rows_of({**change, HIGH: 1})})

    monkeypatch.setattr(datacomp, "_check_space", writes_meanwhile)
    with pytest.raises(InputError, match="changed while it was read; export again"):
        subset_of(manifest, tmp_path / "subset.npy")
    assert not (tmp_path / "subset.npy").exists()


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, manifest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes to a mapped file that does not fit is ended by the system."""
    usage = type("Usage", (), {"free": 63})
    monkeypatch.setattr(datacomp.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"the subset takes 0\.0 GB, and 0\.0 GB are free"):
        subset_of(manifest, tmp_path / "subset.npy")


def test_progress_is_that_of_two_passes(tmp_path: Path, manifest: str) -> None:
    seen: list[tuple[int, int]] = []
    export(
        ExportSettings(format="datacomp", manifest=manifest, output=str(tmp_path / "s.npy")),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)] * 2


def test_what_is_no_manifest_is_refused(tmp_path: Path, write_tables: WriteTables) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(InputError, match="a run directory; name the manifest in it"):
        subset_of(str(tmp_path / "run"), tmp_path / "s.npy")
    with pytest.raises(InputError, match="no committed tables"):
        subset_of(str(tmp_path / "none"), tmp_path / "s.npy")
    bad = write_tables(tmp_path / "bad", {"a": rows_of({"no uid": 1})})
    with pytest.raises(InputError, match=r"a\.parquet: 'no uid' is no uid"):
        subset_of(bad, tmp_path / "s.npy")


def test_annotations_are_no_manifest(tmp_path: Path, annotated: Path) -> None:
    with pytest.raises(InputError, match="annotations: no column copies; name a manifest"):
        subset_of(str(annotated / "annotations"), tmp_path / "s.npy")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"format": "datacomp", "manifest": "m"}, "format datacomp needs output; give it"),
        ({"format": "uids", "output": "o"}, "format uids needs manifest; give it"),
        ({"format": "open-clip"}, "format open-clip needs shards; give it"),
        (
            {"format": "open-clip", "shards": "s", "manifest": "m"},
            "manifest has no effect with format open-clip; leave it out",
        ),
        (
            {"format": "open-clip", "shards": "s", "output": "o"},
            "output has no effect with format open-clip",
        ),
        (
            {"format": "webdataset", "manifest": "m", "output": "o"},
            "output has no effect with format webdataset",
        ),
        (
            {"format": "mosaicml", "manifest": "m", "output": "o", "shards": "s"},
            "shards has no effect with format mosaicml",
        ),
    ],
)
def test_options_that_are_missing_or_without_effect(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ExportSettings(**options)
