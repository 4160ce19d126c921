"""Reshard: what a manifest draws lies in new shards, whole, once per use, and never lost unsaid."""

import json
import os
import signal
import tarfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset

from m4.errors import InputError
from pipelines import blocks as blocks_module
from pipelines import storage
from pipelines.beam import BeamSettings
from pipelines.blocks import cut, write_block
from pipelines.record import read_run
from pipelines.resharding import ReshardSettings, reshard
from pipelines.shards import Failure, Sample, ShardRef, find_shards, read_samples
from pipelines.tables import Commit, committed, manifest_schema, write_table

Content = list[tuple[str, bytes]]
PAIRS = 1170
USES = 936
SHARDS = 6


def write_manifest(run: Path, shards: list[ShardRef], copies_of: Callable[[int], int]) -> None:
    """A manifest of all samples; `copies_of` is called with the number in each sample's key."""
    for shard in shards:
        samples = [each for each in read_samples(shard) if isinstance(each, Sample)]
        copies = np.array([copies_of(int(each.key)) for each in samples], dtype=np.int32)
        columns = [
            [each.uid for each in samples],
            [each.key for each in samples],
            [each.span.offset for each in samples],
            [each.span.length for each in samples],
            copies,
        ]
        schema = manifest_schema(weights=False)
        table = pa.Table.from_arrays([pa.array(each) for each in columns], schema=schema)
        counts = {"used": (copies > 0).sum(), "copies": copies.sum(), "most": copies.max()}
        commit = Commit(
            shard=shard.path,
            size=shard.size,
            modified=shard.modified,
            settings="test",
            rows=len(samples),
            counts={name: int(value) for name, value in counts.items()},
        )
        write_table(str(run / "manifest"), shard.stem, table, commit)


def some(number: int) -> int:
    """Copies: none, one, or two."""
    return (0, 1, 1, 0, 2)[number % 5]


@pytest.fixture
def shards(
    tmp_path: Path,
    people: Callable[[int], list[Content]],
    write_shards: Callable[..., list[ShardRef]],
) -> list[ShardRef]:
    return write_shards(tmp_path / "shards", people(PAIRS), SHARDS)


@pytest.fixture
def settings(tmp_path: Path, shards: list[ShardRef]) -> ReshardSettings:
    """1,170 pairs in 6 shards; 936 uses, copies at least 64 apart, in two blocks."""
    write_manifest(tmp_path / "run", shards, some)
    return ReshardSettings(
        run=str(tmp_path / "run"),
        out=str(tmp_path / "out"),
        shard_size=32,
        batch_size=50,
        window=200,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def members(path: Path) -> Content:
    with tarfile.open(path) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]


def keys_in_order(out: Path) -> list[str]:
    shards = sorted(out.glob("*.tar"))
    return [name[:-4] for path in shards for name, _ in members(path) if name.endswith(".jpg")]


def test_every_use_is_there_byte_for_byte(
    settings: ReshardSettings, people: Callable[[int], list[Content]]
) -> None:
    record = reshard(settings)
    assert (record.rows_in, record.kept, record.failed) == (USES, USES, 0)
    expected = Counter(member for i, pair in enumerate(people(PAIRS)) for member in pair * some(i))
    out = Path(settings.out)
    assert Counter(m for path in out.glob("*.tar") for m in members(path)) == expected
    for path in out.glob("*.tar"):
        found = find_shards(str(path))[0]
        assert not any(isinstance(each, Failure) for each in read_samples(found))


