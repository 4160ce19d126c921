"""Drift of a run's annotations: one pass says the same as the whole data in memory."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from m4.catalogue import Catalogue
from m4.drift import drift_of
from m4.errors import InputError
from m4.policy import Policy
from m4.totals import measure
from pipelines.beam import BeamSettings
from pipelines.drifting import DriftSettings, drift
from pipelines.settings import CountSettings, SolveSettings
from pipelines.stages import count, solve
from pipelines.tables import (
    Commit,
    annotation_schema,
    committed,
    read_table,
    to_patterns,
    write_table,
)

SHARDS = 3
WOMEN = (0.8, 0.3, 0.3, 0.5)  # among nurses, chefs, police officers, and in kitchens


def annotate_by_hand(
    run: Path, catalogue: Catalogue, *, seed: int, women: tuple[float, ...] = WOMEN
) -> Path:
    """Annotations of 3 shards of 2,000 examples each: one label for each, people of all ages."""
    for shard in range(SHARDS):
        generator = np.random.default_rng([seed, shard])
        rows = [row(f"{seed}-{shard}-{i}", generator, women) for i in range(2000)]
        table = pa.Table.from_pylist(rows, annotation_schema(catalogue))
        commit = Commit(shard=f"{shard}.tar", size=1, modified=1.0, settings="drawn", rows=2000)
        write_table(str(run / "annotations"), f"{seed}-{shard:05d}", table, commit)
    return run


def row(name: str, generator: np.random.Generator, women: tuple[float, ...]) -> dict[str, Any]:
    label = int(generator.integers(len(women)))
    woman = float(generator.random() < women[label])
    unknown = generator.random() < 0.2
    return {
        "uid": name,
        "key": name,
        "offset": 0,
        "length": 0,
        "gender.woman": None if unknown else woman,
        "gender.man": None if unknown else 1.0 - woman,
        "age.child": generator.choice([0.0, 0.25, 1.0], p=[0.6, 0.2, 0.2]),
        "labels": [label],
        "label_sources": ["by hand"],
        "utility": 1.0,
    }


@pytest.fixture(scope="module")
def old(
    catalogue: Catalogue, catalogue_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A solved run. Not changed."""
    run = annotate_by_hand(tmp_path_factory.mktemp("old"), catalogue, seed=1)
    here = {"run": str(run), "catalogue": str(catalogue_path)}
    count(CountSettings(**here))
    solve(SolveSettings(**here, eta=0.6))
    return run


@pytest.fixture(scope="module")
def policy(old: Path) -> Policy:
    return Policy.load(old / "policy.json")


