"""What a manifest makes of the data: each figure found again, and none measured twice."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m4.bias import bias_table
from m4.catalogue import Catalogue
from m4.patterns import Patterns
from m4.policy import Policy
from m4.realised import Realised, realised_totals
from m4.totals import measure
from pipelines.balance import Balance, ManifestBalance
from pipelines.record import read_run
from pipelines.settings import AnnotateSettings, ApplySettings, CountSettings
from pipelines.stages import annotate, apply, count
from pipelines.tables import read_commit, to_patterns

PLACES = {"abs": 1e-12}


@pytest.fixture
def settings(run: Path, catalogue_path: Path, policy_path: Path) -> ApplySettings:
    return ApplySettings(
        run=str(run), catalogue=str(catalogue_path), policy=str(policy_path), seed=5
    )


@pytest.fixture
def policy(policy_path: Path) -> Policy:
    return Policy.load(policy_path)


def marks(run: Path, catalogue: Catalogue) -> Patterns:
    tables = [pq.read_table(path) for path in sorted((run / "annotations").glob("*.parquet"))]
    return to_patterns(pa.concat_tables(tables), catalogue)


def column(run: Path, name: str) -> np.ndarray:
    paths = sorted((run / "manifest").glob("*.parquet"))
    return np.concatenate([pq.read_table(path)[name].to_numpy() for path in paths])


def close(found: Balance | None, patterns: Patterns, policy: Policy, weights: np.ndarray) -> None:
    """Assert a balance is that of these weights, computed from all rows at once."""
    assert found is not None
    bias = bias_table(policy.problem, patterns, weights)
    assert found.bias.representation_bias == pytest.approx(bias.representation_bias, **PLACES)
    assert found.bias.association_bias == pytest.approx(bias.association_bias, **PLACES)
    wanted = Realised.of(policy.problem, measure(policy.problem, patterns, weights))
    for name in ("examples", "copies", "rate_error", "max_violation", "total_violation"):
        assert getattr(found.realised, name) == pytest.approx(getattr(wanted, name), **PLACES)
    assert found.realised.violated == wanted.violated
    assert (found.realised.worst is None) == (wanted.worst is None)  # of equals any may be named


def realised_of(settings: ApplySettings) -> ManifestBalance:
    found = apply(settings).balance
    assert found is not None
    return found


def test_every_stage_is_what_its_weights_make_of_the_data(
    run: Path, settings: ApplySettings, catalogue: Catalogue, policy: Policy, tmp_path: Path
) -> None:
    patterns = marks(run, catalogue)
    count(CountSettings(run=str(run), catalogue=settings.catalogue))
    out = np.arange(240) % 7 == 0
    uids = np.concatenate(
        [
            pq.read_table(path)["uid"].to_numpy(zero_copy_only=False)
            for path in sorted((run / "annotations").glob("*.parquet"))
        ]
    )
    (tmp_path / "uids").write_text("\n".join(uids[out]))
    chosen = {"weights": True, "opt_out_uids": (str(tmp_path / "uids"),)}
    found = realised_of(settings.model_copy(update=chosen))
    weights = policy.weights(patterns)
    close(found.original, patterns, policy, np.ones(240))
    close(found.planned, patterns, policy, weights)
    close(found.after_opt_outs, patterns, policy, np.where(out, 0.0, weights))
    close(found.drawn, patterns, policy, column(run, "copies"))
    written = column(run, "weight")
    assert (written[out] == 0).all() and len(set(written[~out])) <= 32
    close(found.quantised, patterns, policy, written)
    assert found.quantised != found.after_opt_outs
    assert list(found.stages) == [
        *("original", "planned", "after opt-outs", "quantised weights", "drawn")
    ]


def test_a_plain_manifest_has_three_stages(
    run: Path, settings: ApplySettings, catalogue: Catalogue, policy: Policy
) -> None:
    found = realised_of(settings)
    assert list(found.stages) == ["original", "planned", "drawn"]
    assert found.original.bias.association_bias == pytest.approx(policy.before.association_bias)
    assert found.planned.bias.association_bias == pytest.approx(policy.after.association_bias)
    assert found.planned.realised.violated == 0 < found.original.realised.violated
    problem, patterns = policy.problem, marks(run, catalogue)
    drawn = realised_totals(problem, patterns, column(run, "copies"))
    assert found.drawn.realised == Realised.of(problem, drawn)  # to the last bit


def test_what_was_drawn_is_the_same_for_any_sharding(
    settings: ApplySettings,
    tmp_path: Path,
    people: Callable[[int], list[Any]],
    write_shards: Callable[..., Any],
) -> None:
    pairs = people(240)
    random.Random(1).shuffle(pairs)
    write_shards(tmp_path / "shards", pairs, 7)
    other = str(tmp_path / "other")
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=settings.catalogue,
            run=other,
            annotators=("captions", "fields"),
        )
    )
    here, there = realised_of(settings), realised_of(settings.model_copy(update={"run": other}))
    assert there.drawn == here.drawn
    assert there.made_from != here.made_from


def test_what_is_on_record_is_not_measured_again(
    run: Path, settings: ApplySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = realised_of(settings)
    with monkeypatch.context() as patched:
        patched.setattr("pipelines.stages.measure_manifest", None)
        assert realised_of(settings) == found
        (run / "manifest" / "00001.json").unlink()  # what is drawn again is the same
        assert realised_of(settings) == found
        for change in ({"seed": 6}, {"epoch": 1}):
            with pytest.raises(TypeError):
                apply(settings.model_copy(update=change))
    assert realised_of(settings.model_copy(update={"seed": 6})).drawn != found.drawn
    (run / "run.json").unlink()
    assert realised_of(settings) == found
    assert read_run(str(run))["apply manifest"].balance == found


def test_a_shard_that_was_replaced_is_measured_anew(
    settings: ApplySettings,
    tmp_path: Path,
    people: Callable[[int], list[Any]],
    write_shards: Callable[..., Any],
) -> None:
    """As many samples, annotated with the same settings: only the shard's size or time differ."""
    other = str(tmp_path / "other")
    annotating = AnnotateSettings(
        shards=(str(tmp_path / "shards"),),
        catalogue=settings.catalogue,
        run=other,
        annotators=("captions", "fields"),
    )
    there = settings.model_copy(update={"run": other})
    found = []
    for first in (0, 60):
        write_shards(tmp_path / "shards", people(120)[first : first + 60], 1)
        annotate(annotating)
        found.append(realised_of(there))
    assert found[0].made_from != found[1].made_from
    assert found[0].original != found[1].original


def test_a_run_without_samples_has_no_balance(
    settings: ApplySettings, tmp_path: Path, write_shards: Callable[..., Any]
) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "empty.tar").write_bytes(b"")
    other = str(tmp_path / "other")
    annotate(
        AnnotateSettings(
            shards=(str(tmp_path / "shards"),),
            catalogue=settings.catalogue,
            run=other,
            max_failures=1.0,
        )
    )
    record = apply(settings.model_copy(update={"run": other}))
    assert (record.balance, record.rows_in) == (None, 0)
    assert read_commit(f"{other}/manifest", "empty") is not None
