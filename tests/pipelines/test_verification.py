"""A policy's claims, found again in the annotations: true ones hold, changed ones do not."""

import itertools
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m4.catalogue import Catalogue, load_catalogue
from m4.certificate import certify
from m4.errors import InputError
from m4.policy import Policy
from m4.problem import Problem
from m4.solving import make_policy
from m4.totals import measure
from pipelines import totals as shard_totals
from pipelines.beam import BeamSettings
from pipelines.settings import CountSettings, SolveSettings, VerifyPolicySettings
from pipelines.stages import count, solve, verify_policy
from pipelines.tables import (
    Commit,
    annotation_schema,
    committed,
    read_commit,
    read_table,
    to_patterns,
    write_table,
)
from pipelines.totals import ExactSums, Measured, add_up, shard_sums
from pipelines.verification import Verification, verify

ATTRIBUTES, LABELS, SHARDS = 4, 48, 5


def many_constraints() -> Catalogue:
    """4 values, 48 labels and 4 intersections: 200 constraints."""
    names = [f"attribute {k}" for k in range(ATTRIBUTES)]
    crossed = list(itertools.combinations(names, 2))[:4]
    return Catalogue.model_validate(
        {
            "name": "many",
            "purpose": "tests",
            "sensitive": {
                name: {
                    "describes": "something perceived",
                    "exclusive": False,
                    "values": {"yes": {"target": 0.5, "terms": ["yes"]}},
                }
                for name in names
            },
            "labels": {f"label {r}": {"terms": [f"label {r}"]} for r in range(LABELS)},
            "tolerances": {"representation": 0.02, "association": 0.01, "intersection": 0.02},
            "intersections": [{"attributes": pair} for pair in crossed],
        }
    )


