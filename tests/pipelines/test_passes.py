"""Solving by passes over annotations: the same optimum as from patterns, without the patterns."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from m4.catalogue import Catalogue, load_catalogue
from m4.errors import InputError
from m4.policy import Policy
from m4.problem import Problem
from m4.solving import dual_of
from pipelines import passes
from pipelines.beam import BeamSettings
from pipelines.counting import read_patterns
from pipelines.passes import draw_sample, shard_look, sum_over_shards
from pipelines.record import read_run
from pipelines.settings import CountSettings, SolveSettings, VerifyPolicySettings
from pipelines.stages import count, solve, verify_policy
from pipelines.tables import Commit, annotation_schema, committed, write_table
from pipelines.totals import add_up

CATALOGUE = """
name: passes
purpose: tests of passes
sensitive:
  gender:
    describes: gender as perceived
    values:
      woman: {target: 0.5, terms: [woman]}
      man: {target: 0.5, terms: [man]}
labels:
  nurse: {terms: [nurse]}
  chef: {terms: [chef]}
  pilot: {terms: [pilot]}
tolerances: {representation: 0.01, association: 0.01}
"""
ROWS, SHARDS = 6_000, 4


def write_annotations(folder: Path, catalogue: Catalogue, table: pa.Table, shards: int) -> None:
    for shard in range(shards):
        part = table.take(np.arange(shard, len(table), shards))
        commit = Commit(
            shard=f"{shard}.tar", size=1, modified=1.0, settings="drawn", rows=len(part)
        )
        write_table(str(folder / "annotations"), f"{shard:05d}", part, commit)


def leaning(catalogue: Catalogue) -> pa.Table:
    """Six in ten show nobody; nurses are women, pilots men, and utilities vary."""
    draw = np.random.default_rng(0)
    person, woman = draw.random(ROWS) < 0.4, draw.random(ROWS) < 0.4
    rate = np.where(woman[:, None], [0.2, 0.05, 0.03], [0.04, 0.08, 0.12])
    labels = [np.flatnonzero(draw.random(3) < each).tolist() for each in rate]
    names = [f"{i:06d}" for i in range(ROWS)]
    return pa.Table.from_arrays(
        [
            pa.array(names),
            pa.array(names),
            pa.array(np.zeros(ROWS, np.int64)),
            pa.array(np.zeros(ROWS, np.int64)),
            pa.nulls(ROWS, pa.string()),
            pa.array(person.astype(np.float32)),
            pa.array(woman.astype(np.float32), mask=~person),
            pa.array((~woman).astype(np.float32), mask=~person),
            pa.nulls(ROWS, pa.string()),
            pa.nulls(ROWS, pa.string()),
            pa.array(labels, pa.list_(pa.int32())),
            pa.array([[] for _ in range(ROWS)], pa.list_(pa.string())),
            pa.array(draw.choice([0.5, 0.8, 1.0], ROWS).astype(np.float32)),
            pa.nulls(ROWS, pa.binary(16)),
        ],
        schema=annotation_schema(catalogue),
    )


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with annotations and patterns. Not to be changed but for its policy."""
    folder = tmp_path_factory.mktemp("passes")
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    catalogue = load_catalogue(folder / "catalogue.yaml")
    write_annotations(folder, catalogue, leaning(catalogue), SHARDS)
    count(CountSettings(**where(folder)))
    return folder


@pytest.fixture(scope="module")
def leaned(drawn: Path) -> Catalogue:
    return load_catalogue(drawn / "catalogue.yaml")


def where(folder: Path) -> dict[str, Any]:
    return {"run": str(folder), "catalogue": str(folder / "catalogue.yaml")}


def stems(folder: Path) -> tuple[str, ...]:
    return tuple(stem for stem, _ in committed(str(folder / "annotations")))


def test_passes_find_the_optimum_of_the_patterns(drawn: Path) -> None:
    wanted = solve(SolveSettings(**where(drawn), eta=0.7))
    seen: list[tuple[int, int]] = []
    found = solve(
        SolveSettings(**where(drawn), eta=0.7, method="passes", sample=1_500),
        progress=lambda done, most: seen.append((done, most)),
    )
    assert found.certificate.primal == pytest.approx(wanted.certificate.primal, rel=1e-6)
    assert found.certificate.relative_gap < 1e-6
    assert found.certificate.rate_error < 1e-11
    assert found.policy.method == "passes"
    assert found.policy.examples == ROWS
    assert seen and all(most == 20 for _, most in seen)
    assert Policy.load(drawn / "policy.json") == found.policy
    record = read_run(str(drawn))["solve"]
    assert (record.rows_in, record.kept) == (ROWS, ROWS)
    assert verify_policy(VerifyPolicySettings(**where(drawn))).holds
    assert not list(drawn.glob("*.partial")), "sums and samples are removed"


