"""Patterns: equal to a plain count, whatever the shards, their order and the partitions."""

import itertools
import math
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from m4.bias import bias_table
from m4.catalogue import Catalogue, load_catalogue
from m4.errors import InputError
from m4.policy import Policy
from m4.problem import Problem
from pipelines import counting, partitions
from pipelines.beam import BeamSettings
from pipelines.counting import merge_patterns, read_patterns, shard_patterns, write_patterns
from pipelines.partitions import Partitions
from pipelines.record import read_run
from pipelines.settings import AnnotateSettings, ApplySettings, CountSettings, SolveSettings
from pipelines.signatures import signatures
from pipelines.stages import annotate, apply, count, solve
from pipelines.tables import (
    Commit,
    annotation_schema,
    read_all,
    round_utility,
    to_patterns,
    write_table,
)

People = Callable[[int], list[Any]]
WriteShards = Callable[..., list[Any]]
Row = tuple[Any, ...]
Rows = Sequence[tuple[tuple[float | None, ...], Sequence[int], float]]  # values, labels, utility


def pattern(values: Iterable[float | None], labels: Iterable[int], utility: float) -> Row:
    """The pattern of one row, by its definition."""
    known = tuple(None if v is None or math.isnan(v) else abs(v) for v in values)
    found = () if set(known) == {None} else tuple(sorted(labels))
    return (*known, found, round(utility * 64) / 64)


def plain_count(run: Path, names: Sequence[str], copies: dict[str, int] | None = None) -> Any:
    """Patterns of a run's annotations, counted one row at a time."""
    found: Counter[Row] = Counter()
    for path in (run / "annotations").glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            key = pattern([row[name] for name in names], row["labels"], row["utility"])
            found[key] += 1 if copies is None else copies[row["uid"]]
    return +found


def annotation_table(catalogue: Catalogue, rows: Rows, first: int = 0) -> pa.Table:
    """Annotations as the stage writes them; uids are numbers from `first` on."""
    return pa.Table.from_pylist(
        [
            {
                **dict(zip(catalogue.value_names, values, strict=True)),
                "uid": f"{i:032x}",
                "key": str(i),
                "offset": 512 * i,
                "length": 512,
                "labels": list(labels),
                "label_sources": ["captions" for _ in labels],
                "utility": utility,
            }
            for i, (values, labels, utility) in enumerate(rows, first)
        ],
        schema=annotation_schema(catalogue),
    )


def write_run(run: Path, catalogue: Catalogue, shards: Sequence[Rows]) -> Path:
    """A run directory with annotations of these rows, a shard each."""
    run.mkdir(exist_ok=True)
    catalogue.save(run / "catalogue.yaml")
    ends = itertools.accumulate(map(len, shards), initial=0)
    for number, (rows, first) in enumerate(zip(shards, ends, strict=False)):
        commit = Commit(
            shard=f"{number:05d}.tar", size=1, modified=1.0, settings="x", rows=len(rows)
        )
        table = annotation_table(catalogue, rows, first)
        write_table(str(run / "annotations"), f"{number:05d}", table, commit)
    return run


def draw_rows(number: int, seed: int = 0) -> Rows:
    """Rows of the tests' catalogue (3 values, 4 labels), some equal, some with nothing observed."""
    draw = random.Random(seed)

    def one() -> tuple[tuple[float | None, ...], list[int], float]:
        woman = draw.choice([None, 0.0, 0.5, 1.0])
        man = None if woman is None else 1.0 - woman
        child = draw.choice([None, None, 0.0, 0.3, 1.0])
        return (woman, man, child), sorted(draw.sample(range(4), draw.randrange(4))), draw.random()

    return [one() for _ in range(number)]


def counted_at(run: Path, **changes: Any) -> bytes:
    count(CountSettings(run=str(run), catalogue=str(run / "catalogue.yaml"), **changes))
    return (run / "patterns.parquet").read_bytes()