def annotations_of(catalogue: Catalogue, rows: int, seed: int) -> pa.Table:
    """Annotations drawn at random: probabilities, unknown values, leaning labels, utilities."""
    draw = np.random.default_rng(seed)
    values = len(catalogue.value_names)
    s = draw.integers(0, 5, (rows, values)) / 4 * (draw.random((rows, values)) < 0.9)
    unknown = draw.random((rows, values)) < 0.2
    rate = 0.1 + 0.1 * s @ draw.random((values, LABELS)) / values
    labels = [np.flatnonzero(draw.random(LABELS) < rate[i]).tolist() for i in range(rows)]
    names = [f"{seed}-{i}" for i in range(rows)]
    empty = pa.array([None] * rows, pa.string())
    return pa.Table.from_arrays(
        [
            pa.array(names),
            pa.array(names),
            pa.array(np.zeros(rows, np.int64)),
            pa.array(np.zeros(rows, np.int64)),
            empty,
            pa.nulls(rows, pa.float32()),
            *(pa.array(s[:, k].astype(np.float32), mask=unknown[:, k]) for k in range(values)),
            *(empty for _ in catalogue.sensitive),
            empty,
            pa.array(labels, pa.list_(pa.int32())),
            pa.array([[] for _ in range(rows)], pa.list_(pa.string())),
            pa.array(draw.uniform(0.5, 1.0, rows).astype(np.float32)),
            pa.nulls(rows, pa.binary(16)),
        ],
        schema=annotation_schema(catalogue),
    )


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with annotations of 2,500 examples and a policy of 200 constraints. Not changed."""
    folder = tmp_path_factory.mktemp("solved")
    catalogue = many_constraints()
    catalogue.save(folder / "catalogue.yaml")
    for shard in range(SHARDS):
        table = annotations_of(catalogue, 300 + 100 * shard, shard)
        commit = Commit(
            shard=f"{shard}.tar", size=1, modified=1.0, settings="drawn", rows=len(table)
        )
        write_table(str(folder / "annotations"), f"{shard:05d}", table, commit)
    here: dict[str, Any] = {"run": str(folder), "catalogue": str(folder / "catalogue.yaml")}
    count(CountSettings(**here))
    solve(SolveSettings(**here, eta=0.7, penalty=0.2))
    return folder


@pytest.fixture(scope="module")
def many(solved: Path) -> Catalogue:
    return load_catalogue(solved / "catalogue.yaml")


@pytest.fixture(scope="module")
def policy(solved: Path) -> Policy:
    return Policy.load(solved / "policy.json")


@pytest.fixture
def copy(solved: Path, tmp_path: Path) -> Path:
    """The run, to be changed."""
    return Path(shutil.copytree(solved, tmp_path / "copy"))


def settings(run: Path, **changes: Any) -> VerifyPolicySettings:
    return VerifyPolicySettings(run=str(run), catalogue=str(run / "catalogue.yaml"), **changes)


def sums_of(folder: str, stem: str, catalogue: Catalogue, policy: Policy) -> ExactSums:
    duals, rate_dual = policy.dual_vector(), policy.rate_dual
    return shard_sums(folder, stem, catalogue, policy.problem, duals, rate_dual)


def measured(run: Path, catalogue: Catalogue, policy: Policy) -> Measured:
    folder = str(run / "annotations")
    stems = [stem for stem, _ in committed(folder)]
    sums = add_up(sums_of(folder, stem, catalogue, policy) for stem in stems)
    return Measured.of(sums.numbers(), policy.problem)


@pytest.fixture(scope="module")
def evidence(solved: Path, many: Catalogue, policy: Policy) -> Measured:
    return measured(solved, many, policy)


def broken(verification: Verification) -> set[str]:
    """Names of the claims that do not agree."""
    return {claim.name for claim in verification.claims if not claim.agrees}


# The stage.


def test_a_policys_claims_hold_on_its_own_annotations(solved: Path, policy: Policy) -> None:
    told: list[tuple[int, int]] = []
    found = verify_policy(settings(solved), progress=lambda *counts: told.append(counts))
    assert found.holds and not found.faults and told[-1] == (SHARDS, SHARDS)
    assert (found.examples, found.shards, found.catalogue) == (2500, SHARDS, policy.catalogue)
    assert len(policy.problem.constraints()) == 200 and len(policy.duals) > 100
    stated = {claim.name: claim.stated for claim in found.claims}
    assert stated == {
        **policy.certificate.model_dump(),
        "representation_bias before": policy.before.representation_bias,
        "association_bias before": policy.before.association_bias,
        "representation_bias after": policy.after.representation_bias,
        "association_bias after": policy.after.association_bias,
        "effective_sample_size": policy.effective_sample_size,
        "examples": policy.examples,
    }
    for claim in found.claims:  # far closer than is asked for
        assert abs(claim.stated - claim.recomputed) <= 0.01 * claim.allowed, claim


def test_any_number_of_workers_gives_the_same_bytes(solved: Path) -> None:
    one, two = (
        verify_policy(settings(solved, beam=BeamSettings(processes=processes)))
        for processes in (1, 2)
    )
    assert one.model_dump_json().encode() == two.model_dump_json().encode()


def contents(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_the_run_is_left_as_it_was(copy: Path) -> None:
    before = contents(copy)
    verify_policy(settings(copy))
    assert contents(copy) == before
    path = copy / "annotations" / "00002.parquet"
    table = pq.read_table(path)
    wrong = pa.array(np.full(len(table), 2.0, np.float32))
    place = table.schema.get_field_index("utility")
    pq.write_table(table.set_column(place, table.schema.field("utility"), wrong), path)
    before = contents(copy)
    with pytest.raises(Exception, match=r"00002\.parquet: utility holds 2\.0"):
        verify_policy(settings(copy))
    assert contents(copy) == before


def test_another_policy_may_be_given(copy: Path, policy: Policy, tmp_path: Path) -> None:
    (copy / "policy.json").unlink()
    path = tmp_path / "elsewhere.json"
    path.write_text(policy.to_json())
    assert verify_policy(settings(copy, policy=str(path))).holds


def test_a_run_on_remote_storage(
    copy: Path, policy: Policy, tmp_path: Path, shelf: Callable[[Path], str]
) -> None:
    path = tmp_path / "policy.json"
    path.write_text(policy.to_json())
    before = contents(copy)
    found = verify_policy(settings(copy, policy=str(path)).model_copy(update={"run": shelf(copy)}))
    assert found == verify_policy(settings(copy)) and found.holds
    assert contents(copy) == before


# What cannot be verified.


def test_another_catalogue_is_refused(copy: Path, many: Catalogue) -> None:
    text = (copy / "catalogue.yaml").read_text()
    (copy / "catalogue.yaml").write_text(text.replace("target: 0.5", "target: 0.4", 1))
    with pytest.raises(InputError, match=r"policy\.json: made with catalogue"):
        verify_policy(settings(copy))


def test_annotations_of_another_catalogue_are_refused(copy: Path, policy: Policy) -> None:
    text = (copy / "catalogue.yaml").read_text()
    (copy / "catalogue.yaml").write_text(text.replace("target: 0.5", "target: 0.4", 1))
    other = load_catalogue(copy / "catalogue.yaml")
    forged = policy.model_copy(update={"catalogue": other.digest})
    (copy / "policy.json").write_text(forged.to_json())
    with pytest.raises(InputError, match=r"00000\.parquet: made with catalogue"):
        verify_policy(settings(copy))


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("annotations", "no committed tables"),
        ("annotations/00001.parquet", r"00001\.parquet: cannot be read"),
        ("policy.json", r"policy\.json: no such policy"),
        ("catalogue.yaml", r"catalogue\.yaml: no such file"),
    ],
)
def test_what_is_missing_is_named(copy: Path, gone: str, message: str) -> None:
    path = copy / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=message):
        verify_policy(settings(copy))


def test_tables_without_a_sample_are_refused(copy: Path, many: Catalogue) -> None:
    folder = str(copy / "annotations")
    for stem, commit in list(committed(folder)):
        empty = read_table(folder, stem)[:0]
        write_table(folder, stem, empty, commit.model_copy(update={"rows": 0}))
    with pytest.raises(InputError, match="no annotated samples"):
        verify_policy(settings(copy))


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("which", ["rate_dual", "duals"])
def test_multipliers_that_are_no_numbers_are_refused(
    copy: Path, policy: Policy, which: str, number: float
) -> None:
    first = next(iter(policy.duals))
    change = number if which == "rate_dual" else {**policy.duals, first: number}
    (copy / "policy.json").write_text(policy.model_copy(update={which: change}).to_json())
    with pytest.raises(InputError, match=r"policy\.json: the multiplier of .* is (nan|inf)"):
        verify_policy(settings(copy))


def test_an_empty_shard_among_others_is_no_obstacle(copy: Path) -> None:
    folder = str(copy / "annotations")
    commit = read_commit(folder, "00000")
    assert commit is not None
    empty = read_table(folder, "00000")[:0]
    write_table(folder, "empty", empty, commit.model_copy(update={"rows": 0}))
    assert verify_policy(settings(copy)).holds


# Tampering.


def test_what_is_verified_is_all_that_is_stated(policy: Policy, evidence: Measured) -> None:
    """A field that a policy gains must be verified, or be added here with a reason."""
    verified = {"certificate", "before", "after", "effective_sample_size", "examples"}
    inputs = {"problem", "duals", "rate_dual", "catalogue"}  # what it is verified with
    about_the_solver = {"method", "versions"}  # nothing that annotations could tell
    assert set(Policy.model_fields) == verified | inputs | about_the_solver


FIGURES = [
    *(("certificate", name) for name in ("primal", "dual", "gap", "max_violation", "price")),
    ("certificate", "rate_error"),
    *itertools.product(("before", "after"), ("representation_bias", "association_bias")),
    (None, "effective_sample_size"),
    (None, "examples"),
]


@pytest.mark.parametrize(("part", "name"), FIGURES)
@pytest.mark.parametrize("change", [1e-6, -1e-6, math.nan])
def test_every_changed_figure_is_found(
    many: Catalogue,
    policy: Policy,
    evidence: Measured,
    part: str | None,
    name: str,
    change: float,
) -> None:
    owner = policy if part is None else getattr(policy, part)
    number = getattr(owner, name)
    changed = owner.model_copy(update={name: number + change * max(1.0, abs(number))})
    forged = changed if part is None else policy.model_copy(update={part: changed})
    found = verify(forged, many, evidence, SHARDS)
    claim = name if part in (None, "certificate") else f"{name} {part}"
    assert broken(found) == {claim} and not found.holds


@pytest.mark.parametrize("position", [0, 30, 90])
@pytest.mark.parametrize("factor", [0.0, 0.999, -1.0])
def test_changed_multipliers_are_found(
    solved: Path, many: Catalogue, policy: Policy, position: int, factor: float
) -> None:
    name = sorted(policy.duals)[position]
    duals = {**policy.duals, name: factor * policy.duals[name]}
    forged = policy.model_copy(update={"duals": duals})
    found = verify(forged, many, measured(solved, many, forged), SHARDS)
    assert {"primal", "effective_sample_size", "rate_error"} <= broken(found)
    assert "representation_bias before" not in broken(found)


def forge(
    policy: Policy, run: Path, catalogue: Catalogue, **changes: Any
) -> tuple[Policy, Measured]:
    """A changed policy whose figures are all true of its own weights."""
    changed = policy.model_copy(update=changes)
    found = measured(run, catalogue, changed)
    forged = make_policy(
        changed.problem,
        changed.dual_vector(),
        changed.rate_dual,
        found.plain,
        found.weighted,
        method="by hand",
        catalogue=catalogue.digest,
    )
    return forged, found


def test_a_rate_that_is_missed_is_a_fault_even_if_it_is_admitted(
    solved: Path, many: Catalogue, policy: Policy
) -> None:
    forged, found = forge(policy, solved, many, rate_dual=policy.rate_dual + 0.05)
    verification = verify(forged, many, found, SHARDS)
    assert not broken(verification) and not verification.holds
    assert "no upper bound" in verification.faults[0] and "rate 0.7" in verification.faults[0]
    assert forged.certificate.rate_error > 0.01


def test_a_multiplier_above_the_penalty_is_a_fault(
    solved: Path, many: Catalogue, policy: Policy
) -> None:
    """Above the penalty the dual value is no bound, however true it is of its own weights."""
    cheap = remade(policy.problem, penalty=0.01)
    forged, found = forge(policy, solved, many, problem=cheap)
    assert forged.certificate.gap < 0  # absurd, and yet what the formulas give
    verification = verify(forged, many, found, SHARDS)
    assert not broken(verification) and not verification.holds
    assert "above the penalty 0.01" in verification.faults[0]


def remade(problem: Problem, **changes: Any) -> Problem:
    """A problem with other settings; `model_copy` would keep the old one's layout."""
    return Problem.model_validate({**problem.model_dump(), **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("targets", (0.4, 0.5, 0.5, 0.5)),
        ("left_out", (("attribute 0.yes", "label 3"),)),
        ("intersections", ()),
        ("tolerance", "absolute"),
    ],
)
def test_a_problem_that_is_not_the_catalogues_is_a_fault(
    solved: Path, many: Catalogue, policy: Policy, field: str, value: Any
) -> None:
    problem = remade(policy.problem, **{field: value})
    known = {str(name) for name in problem.constraints()}
    duals = {name: dual for name, dual in policy.duals.items() if name in known}
    forged, found = forge(policy, solved, many, problem=problem, duals=duals)
    verification = verify(forged, many, found, SHARDS)
    assert any(f"`{field}`" in fault for fault in verification.faults)