def test_any_number_of_workers_gives_the_same_sums(drawn: Path, leaned: Catalogue) -> None:
    problem = Problem.of(leaned, eta=0.7)
    duals = np.random.default_rng(2).normal(size=len(problem.layout.eps)) * 0.3
    annotations = str(drawn / "annotations")
    sums = [
        sum_over_shards(
            lambda stem: shard_look(annotations, stem, leaned, problem, duals, 0.1),
            stems(drawn),
            str(drawn),
            BeamSettings(processes=processes),
        )
        for processes in (1, 2)
    ]
    assert np.array_equal(sums[0], sums[1])


def test_a_look_is_that_of_all_rows(drawn: Path, leaned: Catalogue) -> None:
    problem = Problem.of(leaned, eta=0.7)
    dual = dual_of(problem, read_patterns(str(drawn / "patterns.parquet"), leaned))
    duals = np.random.default_rng(1).normal(size=dual.size) * 0.3
    sums = add_up(
        shard_look(str(drawn / "annotations"), stem, leaned, problem, duals, 0.05)
        for stem in stems(drawn)
    ).numbers()
    wanted = dual.look(duals, 0.05)
    expected = np.concatenate(
        [
            wanted.moment,
            wanted.mass,
            dual.diagonal(duals, 0.05),
            [wanted.rate, wanted.squares, wanted.preferred, wanted.raised],
            [dual.preferred_squares, 1.0],
        ]
    )
    assert sums[-1] == ROWS
    np.testing.assert_allclose(sums / ROWS, expected, rtol=1e-12, atol=1e-15)


def test_the_sample_does_not_depend_on_the_shards(
    drawn: Path, leaned: Catalogue, tmp_path: Path
) -> None:
    write_annotations(tmp_path, leaned, leaning(leaned), 1)
    samples = [
        draw_sample(
            leaned, str(run / "annotations"), stems(run), str(tmp_path), BeamSettings(), 900
        )
        for run in (drawn, tmp_path)
    ]
    assert 800 < samples[0].examples < 1_000
    for name in ("s", "observed", "utility", "counts"):
        assert np.array_equal(getattr(samples[0], name), getattr(samples[1], name))


def test_too_few_passes_are_told(drawn: Path) -> None:
    asked = SolveSettings(**where(drawn), eta=0.7, method="passes", sample=300, passes=1)
    with pytest.raises(InputError, match="allow more passes or a larger sample"):
        solve(asked)


def test_infeasible_tolerances_are_told(drawn: Path, tmp_path: Path, leaned: Catalogue) -> None:
    """Where every pilot is a man, nothing short of dropping all pilots helps."""
    asked = SolveSettings(**where(drawn), eta=0.999, method="passes", sample=6_000, passes=60)
    with pytest.raises(InputError, match=r"the tolerances cannot be met at rate 0\.999"):
        solve(asked)


def test_annotations_that_are_missing_are_told(tmp_path: Path) -> None:
    (tmp_path / "catalogue.yaml").write_text(CATALOGUE)
    with pytest.raises(InputError, match="no committed tables"):
        solve(SolveSettings(**where(tmp_path), method="passes"))


@pytest.mark.parametrize(
    "options",
    [
        {"sample": 10},
        {"beam": BeamSettings(processes=2)},
        {"method": "passes", "min_ess": 0.5},
        {"method": "passes", "target_deff": 2.0},
        {"method": "passes", "solver": "OSQP"},
        {"method": "passes", "seed": 1},
    ],
)
def test_options_without_effect_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="has no effect with method"):
        SolveSettings(run="r", catalogue="c", **options)


def test_a_failed_pass_leaves_nothing(
    drawn: Path, leaned: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise InputError("the shard is gone")

    monkeypatch.setattr(passes, "shard_look", fail)
    with pytest.raises(Exception, match="the shard is gone"):
        solve(SolveSettings(**where(drawn), eta=0.7, method="passes"))
    assert not list(drawn.glob("*.partial"))