def test_the_files_beside_the_shards_are_those_of_datacomp(settings: ReshardSettings) -> None:
    reshard(settings)
    out = Path(settings.out)
    tars = sorted(path.name for path in out.glob("*.tar"))
    assert tars == [f"{number:08d}.tar" for number in range(len(tars))]
    sizes = json.loads((out / "sizes.json").read_text())
    assert sizes == {name: len(keys_in_order_of(out / name)) for name in tars}
    for name, size in sizes.items():
        content = (out / name.replace(".tar", "_stats.json")).read_text()
        assert json.loads(content) == {"successes": size}
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["processed_count"], meta["output_count"]) == (PAIRS, USES)
    assert meta["output_shard_count"] == len(tars)
    assert meta["shard_size"] == "32"
    assert {path.name for path in out.iterdir()} == {
        *tars,
        *(name.replace(".tar", "_stats.json") for name in tars),
        "sizes.json",
        "meta.json",
        "reshard.json",
    }


def keys_in_order_of(path: Path) -> list[str]:
    return [name[:-4] for name, _ in members(path) if name.endswith(".jpg")]


def test_shards_are_filled_evenly(settings: ReshardSettings) -> None:
    reshard(settings)
    sizes = json.loads((Path(settings.out) / "sizes.json").read_text()).values()
    assert max(sizes) <= 32
    assert min(sizes) >= 31  # 468 uses fill 15 shards


def test_copies_are_never_near_each_other(settings: ReshardSettings) -> None:
    reshard(settings)
    keys = keys_in_order(Path(settings.out))
    places: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        places.setdefault(key, []).append(position)
    doubles = [found for found in places.values() if len(found) == 2]
    assert len(doubles) == PAIRS // 5
    assert min(second - first for first, second in doubles) >= 64
    names = sorted(Path(settings.out).glob("*.tar"))
    held = [set(keys_in_order_of(path)) for path in names]
    assert not any(first & second for first, second in pairwise(held))


def test_samples_of_all_shards_of_a_block_are_mixed(settings: ReshardSettings) -> None:
    reshard(settings.model_copy(update={"window": 10_000}))
    sources = np.array([int(key) % SHARDS for key in keys_in_order(Path(settings.out))])
    assert len(set(sources[:32])) == SHARDS
    assert abs(np.mean(sources[1:] == sources[:-1]) - 1 / SHARDS) < 0.08


def test_webdataset_reads_every_sample(settings: ReshardSettings) -> None:
    reshard(settings)
    tars = sorted(str(path) for path in Path(settings.out).glob("*.tar"))
    read = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert len(read) == USES
    assert all({"jpg", "txt", "json"} <= each.keys() for each in read)


def test_any_number_of_processes_and_any_storage_give_the_same_bytes(
    settings: ReshardSettings,
    shards: list[ShardRef],
    shelf: Callable[[Path], str],
    tmp_path: Path,
) -> None:
    reshard(settings)
    expected = files(Path(settings.out))
    made = {name: content for name, content in expected.items() if name != "meta.json"}
    two = settings.model_copy(
        update={"out": str(tmp_path / "two"), "beam": BeamSettings(processes=2)}
    )
    reshard(two)
    remote = [ShardRef(shelf(Path(s.path)), s.size, s.modified) for s in shards]
    write_manifest(tmp_path / "remote", remote, some)
    elsewhere = {"run": shelf(tmp_path / "remote"), "out": shelf(tmp_path / "shelved")}
    reshard(settings.model_copy(update={**elsewhere, "scratch": str(tmp_path)}))
    for folder in ("two", "shelved"):
        found = files(tmp_path / folder)
        found.pop("meta.json")  # names the folder
        assert found == made