def test_other_tolerances_are_no_fault(solved: Path, many: Catalogue, policy: Policy) -> None:
    """Of a policy that was chosen from a curve, say; it states them."""
    from m4.certificate import repair_rate

    problem = remade(policy.problem, eps_d=0.2, eps_r=0.04)
    tables = [read_table(str(solved / "annotations"), f"{i:05d}") for i in range(SHARDS)]
    patterns = to_patterns(pa.concat_tables(tables), many)
    rate_dual = repair_rate(problem, policy.dual_vector(), patterns)
    forged, found = forge(policy, solved, many, problem=problem, rate_dual=rate_dual)
    verification = verify(forged, many, found, SHARDS)
    assert verification.holds, verification.faults
    # Tolerances that are only claimed, though, are found: they are part of every weight.
    claimed = policy.model_copy(update={"problem": problem})
    assert {"primal", "dual"} <= broken(
        verify(claimed, many, measured(solved, many, claimed), SHARDS)
    )


def change_labels(table: pa.Table) -> pa.Table:
    labels = table["labels"].to_pylist()
    labels[0] = [r for r in range(LABELS) if r not in labels[0]]
    return replace(table, "labels", pa.array(labels, pa.list_(pa.int32())))


def change_a_value(table: pa.Table) -> pa.Table:
    column = table["attribute 1.yes"].to_pylist()
    known = next(i for i, number in enumerate(column) if number is not None)
    column[known] = 1.0 - 0.5 * column[known]
    return replace(table, "attribute 1.yes", pa.array(column, pa.float32()))


