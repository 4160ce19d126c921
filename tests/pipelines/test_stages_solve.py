"""The solve stage: from patterns to a policy that can be read back."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from m4.catalogue import Catalogue
from m4.errors import InfeasibleError, InputError
from m4.policy import Policy
from pipelines.counting import read_patterns
from pipelines.record import read_run
from pipelines.settings import CountSettings, SolveSettings
from pipelines.stages import count, solve


@pytest.fixture(scope="module")
def counted(
    annotated: Path, catalogue_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run directory with patterns."""
    folder = tmp_path_factory.mktemp("counted")
    (folder / "annotations").symlink_to(annotated / "annotations")
    count(CountSettings(run=str(folder), catalogue=str(catalogue_path)))
    return folder


@pytest.fixture
def settings(counted: Path, catalogue_path: Path) -> SolveSettings:
    return SolveSettings(run=str(counted), catalogue=str(catalogue_path), eta=0.6)


@pytest.mark.parametrize("method", ["auto", "streaming"])
def test_the_policy_on_disk_gives_the_solutions_weights(
    counted: Path, settings: SolveSettings, catalogue: Catalogue, method: str
) -> None:
    penalty = 1.0 if method == "streaming" else None
    solution = solve(settings.model_copy(update={"method": method, "penalty": penalty}))
    policy = Policy.load(counted / "policy.json")
    assert policy == solution.policy
    assert policy.catalogue == catalogue.digest
    assert policy.examples == 240
    patterns = read_patterns(str(counted / "patterns.parquet"), catalogue)
    weights = policy.weights(patterns)
    assert np.allclose(weights, solution.weights, atol=1e-12)
    assert patterns.share @ weights == pytest.approx(0.6)


def test_the_policy_meets_the_catalogues_tolerances(settings: SolveSettings) -> None:
    solution = solve(settings)
    assert not solution.before.all_within
    assert solution.after.all_within
    assert solution.policy.problem.eps_d == 0.15
    assert solution.certificate.relative_gap < 1e-6


def test_the_stage_is_recorded(counted: Path, settings: SolveSettings) -> None:
    solve(settings)
    record = read_run(str(counted))["solve"]
    assert (record.rows_in, record.kept, record.failed) == (240, 240, 0)
    assert record.settings["eta"] == 0.6
    assert set(read_run(str(counted))) >= {"count", "solve"}


def test_the_record_fingerprints_the_patterns(
    counted: Path, settings: SolveSettings, tmp_path: Path
) -> None:
    solve(settings)
    first = read_run(str(counted))["solve"].inputs
    solve(settings.model_copy(update={"eta": 0.5}))
    assert read_run(str(counted))["solve"].inputs == first
    # The same counts, but not the same patterns.
    table = pq.read_table(counted / "patterns.parquet")
    women, men = (table.schema.get_field_index(f"gender.{each}") for each in ("woman", "man"))
    swapped = table.set_column(women, "gender.woman", table["gender.man"])
    swapped = swapped.set_column(men, "gender.man", table["gender.woman"])
    pq.write_table(swapped, tmp_path / "patterns.parquet")
    solve(settings.model_copy(update={"run": str(tmp_path)}))
    assert read_run(str(tmp_path))["solve"].inputs != first


def test_tolerances_that_cannot_be_met_are_an_error(
    settings: SolveSettings, tmp_path: Path, counted: Path
) -> None:
    (tmp_path / "patterns.parquet").write_bytes((counted / "patterns.parquet").read_bytes())
    with pytest.raises(InfeasibleError) as error:
        solve(settings.model_copy(update={"eta": 0.98, "run": str(tmp_path)}))
    assert error.value.conflicts
    assert 0 < error.value.largest_rate < 0.98
    assert not (tmp_path / "policy.json").exists()
    assert read_run(str(tmp_path)) == {}
    soft = solve(settings.model_copy(update={"eta": 0.98, "penalty": 1.0, "run": str(tmp_path)}))
    assert soft.certificate.max_violation > 0


def test_a_rate_above_the_cap_is_refused(settings: SolveSettings) -> None:
    with pytest.raises(InputError, match=r"rate eta 1\.5 is above the cap 1"):
        solve(settings.model_copy(update={"eta": 1.5}))


def test_patterns_of_another_catalogue_are_refused(
    settings: SolveSettings, other_catalogue_path: Path
) -> None:
    with pytest.raises(InputError, match=r"patterns\.parquet: made with catalogue"):
        solve(settings.model_copy(update={"catalogue": str(other_catalogue_path)}))


def test_missing_patterns_are_refused(settings: SolveSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run count first"):
        solve(settings.model_copy(update={"run": str(tmp_path)}))