@pytest.fixture(scope="module")
def like_it(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New annotations from the same source. Not changed."""
    return annotate_by_hand(tmp_path_factory.mktemp("new"), catalogue, seed=2)


@pytest.fixture
def new(like_it: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(like_it, tmp_path / "new"))


@pytest.fixture(scope="module")
def asked(old: Path, catalogue_path: Path) -> Callable[..., DriftSettings]:
    """Settings that ask for the drift of a run from the old policy."""

    def settings(run: Path | str, **changes: Any) -> DriftSettings:
        given = {
            "run": str(run),
            "catalogue": str(catalogue_path),
            "policy": str(old / "policy.json"),
            **changes,
        }
        return DriftSettings.model_validate(given)

    return settings


Asked = Callable[..., DriftSettings]


def contents(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def test_on_its_own_annotations_a_policy_holds(old: Path, asked: Asked) -> None:
    found = drift(asked(old))
    assert (found.verdict, found.exceeded, found.examples) == ("holds", (), 6000.0)
    assert found.effective_share == pytest.approx(found.stated_effective_share)


def test_new_shards_from_the_same_source_are_within_noise(like_it: Path, asked: Asked) -> None:
    told: list[tuple[int, int]] = []
    found = drift(asked(like_it), progress=lambda *counts: told.append(counts))
    assert found.verdict == "within noise" and told == [(SHARDS, SHARDS)]
    assert found.solved_on == 6000 and not found.unseen


def test_a_share_that_moved_is_found_by_name(
    catalogue: Catalogue, tmp_path: Path, asked: Asked
) -> None:
    run = annotate_by_hand(tmp_path, catalogue, seed=3, women=(0.8, 0.9, 0.3, 0.5))
    found = drift(asked(run))
    assert found.verdict == "solve again"
    names = {each.name for each in found.drifted}
    assert "gender.woman & chef" in names and "gender.woman & nurse" not in names
    assert drift(asked(run, margin=0.9)).verdict != "solve again"


def test_the_same_as_with_all_examples_in_memory(
    like_it: Path, catalogue: Catalogue, policy: Policy, asked: Asked
) -> None:
    folder = str(like_it / "annotations")
    tables = [read_table(folder, stem) for stem, _ in committed(folder)]
    examples = to_patterns(pa.concat_tables(tables), catalogue)
    plain = measure(policy.problem, examples)
    weighted = measure(policy.problem, examples, policy.weights(examples))
    wanted = drift_of(policy, plain, weighted).model_dump()
    found = drift(asked(like_it)).model_dump()
    assert found["rate"] == pytest.approx(wanted["rate"])
    for one, other in zip(found["constraints"], wanted["constraints"], strict=True):
        assert one == pytest.approx(other)
    assert found["gain"] == pytest.approx(wanted["gain"])


def test_any_number_of_workers_gives_the_same_bytes(like_it: Path, asked: Asked) -> None:
    one, two = (
        drift(asked(like_it, beam=BeamSettings(processes=processes))) for processes in (1, 2)
    )
    assert one.model_dump_json().encode() == two.model_dump_json().encode()


def test_shards_may_be_added_to_the_old_ones(
    old: Path, catalogue: Catalogue, tmp_path: Path, asked: Asked
) -> None:
    run = Path(shutil.copytree(old, tmp_path / "both"))
    annotate_by_hand(run, catalogue, seed=2)
    found = drift(asked(run))
    assert found.examples == 12_000 and found.verdict == "within noise"


def test_the_run_is_left_as_it_was(new: Path, asked: Asked, shelf: Callable[[Path], str]) -> None:
    before = contents(new)
    found = drift(asked(new))
    assert drift(asked(shelf(new))) == found
    assert contents(new) == before


def test_a_label_that_does_not_occur_is_listed(new: Path, asked: Asked) -> None:
    folder = str(new / "annotations")
    for stem, commit in list(committed(folder)):
        rows = [each for each in read_table(folder, stem).to_pylist() if each["labels"] != [1]]
        table = pa.Table.from_pylist(rows, read_table(folder, stem, None).schema)
        write_table(folder, stem, table, commit.model_copy(update={"rows": len(rows)}))
    found = drift(asked(new))
    assert found.unseen == ("gender.woman & chef", "gender.man & chef", "age.child & chef")


# What cannot be compared.


def test_another_catalogue_is_refused(
    new: Path, other_catalogue_path: Path, asked: Asked, policy: Policy, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"policy\.json: made with catalogue"):
        drift(asked(new, catalogue=str(other_catalogue_path)))
    other = Catalogue.model_validate({**load(other_catalogue_path), "purpose": "another"})
    path = tmp_path / "forged.json"
    path.write_text(policy.model_copy(update={"catalogue": other.digest}).to_json())
    other.save(tmp_path / "third.yaml")
    with pytest.raises(InputError, match=r"00000\.parquet: made with catalogue"):
        drift(asked(new, catalogue=str(tmp_path / "third.yaml"), policy=str(path)))


def load(path: Path) -> dict[str, Any]:
    from m4.catalogue import load_catalogue

    return load_catalogue(path).model_dump()


def test_what_is_missing_is_named(new: Path, asked: Asked, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: no such policy"):
        drift(asked(new, policy=str(tmp_path / "none.json")))
    folder = str(new / "annotations")
    for stem, commit in list(committed(folder)):
        empty = read_table(folder, stem)[:0]
        write_table(folder, stem, empty, commit.model_copy(update={"rows": 0}))
    with pytest.raises(InputError, match="no annotated samples to check a policy on"):
        drift(asked(new))
    shutil.rmtree(new / "annotations")
    with pytest.raises(InputError, match="annotations: no committed tables"):
        drift(asked(new))


def test_a_multiplier_that_is_no_number_is_refused(
    new: Path, asked: Asked, policy: Policy, tmp_path: Path
) -> None:
    path = tmp_path / "policy.json"
    path.write_text(policy.model_copy(update={"rate_dual": float("nan")}).to_json())
    with pytest.raises(InputError, match="the multiplier of the rate is nan"):
        drift(asked(new, policy=str(path)))


@pytest.mark.parametrize("margin", [-0.1, float("inf"), float("nan")])
def test_a_margin_is_a_share(asked: Asked, margin: float) -> None:
    with pytest.raises(ValidationError, match="margin"):
        asked("anywhere", margin=margin)