def forget_a_value(table: pa.Table) -> pa.Table:
    column = table["attribute 1.yes"].to_pylist()
    known = next(i for i, number in enumerate(column) if number is not None)
    column[known] = None
    return replace(table, "attribute 1.yes", pa.array(column, pa.float32()))


def change_a_utility(table: pa.Table) -> pa.Table:
    column = table["utility"].to_pylist()
    column[3] = 0.0
    return replace(table, "utility", pa.array(column, pa.float32()))


def replace(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), column)


CHANGES: list[Callable[[pa.Table], pa.Table]] = [
    change_labels,
    change_a_value,
    forget_a_value,
    change_a_utility,
    lambda table: table[1:],
    lambda table: pa.concat_tables([table, table[:1]]),
]


@pytest.mark.parametrize("change", CHANGES)
def test_one_changed_annotation_is_found(
    copy: Path, many: Catalogue, policy: Policy, change: Callable[[pa.Table], pa.Table]
) -> None:
    path = copy / "annotations" / "00003.parquet"
    pq.write_table(change(pq.read_table(path)), path)
    found = verify(policy, many, measured(copy, many, policy), SHARDS)
    assert "effective_sample_size" in broken(found) or "primal" in broken(found)
    assert not found.holds


def test_a_shard_that_is_gone_is_found(copy: Path) -> None:
    for name in ("00004.json", "00004.parquet"):
        (copy / "annotations" / name).unlink()
    found = verify_policy(settings(copy))
    assert not found.holds and "examples" in broken(found)
    assert found.examples == 2500 - 700