def names_in(run: Path) -> set[str]:
    return {path.name for path in run.iterdir()}


def counted(path: Path) -> Counter[Row]:
    """Patterns of a table of patterns; each may stand there only once."""
    found: Counter[Row] = Counter()
    for row in pq.read_table(path).to_pylist():
        number = row.pop("count")
        pattern = tuple(tuple(each) if isinstance(each, list) else each for each in row.values())
        assert pattern not in found
        assert number > 0
        found[pattern] = number
    return found


def copies_of(run: Path) -> dict[str, int]:
    tables = [pq.read_table(path) for path in (run / "manifest").glob("*.parquet")]
    return {row["uid"]: row["copies"] for table in tables for row in table.to_pylist()}


def test_patterns_equal_a_plain_count(
    run: Path, catalogue: Catalogue, catalogue_path: Path
) -> None:
    record = count(CountSettings(run=str(run), catalogue=str(catalogue_path)))
    wanted = plain_count(run, catalogue.value_names)
    assert counted(run / "patterns.parquet") == wanted
    assert wanted.total() == 240
    assert 20 < len(wanted) < 120  # some join many rows
    assert (record.rows_in, record.kept, record.dropped, record.failed) == (240, 240, 0, 0)
    assert read_run(str(run))["count"] == record
    assert set(read_run(str(run))) == {"annotate", "count"}


def test_the_patterns_table_is_read_as_patterns(
    run: Path, catalogue: Catalogue, catalogue_path: Path
) -> None:
    count(CountSettings(run=str(run), catalogue=str(catalogue_path)))
    patterns = read_patterns(str(run / "patterns.parquet"), catalogue)
    table = pq.read_table(run / "patterns.parquet").to_pylist()
    assert patterns.examples == 240
    assert np.array_equal(patterns.counts, [row["count"] for row in table])
    for k, name in enumerate(catalogue.value_names):
        assert patterns.s[:, k].tolist() == [row[name] or 0.0 for row in table]
        assert patterns.observed[:, k].tolist() == [row[name] is not None for row in table]
    ids = [np.flatnonzero(row).tolist() for row in patterns.y.toarray()]
    assert ids == [row["labels"] for row in table]


@pytest.mark.parametrize("shards", [1, 7])
def test_patterns_do_not_depend_on_the_sharding(
    run: Path,
    tmp_path: Path,
    catalogue_path: Path,
    people: People,
    write_shards: WriteShards,
    shards: int,
) -> None:
    pairs = people(240)
    random.Random(5).shuffle(pairs)
    write_shards(tmp_path / "shards", pairs, shards)
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=str(catalogue_path),
            run=str(tmp_path / "other"),
            annotators=("captions", "fields"),
        )
    )
    for folder in (run, tmp_path / "other"):
        count(CountSettings(run=str(folder), catalogue=str(catalogue_path)))
    wanted = (run / "patterns.parquet").read_bytes()
    assert (tmp_path / "other" / "patterns.parquet").read_bytes() == wanted


def test_two_processes_give_the_same_bytes(run: Path, catalogue_path: Path) -> None:
    settings = CountSettings(run=str(run), catalogue=str(catalogue_path))
    count(settings)
    wanted = (run / "patterns.parquet").read_bytes()
    (run / "patterns.parquet").unlink()
    count(settings.model_copy(update={"beam": BeamSettings(processes=2)}))
    assert (run / "patterns.parquet").read_bytes() == wanted