def test_a_run_killed_at_any_point_ends_with_the_same_bytes(
    settings: ReshardSettings, shards: list[ShardRef], tmp_path: Path
) -> None:
    """Killed before the n-th call to the operating system that changes a file, for every n."""
    write_manifest(Path(settings.run), shards, lambda number: number // SHARDS % 2)
    # Two blocks, which fill two shards each.
    settings = settings.model_copy(update={"shard_size": 150, "window": 100})
    reshard(settings)
    expected = files(Path(settings.out))
    killed = 0
    while True:
        killed += 1
        out = tmp_path / f"killed-{killed}"
        ended = _in_child(settings, out, killed)
        status = os.waitstatus_to_exitcode(os.waitpid(ended, 0)[1])
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert not (out / "sizes.json").exists() or not (out / "meta.json").exists()
        again = _in_child(settings, out, None)
        assert os.waitstatus_to_exitcode(os.waitpid(again, 0)[1]) == 0
        found = files(out)
        assert json.loads(found.pop("meta.json"))["output_count"] == 582
        assert found == {name: each for name, each in expected.items() if name != "meta.json"}
    assert killed > 2 * 3 * 4  # 4 shards: opened, synced and renamed, and so is what marks them


def _in_child(settings: ReshardSettings, out: Path, die_before: int | None) -> int:
    """Reshard in a process of its own, which dies before a call that changes a file."""
    child = os.fork()
    if child:
        return child
    calls = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == die_before:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **options)

        return counting

    try:
        os.fsync, os.replace = counted(os.fsync), counted(os.replace)
        storage.open = counted(open)  # type: ignore[attr-defined]
        # Beam in a forked process would wait for threads that are not there.
        from pipelines import resharding

        def write(chosen: ReshardSettings, manifest: str, blocks: Any, _: Any) -> None:
            for block in blocks:
                write_block(block, manifest, chosen.out, chosen.layout)

        resharding._write = write
        reshard(settings.model_copy(update={"out": str(out)}))
        os._exit(0)
    except BaseException:
        os._exit(1)