def test_the_order_of_rows_and_shards_is_no_change(
    copy: Path, many: Catalogue, policy: Policy
) -> None:
    folder = copy / "annotations"
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.take(np.arange(len(table))[::-1].copy()), path)
    for kind in ("parquet", "json"):
        (folder / f"00000.{kind}").rename(folder / f"99999.{kind}")
    assert verify(policy, many, measured(copy, many, policy), SHARDS).holds


def test_shards_add_up_to_the_whole(
    solved: Path, many: Catalogue, policy: Policy, evidence: Measured
) -> None:
    tables = [read_table(str(solved / "annotations"), f"{i:05d}") for i in range(SHARDS)]
    patterns = to_patterns(pa.concat_tables(tables), many)
    for found, weights in ((evidence.plain, None), (evidence.weighted, policy.weights(patterns))):
        whole = measure(policy.problem, patterns, weights)
        assert np.allclose(found.held, whole.held, rtol=1e-13, atol=1e-15)
        assert np.allclose(found.known, whole.known, rtol=1e-13, atol=1e-15)
        assert found.squares == pytest.approx(whole.squares, rel=1e-13)
    again = certify(policy.problem, policy.dual_vector(), policy.rate_dual, evidence.weighted)
    assert again.relative_gap < 1e-6


def test_a_shard_is_read_without_what_names_its_samples(
    solved: Path, many: Catalogue, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only columns that weights depend on, one table at a time."""
    asked: list[list[str] | None] = []

    def watched(folder: str, stem: str, columns: list[str] | None = None) -> pa.Table:
        asked.append(columns)
        return read_table(folder, stem, columns)

    monkeypatch.setattr(shard_totals, "read_table", watched)
    sums_of(str(solved / "annotations"), "00000", many, policy)
    assert asked == [[*many.value_names, "labels", "utility"]]
