"""What a run directory holds, read for a report. Stages that were not run are left out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from evaluation.compare import Comparison, Trial
from evaluation.evaluate import Evaluation
from m4.bias import BiasTable, bias_table
from m4.catalogue import Catalogue, load_catalogue
from m4.diagnostics import design_effect
from m4.errors import InputError
from m4.policy import Policy
from pipelines.agreement import Agreement, read_agreement
from pipelines.counting import read_patterns
from pipelines.record import StageRecord, read_run


@dataclass(frozen=True, eq=False)
class DataBias:
    """Bias of the data: as it was, as the policy's weights plan it, as the manifest drew it.

    `weights` has a row per pattern: `weight` and `count`, the examples that have it.
    """

    before: BiasTable
    planned: BiasTable
    drawn: BiasTable | None
    weights: pl.DataFrame
    design_effect: float


@dataclass(frozen=True, eq=False)
class Contents:
    """All that a report shows. `losses`: step and loss of each training, by its name."""

    run: Path
    catalogue: Catalogue
    records: Mapping[str, StageRecord]
    policy: Policy
    data: DataBias
    agreement: Mapping[str, Agreement]
    trials: tuple[Trial, ...]
    comparison: Comparison | None
    losses: pl.DataFrame


def read_contents(run: Path) -> Contents:
    """Read a run directory.

    Raises `InputError` where it has no catalogue, patterns or policy, or a file is damaged.
    """
    if not run.is_dir():
        raise InputError(f"{run}: no such run directory")
    catalogue = load_catalogue(run / "catalogue.yaml")
    policy = Policy.load(run / "policy.json")
    if policy.catalogue != catalogue.digest:
        raise InputError(
            f"{run / 'policy.json'}: solved with catalogue {policy.catalogue[:12]}, but "
            f"catalogue.yaml is {catalogue.digest[:12]}; run solve again"
        )
    trials = _trials(run / "evaluation")
    return Contents(
        run=run,
        catalogue=catalogue,
        records=read_run(str(run)),
        policy=policy,
        data=_data_bias(run, catalogue, policy),
        agreement=read_agreement(run / "agreement.json"),
        trials=trials,
        comparison=Comparison.of(trials) if len({trial.arm for trial in trials}) > 1 else None,
        losses=_losses(run / "checkpoints"),
    )


def _data_bias(run: Path, catalogue: Catalogue, policy: Policy) -> DataBias:
    patterns = read_patterns(str(run / "patterns.parquet"), catalogue)
    weights = policy.weights(patterns)
    drawn = run / "drawn.parquet"
    return DataBias(
        before=bias_table(policy.problem, patterns),
        planned=bias_table(policy.problem, patterns, weights),
        drawn=bias_table(policy.problem, read_patterns(str(drawn), catalogue))
        if drawn.exists()
        else None,
        weights=pl.DataFrame({"weight": weights, "count": patterns.counts}),
        design_effect=design_effect(weights, patterns.counts),
    )


def _trials(folder: Path) -> tuple[Trial, ...]:
    """Evaluations named `<arm>-<seed>.json`, the original arm first."""
    trials = []
    for path in sorted(folder.glob("*-*.json")):
        arm, _, seed = path.stem.rpartition("-")
        if not seed.isdigit():
            raise InputError(f"{path}: not named <arm>-<seed>.json; rename or remove it")
        trials.append(Trial(arm=arm, seed=int(seed), evaluation=Evaluation.load(path)))
    return tuple(sorted(trials, key=lambda trial: (trial.arm != "original", trial.arm, trial.seed)))


def _losses(folder: Path) -> pl.DataFrame:
    rows = []
    for path in sorted(folder.glob("*/log.jsonl")):
        arm, _, seed = path.parent.name.rpartition("-")
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            rows.append({"arm": arm, "seed": seed, "step": entry["step"], "loss": entry["loss"]})
    schema = {"arm": pl.String, "seed": pl.String, "step": pl.Int64, "loss": pl.Float64}
    return pl.DataFrame(rows, schema=schema)
