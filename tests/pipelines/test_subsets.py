"""Imported subsets: the copies that DataComp's file says, over tars that nobody annotated."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from m4.errors import InputError
from pipelines import subsets
from pipelines.beam import BeamSettings
from pipelines.exports import ExportSettings, export
from pipelines.record import read_run
from pipelines.settings import ApplySettings, CountSettings, SolveSettings
from pipelines.stages import apply, count, solve
from pipelines.subsets import Imported, ImportSubsetSettings, import_subset
from pipelines.tables import IDENTITY, read_commit
from pipelines.uids import sort_pairs, to_pairs

NAMES = [field.name for field in IDENTITY]
UNKNOWN = ["0" * 32, "f" * 32]


def uid(i: int) -> str:
    """Of the i-th of `people`."""
    return hashlib.sha256(str(i).encode()).hexdigest()[:32]


def manifest_of(run: Path, name: str = "manifest") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / name).iterdir())}


def copies_of(run: Path, name: str = "manifest") -> Counter[str]:
    tables = [pq.read_table(path) for path in (run / name).glob("*.parquet")]
    return +Counter({row["uid"]: row["copies"] for each in tables for row in each.to_pylist()})


@pytest.fixture(scope="module")
def tars(
    tmp_path_factory: pytest.TempPathFactory,
    people: Callable[[int], Any],
    write_shards: Callable[..., Any],
) -> Path:
    """40 pairs in 3 tars. Not to be changed."""
    folder = tmp_path_factory.mktemp("tars")
    write_shards(folder, people(40), 3)
    return folder


@pytest.fixture
def subset(tmp_path: Path) -> Path:
    """Every fourth of them, and every eighth twice."""
    path = tmp_path / "subset.npy"
    np.save(path, sort_pairs(to_pairs([uid(i) for i in [*range(0, 40, 4), *range(0, 40, 8)]])))
    return path


EXPECTED = Counter({uid(i): 1 + (i % 8 == 0) for i in range(0, 40, 4)})


@pytest.fixture
def settings(tmp_path: Path, tars: Path, subset: Path) -> ImportSubsetSettings:
    return ImportSubsetSettings(
        shards=(str(tars),), run=str(tmp_path / "theirs"), subset=str(subset)
    )


def changed(settings: ImportSubsetSettings, **fields: Any) -> ImportSubsetSettings:
    return ImportSubsetSettings(**{**settings.model_dump(), **fields})


def test_what_apply_drew_comes_back_through_a_subset(
    run: Path, tmp_path: Path, catalogue_path: Path, annotated: Path
) -> None:
    """Exported, then laid over the same tars, without annotations and with."""
    here = {"run": str(run), "catalogue": str(catalogue_path)}
    count(CountSettings(**here))
    solve(SolveSettings(**here, eta=0.6, cap=2.0))
    apply(ApplySettings(**here, policy=str(run / "policy.json"), seed=3))
    path = str(tmp_path / "subset.npy")
    export(ExportSettings(format="datacomp", manifest=str(run / "manifest"), output=path))
    shards = (str(annotated.parent / "shards"),)
    theirs = tmp_path / "theirs"
    alone = import_subset(ImportSubsetSettings(shards=shards, run=str(theirs), subset=path))
    assert copies_of(theirs) == copies_of(run)
    assert set(copies_of(run).values()) == {1, 2}  # or the test would prove little
    assert alone.copies == copies_of(run).total()
    there = ImportSubsetSettings(
        shards=shards, run=str(run), subset=path, manifest="again", beam=BeamSettings()
    )
    import_subset(there)
    assert not (run / "index").exists()
    for name in ("manifest", "again"):
        for i in range(4):
            made = pq.read_table(run / name / f"0000{i}.parquet")
            assert made.equals(pq.read_table(theirs / "manifest" / f"0000{i}.parquet"))
    applied, imported = (read_commit(str(run / name), "00000") for name in ("manifest", "again"))
    assert applied is not None and imported is not None and imported.same_input(applied)
    for name in ("used", "copies", "most"):
        assert imported.counts[name] == applied.counts[name]


def test_a_manifest_has_a_row_for_each_sample(settings: ImportSubsetSettings) -> None:
    imported = import_subset(settings)
    theirs = Path(settings.run)
    assert copies_of(theirs) == EXPECTED
    for i in range(3):
        table = pq.read_table(theirs / "manifest" / f"0000{i}.parquet")
        index = pq.read_table(theirs / "index" / f"0000{i}.parquet")
        assert table.column_names == [*NAMES, "copies"]
        assert table.select(NAMES).equals(index)
        commit = read_commit(str(theirs / "manifest"), f"0000{i}")
        assert commit is not None and commit.rows == len(table)
        copies = table["copies"].to_numpy()
        assert commit.counts == {
            "used": (copies > 0).sum(),
            "copies": copies.sum(),
            "most": copies.max(),
        }
    record = imported.record
    assert (record.rows_in, record.kept, record.dropped, record.failed) == (40, 10, 30, 0)
    assert read_run(settings.run)["import-subset manifest"] == record
    assert imported == Imported(record=record, copies=15, uids=10, missing=0, shared=0)


def test_without_a_subset_every_sample_is_used_once(settings: ImportSubsetSettings) -> None:
    imported = import_subset(changed(settings, subset=None))
    assert copies_of(Path(settings.run)) == Counter(uid(i) for i in range(40))
    assert (imported.copies, imported.uids, imported.missing) == (40, None, None)


def test_text_counts_as_the_array_does(settings: ImportSubsetSettings, tmp_path: Path) -> None:
    """In any order, with any white space."""
    path = tmp_path / "uids.txt"
    path.write_text("\r\n".join(sorted(EXPECTED.elements(), reverse=True)) + "\n\n")
    import_subset(settings)
    import_subset(changed(settings, subset=str(path), manifest="text"))
    theirs = Path(settings.run)
    assert copies_of(theirs, "text") == EXPECTED
    for name, content in manifest_of(theirs).items():
        if name.endswith(".parquet"):
            assert (theirs / "text" / name).read_bytes() == content


@examples(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chosen=st.lists(st.integers(0, 60)))
def test_any_subset_is_laid_out_or_told(
    chosen: list[int], tars: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Those from 40 on are in no shard."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "uids.txt").write_text("\n".join(map(uid, chosen)))
    imported = import_subset(
        ImportSubsetSettings(
            shards=(str(tars),),
            run=str(folder / "run"),
            subset=str(folder / "uids.txt"),
            max_missing=1.0,
        )
    )
    assert copies_of(folder / "run") == Counter(uid(i) for i in chosen if i < 40)
    assert imported.uids == len(set(chosen))
    assert imported.missing == imported.record.failed == len({i for i in chosen if i >= 40})


def test_uids_in_no_shard_are_counted_and_above_the_limit_an_error(
    settings: ImportSubsetSettings, tmp_path: Path
) -> None:
    """A uid counts once, however often it is used. What was found is written all the same."""
    path = tmp_path / "more.npy"
    np.save(path, sort_pairs(to_pairs([*EXPECTED.elements(), *UNKNOWN, UNKNOWN[0]])))
    with pytest.raises(
        InputError,
        match=rf"more\.npy: 2 of its 12 uids are in no shard, such as {UNKNOWN[0]}; .*01",
    ):
        import_subset(changed(settings, subset=str(path)))
    assert copies_of(Path(settings.run)) == EXPECTED
    record = read_run(settings.run)["import-subset manifest"]
    assert record.failures == {"uid of the subset in no shard": 2}
    assert UNKNOWN[0] in record.examples["uid of the subset in no shard"]
    with pytest.raises(InputError, match=r"raise max_missing \(now 0\.16\)"):
        import_subset(changed(settings, subset=str(path), max_missing=0.16))
    imported = import_subset(changed(settings, subset=str(path), max_missing=0.17))
    assert (imported.uids, imported.missing) == (12, 2)
    assert imported.record.rows_in == 40 + 2


def test_samples_that_share_a_uid_are_told(
    tmp_path: Path, pair: Any, write: Any, tar_bytes: Any
) -> None:
    """And are not counted as two finds, which would hide a uid that is missing."""
    for name in ("a", "b"):
        write(tmp_path / f"{name}.tar", tar_bytes(pair("0", metadata={"uid": uid(1)})))
    (tmp_path / "uids.txt").write_text(f"{uid(1)}\n{uid(2)}\n")
    imported = import_subset(
        ImportSubsetSettings(
            shards=(str(tmp_path),),
            run=str(tmp_path / "run"),
            subset=str(tmp_path / "uids.txt"),
            max_missing=0.5,
        )
    )
    assert (imported.missing, imported.shared, imported.copies) == (1, 1, 2)


def test_a_killed_import_ends_with_the_same_bytes(settings: ImportSubsetSettings) -> None:
    import_subset(settings)
    theirs = Path(settings.run)
    wanted = manifest_of(theirs)
    times = {path: path.stat().st_mtime_ns for path in (theirs / "manifest").iterdir()}
    (theirs / "manifest" / "00001.json").unlink()
    (theirs / "manifest" / "00002.json").unlink()
    (theirs / "manifest" / "00002.parquet").write_bytes(b"half")
    seen: list[tuple[int, int]] = []
    import_subset(settings, progress=lambda done, total: seen.append((done, total)))
    assert manifest_of(theirs) == wanted
    again = {path.stem for path, at in times.items() if path.stat().st_mtime_ns != at}
    assert again == {"00001", "00002"}
    assert seen[-1] == (3, 3)


def test_another_subset_of_the_same_name_is_laid_out_anew(
    settings: ImportSubsetSettings, subset: Path
) -> None:
    import_subset(settings)
    np.save(subset, sort_pairs(to_pairs([uid(1), uid(2)])))
    import_subset(settings)
    assert copies_of(Path(settings.run)) == Counter([uid(1), uid(2)])


def test_the_subset_is_read_once_for_all_shards(
    settings: ImportSubsetSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    reader = subsets.read_subset
    subsets._load.cache_clear()
    monkeypatch.setattr(subsets, "read_subset", lambda path: read.append(path) or reader(path))
    import_subset(settings)
    assert read == [settings.subset]


@pytest.mark.slow
def test_two_processes_give_the_same_bytes(settings: ImportSubsetSettings) -> None:
    import_subset(settings)
    import_subset(changed(settings, manifest="parallel", beam=BeamSettings(processes=2)))
    theirs = Path(settings.run)
    assert manifest_of(theirs, "parallel") == manifest_of(theirs)


def test_remote_tars_subset_and_run(
    settings: ImportSubsetSettings, tars: Path, subset: Path, shelf: Callable[[Path], str]
) -> None:
    remote = changed(
        settings, shards=(shelf(tars),), run=shelf(Path(settings.run)), subset=shelf(subset)
    )
    import_subset(remote)
    assert copies_of(Path(settings.run)) == EXPECTED
    commit = read_commit(str(Path(settings.run) / "manifest"), "00000")
    assert commit is not None and commit.shard == shelf(tars / "00000.tar")


# Refusals


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"0123\n", r"neither \.npy nor a list of uids: '0123' is no uid"),
        (b"\xff\xfe", r"neither \.npy nor a list of uids"),
    ],
)
def test_what_is_no_list_of_uids_is_refused(
    settings: ImportSubsetSettings, tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "uids.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"uids\.txt: {told}"):
        import_subset(changed(settings, subset=str(tmp_path / "uids.txt")))
    assert not Path(settings.run).exists()


def test_raw_memory_and_missing_files_are_refused(
    settings: ImportSubsetSettings, subset: Path, tmp_path: Path
) -> None:
    """An array without the header of .npy is none."""
    subset.write_bytes(subset.read_bytes()[128:])
    with pytest.raises(InputError, match=r"subset\.npy: cannot be read as \.npy"):
        import_subset(settings)
    with pytest.raises(InputError, match=r"none\.npy: cannot be read: No such file"):
        import_subset(changed(settings, subset=str(tmp_path / "none.npy")))


def test_limits_without_effect_are_refused(
    settings: ImportSubsetSettings, run: Path, annotated: Path
) -> None:
    with pytest.raises(ValidationError, match="max_missing has no effect without a subset"):
        changed(settings, subset=None, max_missing=0.1)
    shards = (str(annotated.parent / "shards"),)
    with pytest.raises(InputError, match=r"max_failures 0\.5 has no effect, since .*annotations"):
        import_subset(changed(settings, shards=shards, run=str(run), max_failures=0.5))


def test_annotations_of_other_shards_are_refused(
    settings: ImportSubsetSettings, run: Path, annotated: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"00000\.parquet: made from .* bytes, not from .*00000"):
        import_subset(changed(settings, run=str(run)))
    copied = tmp_path / "copied"
    shutil.copytree(annotated.parent / "shards", copied)
    with pytest.raises(
        InputError, match=r"made from .*shards/00000\.tar .* not from .*copied/00000"
    ):
        import_subset(changed(settings, shards=(str(copied),), run=str(run)))
    more = str(copied / "more.tar")
    shutil.copy2(copied / "00000.tar", more)
    both = (str(annotated.parent / "shards"), more)
    with pytest.raises(InputError, match=r"more\.parquet: is missing; annotate .*more\.tar too"):
        import_subset(changed(settings, shards=both, run=str(run)))


def test_a_manifest_is_not_mixed_with_that_of_other_shards(
    settings: ImportSubsetSettings, tars: Path
) -> None:
    import_subset(settings)
    fewer = changed(settings, shards=(str(tars / "00000.tar"),), max_missing=1.0)
    with pytest.raises(InputError, match=r"0000[12]\.json: of a shard that was not given"):
        import_subset(fewer)
    imported = import_subset(changed(fewer, manifest="fewer"))
    assert imported.record.rows_in - imported.record.failed == 14


def test_damaged_tars_are_counted_by_the_index(
    settings: ImportSubsetSettings, tars: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "tars"
    shutil.copytree(tars, copied)
    whole = (copied / "00002.tar").read_bytes()
    (copied / "00002.tar").write_bytes(whole[: len(whole) // 2])
    damaged = changed(settings, shards=(str(copied),))
    with pytest.raises(InputError, match="raise max_failures"):
        import_subset(damaged)
    imported = import_subset(changed(damaged, max_failures=1.0, max_missing=1.0))
    assert 0 < (imported.missing or 0) < 10
    found: Sequence[str] = list(copies_of(Path(settings.run)))
    assert set(found) < set(EXPECTED)
    assert json.loads((Path(settings.run) / "run.json").read_bytes())["index"]["failed"] > 0


@pytest.mark.parametrize("name", ["annotations", "index", "a/b"])
def test_a_manifest_may_not_take_the_place_of_other_tables(
    settings: ImportSubsetSettings, name: str
) -> None:
    with pytest.raises(ValidationError, match="is not a free name in a run directory"):
        changed(settings, manifest=name)