def test_progress_ends_with_all_tables(run: Path, catalogue_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    count(
        CountSettings(run=str(run), catalogue=str(catalogue_path)),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (4, 4)


# What a manifest drew


@pytest.fixture
def drawn_run(run: Path, catalogue_path: Path) -> Path:
    """A run whose manifest was drawn by hand: i mod 4 copies of the i-th sample."""
    apply(ApplySettings(run=str(run), catalogue=str(catalogue_path)))
    for path in (run / "manifest").glob("*.parquet"):
        table = pq.read_table(path)
        numbers = np.arange(len(table), dtype=np.int32) % 4
        column = table.schema.get_field_index("copies")
        pq.write_table(table.set_column(column, table.schema.field(column), [numbers]), path)
    return run


def test_drawn_counts_equal_the_manifests_copies(
    drawn_run: Path, catalogue: Catalogue, catalogue_path: Path
) -> None:
    settings = CountSettings(run=str(drawn_run), catalogue=str(catalogue_path), drawn=True)
    record = count(settings)
    copies = copies_of(drawn_run)
    assert sum(copies.values()) == 360
    wanted = plain_count(drawn_run, catalogue.value_names, copies)
    assert counted(drawn_run / "drawn.parquet") == wanted
    assert wanted.total() == 360
    assert len(wanted) < len(plain_count(drawn_run, catalogue.value_names))
    assert not (drawn_run / "patterns.parquet").exists()
    assert record.stage == "count drawn"


def test_a_manifest_of_other_samples_is_refused(drawn_run: Path, catalogue: Catalogue) -> None:
    manifest = drawn_run / "manifest" / "00000.parquet"
    manifest.write_bytes((drawn_run / "manifest" / "00001.parquet").read_bytes())
    with pytest.raises(InputError, match=r"00000\.parquet lists other samples.*run apply again"):
        shard_patterns(
            str(drawn_run / "annotations"), "00000", catalogue, str(drawn_run / "manifest")
        )


def test_drawn_without_a_manifest_is_refused(run: Path, catalogue_path: Path) -> None:
    with pytest.raises(InputError, match=r"00000\.parquet is missing; run apply first"):
        count(CountSettings(run=str(run), catalogue=str(catalogue_path), drawn=True))


def test_a_manifest_of_earlier_annotations_is_refused(
    drawn_run: Path, catalogue_path: Path
) -> None:
    marker = drawn_run / "annotations" / "00002.json"
    marker.write_text(marker.read_text().replace('"size": ', '"size": 1'))
    with pytest.raises(InputError, match=r"00002\.parquet was drawn from other annotations"):
        count(CountSettings(run=str(drawn_run), catalogue=str(catalogue_path), drawn=True))


# Refusals


def test_another_catalogue_is_refused(
    run: Path, catalogue: Catalogue, catalogue_path: Path, other_catalogue_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"made with catalogue {catalogue.digest[:12]}"):
        count(CountSettings(run=str(run), catalogue=str(other_catalogue_path)))
    assert not (run / "patterns.parquet").exists()
    count(CountSettings(run=str(run), catalogue=str(catalogue_path)))
    changed = catalogue.model_copy(update={"name": "another"})
    changed.__dict__.pop("digest", None)
    with pytest.raises(InputError, match=r"patterns\.parquet: made with catalogue"):
        read_patterns(str(run / "patterns.parquet"), changed)


def test_a_run_without_annotations_is_refused(
    tmp_path: Path, catalogue: Catalogue, catalogue_path: Path
) -> None:
    with pytest.raises(InputError, match="no committed tables; run the stage that makes them"):
        count(CountSettings(run=str(tmp_path), catalogue=str(catalogue_path)))
    with pytest.raises(InputError, match="no such table; run count first"):
        read_patterns(str(tmp_path / "patterns.parquet"), catalogue)


def test_shards_without_rows_are_passed_over(
    tmp_path: Path, catalogue_path: Path, people: People, write_shards: WriteShards
) -> None:
    write_shards(tmp_path / "shards", people(12), 2)
    (tmp_path / "shards" / "00001.tar").write_bytes(b"")
    stage = AnnotateSettings(
        shards=(str(tmp_path / "shards"),),
        catalogue=str(catalogue_path),
        run=str(tmp_path / "run"),
        max_failures=1.0,
    )
    annotate(stage)
    settings = CountSettings(run=str(tmp_path / "run"), catalogue=str(catalogue_path))
    assert count(settings).kept == 6
    (tmp_path / "shards" / "00000.tar").write_bytes(b"")
    annotate(stage)
    with pytest.raises(InputError, match="no annotated samples to count"):
        count(settings)


@pytest.mark.parametrize(
    ("column", "content", "message"),
    [
        ("labels", [[1, 0], [2, 1, 2]], "row 1 holds label 2 twice"),
        ("labels", [[0], [4]], "labels holds the id 4, but there are 4 labels"),
        ("labels", [[-1], [0]], "labels holds the id -1"),
        ("labels", [[0, None], [0]], "labels holds a null among its ids"),
        ("labels", [None, [0]], "labels is null in 1 rows"),
        ("gender.woman", [0.5, 1.25], r"gender\.woman holds 1\.25, outside"),
        ("age.child", [-0.5, None], r"age\.child holds -0\.5, outside"),
        ("utility", [1.0, 1.001], r"utility holds 1\.00"),
        ("utility", [None, 0.5], "utility holds nan"),
    ],
)
def test_what_no_annotation_may_hold_is_refused(
    tmp_path: Path, catalogue: Catalogue, column: str, content: list[Any], message: str
) -> None:
    table = annotation_table(catalogue, [((0.5, 0.5, 0.0), [0], 1.0)] * 2)
    at = table.schema.get_field_index(column)
    kind = table.schema.field(column).type
    table = table.set_column(at, pa.field(column, kind), [pa.array(content, kind)])
    write_table(
        str(tmp_path),
        "a",
        table,
        Commit(shard="a.tar", size=1, modified=1.0, settings="", rows=2),
    )
    with pytest.raises(InputError, match=rf"a\.parquet: {message}.*; run annotate again"):
        shard_patterns(str(tmp_path), "a", catalogue)


@pytest.mark.parametrize("number", [0, 3, 48, 1 << 17])
def test_partitions_are_a_power_of_two(number: int) -> None:
    with pytest.raises(ValidationError, match="partitions"):
        CountSettings(run="run", catalogue="catalogue.yaml", partitions=number)


# One form


def test_rows_that_differ_in_form_only_are_one_pattern(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    rows: Rows = [
        ((0.0, 1.0, None), [0, 2], 0.5),
        ((-0.0, 1.0, math.nan), [2, 0], 0.5 + 1 / 300),
        ((0.0, 1.0, 0.0), [0, 2], 0.5),
    ]
    run = write_run(tmp_path / "run", catalogue, [rows])
    found = shard_patterns(str(run / "annotations"), "00000", catalogue)
    assert sorted(found["count"].to_pylist()) == [1, 2]
    double = found.filter(pa.array([n == 2 for n in found["count"].to_pylist()]))
    assert double["labels"].to_pylist() == [[0, 2]]
    assert str(double["gender.woman"][0].as_py()) == "0.0"
    assert double["utility"].to_pylist() == [0.5]


def test_where_nothing_is_observed_labels_do_not_count(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    unknown, child = (None, None, None), (None, None, 0.0)
    rows: Rows = [(unknown, [0], 1.0), (unknown, [], 1.0), (unknown, [1, 3], 1.0)]
    rows = [*rows, (unknown, [1], 0.0), (child, [0], 1.0), (child, [], 1.0)]
    run = write_run(tmp_path / "run", catalogue, [rows])
    counted_at(run)
    assert counted(run / "patterns.parquet") == {
        (*unknown, (), 1.0): 3,
        (*unknown, (), 0.0): 1,
        (*child, (0,), 1.0): 1,
        (*child, (), 1.0): 1,
    }


def test_patterns_have_the_bias_and_the_weights_of_their_rows(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    run = write_run(tmp_path / "run", catalogue, [draw_rows(300, 1), draw_rows(300, 2)])
    counted_at(run)
    patterns = read_patterns(str(run / "patterns.parquet"), catalogue)
    rows = to_patterns(read_all(str(run / "annotations")).to_arrow(), catalogue)
    assert len(patterns.counts) < len(rows.counts) == patterns.examples
    problem = Problem.of(catalogue, eta=0.5)
    wanted, found = bias_table(problem, rows), bias_table(problem, patterns)
    for whole, joined in (
        (wanted.representation, found.representation),
        (wanted.association, found.association),
    ):
        numbers = [name for name, kind in whole.schema.items() if kind == pl.Float64]
        assert np.allclose(
            whole.select(numbers).to_numpy(), joined.select(numbers).to_numpy(), equal_nan=True
        )
    solve(SolveSettings(run=str(run), catalogue=str(run / "catalogue.yaml"), eta=0.5, penalty=1.0))
    policy = Policy.load(run / "policy.json")
    weights = policy.weights(rows)
    assert weights.std() > 0.01
    assert weights.sum() == pytest.approx(patterns.counts @ policy.weights(patterns))
    assert weights.mean() == pytest.approx(0.5)


@given(st.lists(st.floats(0, 1, width=32), min_size=1))
def test_utility_is_rounded_to_the_nearest_step(utility: list[float]) -> None:
    given_ = np.array(utility, dtype=np.float32)
    rounded = round_utility(given_)
    assert (np.abs(rounded - given_.astype(float)) <= 1 / 128).all()
    assert np.array_equal(rounded * 64, np.rint(rounded * 64))
    assert np.array_equal(round_utility(rounded), rounded)
    assert np.array_equal(round_utility(given_.astype(np.float64)), rounded)
    assert not np.signbit(rounded).any()


def test_whoever_reads_annotations_sees_the_utility_that_is_counted(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    rows = draw_rows(200)
    run = write_run(tmp_path / "run", catalogue, [rows])
    counted_at(run)
    seen = to_patterns(annotation_table(catalogue, rows), catalogue).utility
    kept = read_patterns(str(run / "patterns.parquet"), catalogue)
    assert set(seen) == set(kept.utility)
    assert len(set(seen)) <= 65 < len({utility for _, _, utility in rows})
    with pytest.raises(InputError, match=r"utility holds 2\.0, outside"):
        to_patterns(annotation_table(catalogue, [((1.0, 0.0, None), [], 2.0)]), catalogue)


def test_a_catalogue_without_labels_is_counted(tmp_path: Path, catalogue: Catalogue) -> None:
    bare = catalogue.model_copy(update={"labels": {}, "proxies": {}})
    bare.save(tmp_path / "bare.yaml")
    bare = load_catalogue(tmp_path / "bare.yaml")
    shards: list[Rows] = [
        [(values, [], 1.0) for values, _, _ in draw_rows(50, seed)] for seed in range(3)
    ]
    run = write_run(tmp_path / "run", bare, shards)
    counted_at(run)
    assert counted(run / "patterns.parquet") == plain_count(run, bare.value_names)
    patterns = read_patterns(str(run / "patterns.parquet"), bare)
    assert patterns.y.shape == (len(patterns.counts), 0)
    assert patterns.examples == 150


# The same bytes


@pytest.mark.parametrize(
    ("shards", "changes"),
    [
        (1, {"partitions": 1}),
        (3, {"partitions": 2}),
        (9, {"partitions": 64}),
    ],
)
def test_bytes_depend_on_neither_shards_nor_partitions(
    tmp_path: Path,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
    shards: int,
    changes: dict[str, Any],
) -> None:
    rows = list(draw_rows(900))
    run = write_run(tmp_path / "run", catalogue, [rows[i::4] for i in range(4)])
    wanted = counted_at(run)
    assert counted(run / "patterns.parquet") == plain_count(run, catalogue.value_names)
    random.Random(7).shuffle(rows)
    other = write_run(tmp_path / "other", catalogue, [rows[i::shards] for i in range(shards)])
    monkeypatch.setattr(partitions, "CARRIED_BYTES", 0)  # all tables by their path
    assert counted_at(other, **changes) == wanted
    assert names_in(other) == {"annotations", "catalogue.yaml", "patterns.parquet", "run.json"}


def test_row_groups_do_not_depend_on_the_partitions(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", catalogue, [draw_rows(400, seed) for seed in range(2)])
    for module in (counting, partitions):
        monkeypatch.setattr(module, "GROUP_ROWS", 100)
    found = {counted_at(run, partitions=number) for number in (1, 4, 64)}
    assert len(found) == 1
    parquet = pq.ParquetFile(run / "patterns.parquet")
    sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    assert len(sizes) > 3 and set(sizes[:-1]) == {100}
    words = signatures(parquet.read())
    assert np.array_equal(np.lexsort((words[1], words[0])), np.arange(words.shape[1]))


def test_a_remote_run_is_counted(
    tmp_path: Path, catalogue: Catalogue, shelf: Callable[[Path], str]
) -> None:
    run = write_run(tmp_path / "run", catalogue, [draw_rows(50, seed) for seed in range(2)])
    wanted = counted_at(run)
    (run / "patterns.parquet.old.00000.partition").write_bytes(b"left behind")
    (run / "patterns.parquet").unlink()
    count(CountSettings(run=shelf(run), catalogue=str(run / "catalogue.yaml")))
    assert (run / "patterns.parquet").read_bytes() == wanted
    assert names_in(run) == {"annotations", "catalogue.yaml", "patterns.parquet", "run.json"}


def test_nothing_drawn_is_a_table_without_rows(drawn_run: Path, catalogue_path: Path) -> None:
    for path in (drawn_run / "manifest").glob("*.parquet"):
        table = pq.read_table(path)
        column = table.schema.get_field_index("copies")
        none = np.zeros(len(table), dtype=np.int32)
        pq.write_table(table.set_column(column, table.schema.field(column), [none]), path)
    count(CountSettings(run=str(drawn_run), catalogue=str(catalogue_path), drawn=True))
    assert pq.read_table(drawn_run / "drawn.parquet").num_rows == 0


# Killed

KILLED = """
import os, signal, sys
from pipelines import counting
from pipelines.settings import CountSettings
from pipelines.stages import count

counting.GROUP_ROWS = 100
groups = counting._groups

def one_group(batches):
    yield next(groups(batches))
    os.kill(os.getpid(), signal.SIGKILL)

counting._groups = one_group
count(CountSettings(run=sys.argv[1], catalogue=sys.argv[1] + "/catalogue.yaml"))
"""


def test_a_count_that_was_killed_is_counted_again(tmp_path: Path, catalogue: Catalogue) -> None:
    run = write_run(tmp_path / "run", catalogue, [draw_rows(200, seed) for seed in range(2)])
    root = str(Path(counting.__file__).parents[1])
    killed = subprocess.run([sys.executable, "-c", KILLED, str(run)], cwd=root, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    left = names_in(run) - {"annotations", "catalogue.yaml"}
    assert {name.rpartition(".")[2] for name in left} == {"partition", "partial"}
    # What it left is of other annotations now.
    write_run(run, catalogue, [draw_rows(200, 0), draw_rows(150, 5)])
    fresh = write_run(tmp_path / "fresh", catalogue, [draw_rows(200, 0), draw_rows(150, 5)])
    assert counted_at(run) == counted_at(fresh)
    assert names_in(run) == names_in(fresh)


def test_what_is_not_a_counts_own_is_left_alone(tmp_path: Path, catalogue: Catalogue) -> None:
    run = write_run(tmp_path / "run", catalogue, [draw_rows(20)])
    for name in ("patterns.parquet.bak", "drawn.parquet.1.00000.partition", "notes.partial"):
        (run / name).write_bytes(b"mine")
    before = names_in(run)
    counted_at(run)
    assert names_in(run) == before | {"patterns.parquet", "run.json"}


def test_an_error_leaves_the_earlier_patterns(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", catalogue, [draw_rows(20)])
    wanted = counted_at(run)
    with monkeypatch.context() as patch:
        patch.setattr(Partitions, "join", lambda *_: 1 / 0)
        with pytest.raises(Exception, match="division by zero"):
            counted_at(run)
    assert (run / "patterns.parquet").read_bytes() == wanted
    assert counted_at(run) == wanted


# Adding up tables

rows_of_any_form = st.lists(
    st.tuples(
        st.tuples(*[st.sampled_from([None, math.nan, -0.0, 0.0, 0.3, 0.5, 1.0])] * 3),
        st.lists(st.integers(0, 3), unique=True),
        st.sampled_from([0.0, 0.004, 0.5, 0.505, 1.0]) | st.floats(0, 1, width=32),
    ),
    min_size=1,
    max_size=30,
)


@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=rows_of_any_form, data=st.data())
def test_adding_up_depends_on_content_alone(
    tmp_path: Path, catalogue: Catalogue, content: Rows, data: st.DataObject
) -> None:
    def rows(each: Rows) -> pa.Table:
        run = write_run(tmp_path / "run", catalogue, [each])
        return shard_patterns(str(run / "annotations"), "00000", catalogue)

    def as_float32(row: Any) -> tuple[list[float | None], list[int], float]:
        values, labels, utility = row
        narrow = [None if v is None else float(np.float32(v)) for v in values]
        return narrow, labels, float(np.float32(utility))

    whole = rows(content)
    wanted = Counter(pattern(*as_float32(row)) for row in content)
    assert {
        (*values, tuple(labels), utility): number
        for *values, labels, utility, number in (row.values() for row in whole.to_pylist())
    } == wanted
    shuffled = data.draw(st.permutations(content))
    cut = data.draw(st.integers(0, len(content)))
    first, second = rows(shuffled[:cut]), rows(shuffled[cut:])
    number = data.draw(st.sampled_from([1, 2, 8]))
    parts = Partitions(str(tmp_path / "patterns.parquet"), number, "x")
    found: dict[int, list[pa.Table]] = {}
    for partition, table in [*parts.split(first), *parts.split(second)]:
        found.setdefault(partition, []).append(table)
    parts.join([parts.write(key, merge_patterns(found[key])) for key in found], catalogue)
    write_patterns(str(tmp_path / "whole.parquet"), whole, catalogue.digest)
    made = (tmp_path / "patterns.parquet").read_bytes()
    assert made == (tmp_path / "whole.parquet").read_bytes()


def test_patterns_that_share_a_word_of_their_signature_stay_apart(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table(
        {
            "gender.woman": pa.array([0.0, 1.0, 0.0, 1.0, 0.5], pa.float32()),
            "labels": pa.array([[0]] * 5, pa.list_(pa.int32())),
            "utility": pa.array([1.0] * 5, pa.float32()),
            "count": pa.array([1, 2, 4, 8, 16]),
        }
    )

    def first_word_shared(table: pa.Table) -> np.ndarray:
        words = signatures(table)
        return np.stack([np.zeros_like(words[0]), words[1]])

    monkeypatch.setattr(counting, "signatures", first_word_shared)
    joined = merge_patterns([table[:2], table[2:]])
    assert dict(
        zip(joined["gender.woman"].to_pylist(), joined["count"].to_pylist(), strict=True)
    ) == {0.0: 5, 1.0: 10, 0.5: 16}
    monkeypatch.setattr(counting, "signatures", lambda table: 0 * signatures(table))
    with pytest.raises(RuntimeError, match="share a 128-bit signature"):
        merge_patterns([table])