def test_a_job_whose_worker_fails_goes_on_where_it_stopped(
    settings: ReshardSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    original = blocks_module.SpanWriter.write

    def write(self: Any, path: str, spans: Any) -> Any:
        if len(written) == 5:
            raise OSError("no space left on device")
        written.append(path)
        return original(self, path, spans)

    monkeypatch.setattr(blocks_module.SpanWriter, "write", write)
    with pytest.raises(OSError, match="no space left"):
        reshard(settings)
    out = Path(settings.out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert len(before) == 5
    monkeypatch.setattr(blocks_module.SpanWriter, "write", original)
    record = reshard(settings)
    assert record.kept == USES
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_is_done_is_not_done_again(settings: ReshardSettings) -> None:
    reshard(settings)
    times = {path: path.stat().st_mtime_ns for path in Path(settings.out).glob("*.tar")}
    assert reshard(settings).kept == USES
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_shard_that_is_gone_is_written_again(settings: ReshardSettings) -> None:
    reshard(settings)
    expected = files(Path(settings.out))
    (Path(settings.out) / "00000003.tar").unlink()
    (Path(settings.out) / "00000005_stats.json").unlink()
    assert reshard(settings).kept == USES
    assert files(Path(settings.out)) == expected


def test_statistics_without_a_plan_are_somebody_elses(settings: ReshardSettings) -> None:
    reshard(settings)
    for path in [*Path(settings.out).glob("*.tar"), Path(settings.out) / "reshard.json"]:
        path.unlink()
    with pytest.raises(InputError, match=r"_stats\.json: there are shards already"):
        reshard(settings.model_copy(update={"seed": 1}))


def test_what_could_not_be_read_is_tried_again(
    settings: ReshardSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, broken = os.preadv, []

    def preadv(file: int, *rest: Any) -> int:
        if len(broken) < 3:
            broken.append(file)
            raise OSError(5, "Input/output error")
        return original(file, *rest)

    monkeypatch.setattr(os, "preadv", preadv)
    assert reshard(settings).failures == {"unreadable shard: Input/output error": 3}
    assert reshard(settings).kept == USES
    reshard(settings.model_copy(update={"out": str(tmp_path / "undisturbed")}))
    found, expected = files(Path(settings.out)), files(tmp_path / "undisturbed")
    assert {**found, "meta.json": b""} == {**expected, "meta.json": b""}


def test_what_killed_runs_left_half_written_is_removed(settings: ReshardSettings) -> None:
    reshard(settings)
    expected = files(Path(settings.out))
    (Path(settings.out) / "00000003.tar.0123.partial").write_bytes(b"half")
    reshard(settings)
    assert files(Path(settings.out)) == expected


def test_folders_may_be_named_like_patterns(settings: ReshardSettings, tmp_path: Path) -> None:
    out = tmp_path / "out[1]*"
    out.mkdir()
    (out / "00000000.tar").write_bytes(b"mine")
    with pytest.raises(InputError, match="there are shards already"):
        reshard(settings.model_copy(update={"out": str(out)}))
    run = Path(settings.run).rename(tmp_path / "run[1]?")
    assert reshard(settings.model_copy(update={"run": str(run)})).kept == USES


@pytest.mark.parametrize("lacking", ["most", "copies"])
def test_tables_that_are_no_manifest_are_named(settings: ReshardSettings, lacking: str) -> None:
    path = Path(settings.run) / "manifest" / "00001.json"
    content = json.loads(path.read_text())
    del content["counts"][lacking]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"00001\.json: not of a manifest"):
        reshard(settings)


def test_the_record_says_what_was_written(settings: ReshardSettings) -> None:
    record = reshard(settings)
    assert read_run(settings.run)[f"reshard {settings.out}"] == record


@pytest.mark.parametrize(
    "change", [{"shard_size": 31}, {"seed": 1}, {"window": 720}, {"batch_size": 65}]
)
def test_other_settings_are_refused_in_the_same_folder(
    settings: ReshardSettings, change: dict[str, int]
) -> None:
    reshard(settings)
    before = files(Path(settings.out))
    with pytest.raises(InputError, match="begun with other samples or settings"):
        reshard(settings.model_copy(update=change))
    assert files(Path(settings.out)) == before


def test_another_manifest_is_refused_in_the_same_folder(
    settings: ReshardSettings, shards: list[ShardRef]
) -> None:
    reshard(settings)
    write_manifest(Path(settings.run), shards, lambda number: number % 2)
    with pytest.raises(InputError, match="936 samples in 30 shards; now 585 in"):
        reshard(settings)


def test_a_folder_with_other_shards_is_refused(
    settings: ReshardSettings, shards: list[ShardRef]
) -> None:
    with pytest.raises(InputError, match="there are shards already"):
        reshard(settings.model_copy(update={"out": str(Path(shards[0].path).parent)}))


def test_a_missing_shard_is_too_much_before_anything_is_written(
    settings: ReshardSettings, shards: list[ShardRef]
) -> None:
    Path(shards[2].path).unlink()
    with pytest.raises(InputError, match=r"00002\.tar: unreadable shard.*1 of 6 shards"):
        reshard(settings)
    assert not Path(settings.out).exists()


def test_a_missing_shard_that_is_allowed_for_is_counted(
    settings: ReshardSettings, shards: list[ShardRef]
) -> None:
    Path(shards[2].path).unlink()
    lost = sum(some(number) for number in range(2, PAIRS, SHARDS))
    record = reshard(settings.model_copy(update={"max_failures": 0.2}))
    assert (record.rows_in, record.kept, record.failed) == (USES, USES - lost, lost)
    assert list(record.examples.values()) == [f"{shards[2].path}: (all of it)"]
    assert not any(int(key) % SHARDS == 2 for key in keys_in_order(Path(settings.out)))


def test_a_sample_that_has_changed_is_left_out_and_named(
    settings: ReshardSettings, shards: list[ShardRef]
) -> None:
    path = Path(shards[1].path)
    path.write_bytes(path.read_bytes().replace(b"000007.jpg", b"00000x.jpg"))
    record = reshard(settings)
    assert (record.kept, record.failed) == (USES - 1, 1)
    (example,) = record.examples.values()
    assert example.endswith(": 000007")
    sizes = json.loads((Path(settings.out) / "sizes.json").read_text())
    assert sum(sizes.values()) == USES - 1
    assert reshard(settings).failures == record.failures  # also when nothing is left to do


def test_too_many_samples_that_have_changed_end_in_an_error(
    settings: ReshardSettings, shards: list[ShardRef]
) -> None:
    path = Path(shards[1].path)
    path.write_bytes(path.read_bytes().replace(b"0000", b"xxxx"))
    with pytest.raises(InputError, match=r"samples were set aside.*holds another sample"):
        reshard(settings)
    assert not (Path(settings.out) / "sizes.json").exists()


def test_copies_that_would_meet_in_a_batch_are_refused(settings: ReshardSettings) -> None:
    with pytest.raises(InputError, match="comes 2 times among 936 uses"):
        reshard(settings.model_copy(update={"batch_size": 65_536}))
    assert not Path(settings.out).exists()


def test_a_uid_of_many_rows_is_found_out(
    tmp_path: Path,
    pair: Callable[..., Content],
    write_shards: Callable[..., list[ShardRef]],
) -> None:
    uids = [f"{min(i, 580):032x}" for i in range(600)]
    pairs = [pair(f"{i:06d}", "a photo", {"uid": uid}) for i, uid in enumerate(uids)]
    write_manifest(tmp_path / "run", write_shards(tmp_path / "shards", pairs, 2), lambda _: 1)
    settings = ReshardSettings(
        run=str(tmp_path / "run"), out=str(tmp_path / "out"), shard_size=10, batch_size=32
    )
    with pytest.raises(InputError, match=rf"uid {580:032x} comes so often"):
        reshard(settings)
    nearer = {"batch_size": 15, "out": str(tmp_path / "nearer")}
    assert reshard(settings.model_copy(update=nearer)).kept == 600


def test_equal_keys_of_several_shards_stay_apart(
    tmp_path: Path, pair: Callable[..., Content], write_shards: Callable[..., list[ShardRef]]
) -> None:
    pairs = [pair(f"{i // 3:04d}", f"caption {i}") for i in range(90)]
    write_manifest(tmp_path / "run", write_shards(tmp_path / "shards", pairs, 3), lambda _: 1)
    out = tmp_path / "out"
    reshard(ReshardSettings(run=str(tmp_path / "run"), out=str(out), shard_size=45))
    read = webdataset.WebDataset([str(p) for p in sorted(out.glob("*.tar"))], shardshuffle=False)
    assert {each["txt"].decode() for each in read} == {f"caption {i}" for i in range(90)}


def test_metadata_tables_cannot_be_resharded(settings: ReshardSettings) -> None:
    folder = Path(settings.run) / "manifest"
    for _, commit in committed(str(folder)):
        stem = Path(commit.shard).stem
        changed = commit.model_copy(update={"shard": f"/metadata/{stem}.parquet"})
        (folder / f"{stem}.json").write_text(changed.model_dump_json())
    with pytest.raises(InputError, match="made from tables of metadata"):
        reshard(settings)


def test_a_manifest_that_draws_nothing_is_an_error(tmp_path: Path, shards: list[ShardRef]) -> None:
    write_manifest(tmp_path / "run", shards, lambda _: 0)
    with pytest.raises(InputError, match="uses no sample"):
        reshard(ReshardSettings(run=str(tmp_path / "run"), out=str(tmp_path / "out")))


def test_a_manifest_with_a_damaged_table_is_named(settings: ReshardSettings) -> None:
    path = Path(settings.run) / "manifest" / "00003.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"00003\.parquet: cannot be read"):
        reshard(settings)


def test_a_block_written_alone_has_the_same_bytes(settings: ReshardSettings) -> None:
    reshard(settings)
    manifest = str(Path(settings.run) / "manifest")
    markers = list(committed(manifest))
    from pipelines.resharding import _sources

    sources, _ = _sources(settings, markers)
    blocks = cut(sources, 2, settings.layout)
    assert len(blocks) == 2
    alone = Path(settings.out).with_name("alone")
    write_block(blocks[1], manifest, str(alone), settings.layout)
    expected = files(Path(settings.out))
    assert files(alone) == {name: expected[name] for name in files(alone)}
    assert len(files(alone)) == 2 * blocks[1].shards
