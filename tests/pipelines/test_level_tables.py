"""Weights in a manifest are a few levels, of which each covers twenty examples and two patterns."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.policy import Policy
from pipelines.counting import read_patterns
from pipelines.levels import BITS, Left, LevelTable
from pipelines.settings import AnnotateSettings, ApplySettings, CountSettings
from pipelines.stages import annotate, apply, count
from pipelines.tables import to_patterns


@pytest.fixture
def settings(run: Path, catalogue_path: Path, policy_path: Path) -> ApplySettings:
    """Settings that write weights, in a run with its patterns counted."""
    count(CountSettings(run=str(run), catalogue=str(catalogue_path)))
    return ApplySettings(
        run=str(run), catalogue=str(catalogue_path), policy=str(policy_path), weights=True
    )


def level_table(run: Path, name: str = "manifest") -> LevelTable:
    return LevelTable.model_validate_json((run / f"{name}-levels.json").read_bytes())


def joined(folder: Path) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))])


def test_a_weight_names_no_pattern(
    run: Path, settings: ApplySettings, catalogue: Catalogue, policy_path: Path
) -> None:
    apply(settings)
    written = joined(run / "manifest")["weight"].to_numpy()
    weights = Policy.load(policy_path).weights(to_patterns(joined(run / "annotations"), catalogue))
    table = level_table(run)
    covered = defaultdict(list)
    for level, weight in zip(written.tolist(), weights.tolist(), strict=True):
        covered[level].append(weight)
    assert tuple(sorted(covered)) == table.values
    assert tuple(len(covered[value]) for value in table.values) == table.examples
    for value, held in covered.items():
        assert len(held) >= 20
        assert value == pytest.approx(np.mean(held))
    assert 2 <= len(covered) <= 32 and len(set(weights.tolist())) > len(covered)
    patterns = read_patterns(str(run / "patterns.parquet"), catalogue)
    of_pattern = Policy.load(policy_path).weights(patterns)
    for low, high in zip(table.values, table.values[1:], strict=False):
        assert np.count_nonzero((of_pattern >= low) & (of_pattern <= high)) >= 2


def test_what_is_planned_of_the_levels_is_what_is_planned_of_the_weights(
    run: Path, settings: ApplySettings
) -> None:
    found = apply(settings).balance
    assert found is not None and found.quantised is not None
    table = level_table(run)
    planned = [value * n for value, n in zip(table.values, table.examples, strict=True)]
    assert math.fsum(planned) == pytest.approx(found.planned.realised.copies)
    assert math.fsum(planned) == pytest.approx(found.quantised.realised.copies)


def test_copies_are_drawn_from_the_weights_themselves(run: Path, settings: ApplySettings) -> None:
    apply(settings)
    apply(settings.model_copy(update={"weights": False, "manifest": "plain"}))
    weighted, plain = joined(run / "manifest"), joined(run / "plain")
    assert weighted.drop_columns("weight").equals(plain)
    assert not (run / "plain-levels.json").exists()


def test_without_a_policy_weights_are_one_and_need_no_patterns(
    run: Path, settings: ApplySettings
) -> None:
    (run / "patterns.parquet").unlink()
    apply(settings.model_copy(update={"policy": None}))
    assert set(joined(run / "manifest")["weight"].to_pylist()) == {1.0}
    assert not (run / "manifest-levels.json").exists()


def test_weights_need_patterns_of_these_samples(
    run: Path, settings: ApplySettings, annotated: Path
) -> None:
    kept = (run / "patterns.parquet").read_bytes()
    (run / "patterns.parquet").unlink()
    with pytest.raises(InputError, match=r"patterns\.parquet: no such table; run count first"):
        apply(settings)
    (run / "patterns.parquet").write_bytes(kept)
    annotate(
        AnnotateSettings(
            shards=(str(annotated.parent / "shards"),),
            catalogue=settings.catalogue,
            run=str(run),
            annotators=("fields", "captions"),
        )
    )
    with pytest.raises(InputError, match=r"patterns\.parquet: counts other samples .* count again"):
        apply(settings)
    assert not (run / "manifest").exists()
    count(CountSettings(run=str(run), catalogue=settings.catalogue))
    apply(settings)


def test_too_few_examples_for_a_level_are_refused(
    tmp_path: Path,
    settings: ApplySettings,
    people: Callable[[int], list[Any]],
    write_shards: Callable[..., Any],
) -> None:
    write_shards(tmp_path / "few", people(19), 1)
    other = tmp_path / "other"
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "few"),), catalogue=settings.catalogue, run=str(other)
        )
    )
    count(CountSettings(run=str(other), catalogue=settings.catalogue))
    there = settings.model_copy(update={"run": str(other)})
    with pytest.raises(InputError, match=r"annotations: examples: 19.*leave out the weights"):
        apply(there)
    assert not (other / "manifest").exists()
    apply(there.model_copy(update={"weights": False}))


def test_levels_are_the_same_however_the_samples_are_sharded(
    run: Path,
    tmp_path: Path,
    settings: ApplySettings,
    people: Callable[[int], list[Any]],
    write_shards: Callable[..., Any],
) -> None:
    apply(settings)
    write_shards(tmp_path / "shards", people(240)[::-1], 3)
    other = tmp_path / "other"
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=settings.catalogue,
            run=str(other),
            annotators=("captions", "fields"),
        )
    )
    count(CountSettings(run=str(other), catalogue=settings.catalogue))
    apply(settings.model_copy(update={"run": str(other)}))
    here, there = level_table(run), level_table(other)
    assert (here.values, here.examples) == (there.values, there.examples)
    tables = [joined(folder / "manifest") for folder in (run, other)]
    mine, theirs = (
        dict(zip(table["uid"].to_pylist(), table["weight"].to_pylist(), strict=True))
        for table in tables
    )
    assert mine == theirs


# Opting out


def pattern_of(row: dict[str, Any], catalogue: Catalogue) -> str:
    """What tells two patterns apart, read from an annotation by itself."""
    values = [row[name] for name in catalogue.value_names]
    known = any(value is not None for value in values)
    return f"{values} {sorted(row['labels']) if known else []} {row['utility']}"


def levels_in(run: Path, catalogue: Catalogue) -> dict[float, list[tuple[str, str]]]:
    """Uid and pattern of the samples that have each weight but 0."""
    held = defaultdict(list)
    marks, drawn = joined(run / "annotations"), joined(run / "manifest")
    for row, weight in zip(marks.to_pylist(), drawn["weight"].to_pylist(), strict=True):
        if weight:
            held[weight].append((row["uid"], pattern_of(row, catalogue)))
    return held


def without(settings: ApplySettings, path: Path, uids: list[str]) -> ApplySettings:
    path.write_text("\n".join(uids))
    return settings.model_copy(update={"opt_out_uids": (str(path),)})


def assert_solid(run: Path, catalogue: Catalogue) -> None:
    """Assert that no weight points at few samples or one pattern, and that the table says so."""
    held = levels_in(run, catalogue)
    assert held
    for members in held.values():
        assert len(members) >= 20 and len({pattern for _, pattern in members}) >= 2
    table = level_table(run)
    counted = dict(zip(table.values, table.examples, strict=True))
    assert {value: n for value, n in counted.items() if n} == {
        value: len(members) for value, members in held.items()
    }


@pytest.mark.parametrize("left", [1, 19])
def test_a_level_of_which_few_are_left_is_joined_to_others(
    run: Path, settings: ApplySettings, catalogue: Catalogue, tmp_path: Path, left: int
) -> None:
    apply(settings)
    before = levels_in(run, catalogue)
    largest = max(before.values(), key=len)
    apply(without(settings, tmp_path / "uids", [uid for uid, _ in largest[left:]]))
    assert_solid(run, catalogue)
    assert len(levels_in(run, catalogue)) < len(before)


def test_a_level_of_which_one_pattern_is_left_is_joined_to_others(
    run: Path,
    settings: ApplySettings,
    catalogue: Catalogue,
    tmp_path: Path,
    people: Callable[[int], list[Any]],
    write_shards: Callable[..., Any],
) -> None:
    write_shards(tmp_path / "shards", people(480), 3)
    other = tmp_path / "other"
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=settings.catalogue,
            run=str(other),
            annotators=("captions", "fields"),
        )
    )
    count(CountSettings(run=str(other), catalogue=settings.catalogue))
    settings = settings.model_copy(update={"run": str(other)})
    apply(settings)
    before = levels_in(other, catalogue)
    members, pattern = next(
        (members, pattern)
        for members in before.values()
        for pattern, n in Counter(each for _, each in members).items()
        if n >= 20  # or too few would be left, which is another reason
    )
    out = [uid for uid, each in members if each != pattern]
    apply(without(settings, tmp_path / "uids", out))
    assert_solid(other, catalogue)
    assert len(levels_in(other, catalogue)) < len(before)


def test_a_level_of_which_nobody_is_left_hurts_nobody(
    run: Path, settings: ApplySettings, catalogue: Catalogue, tmp_path: Path
) -> None:
    apply(settings)
    before, values = levels_in(run, catalogue), level_table(run).values
    gone = min(before)
    apply(without(settings, tmp_path / "uids", [uid for uid, _ in before[gone]]))
    assert_solid(run, catalogue)
    table = level_table(run)
    assert table.values == values and table.examples[0] == 0


def test_where_opting_out_leaves_too_few_for_any_level_weights_are_refused(
    run: Path, settings: ApplySettings, tmp_path: Path
) -> None:
    uids = joined(run / "annotations")["uid"].to_pylist()
    with pytest.raises(
        InputError,
        match=r"annotations: opting out hollows out a level of 160; examples: 240.*leave out the",
    ):
        apply(without(settings, tmp_path / "uids", uids[19:]))
    assert not (run / "manifest").exists()
    assert not list(run.glob("*.partial"))


@given(
    levels=st.lists(
        st.lists(st.integers(0, 2**BITS - 1), max_size=3, unique=True).flatmap(
            lambda few: st.lists(st.sampled_from(few), max_size=60) if few else st.just([])
        ),
        min_size=1,
        max_size=4,
    ),
    times=st.sampled_from([1, 2**30]),
)
def test_a_level_is_hollow_with_few_examples_or_one_pattern(
    levels: list[list[int]], times: int
) -> None:
    """Also among so many examples that products of sums would be rounded."""
    bits = [[sum(word >> bit & 1 for word in words) for bit in range(BITS)] for words in levels]
    left = Left(
        times * np.array([len(words) for words in levels], dtype=float),
        times * np.array(bits, dtype=float).reshape(-1, BITS),
    )
    hollow = [words and (len(words) * times < 20 or len(set(words)) == 1) for words in levels]
    assert left.hollow == any(hollow)
