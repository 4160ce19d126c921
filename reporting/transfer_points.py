"""Bias transfer of a run: the labels' associations in the data and in the models trained on it."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import polars as pl

from evaluation.compare import Trial
from evaluation.draws import Measurement
from evaluation.resampling import Resampling
from evaluation.transfer import FEWEST as FEWEST_CONCEPTS
from evaluation.transfer import bias_transfer_draws, data_associations
from reporting.charts import FEWEST
from reporting.contents import DataBias


def transfer_points(trials: Sequence[Trial], data: DataBias) -> dict[str, pl.DataFrame]:
    """What `reporting.transfer_chart.transfer_scatter` shows, by sensitive value.

    A point is a label of an arm: its association with the value in the data that the arm was
    trained on, original or drawn, and in its models, C-ASC, mean over seeds. Labels of fewer than
    `FEWEST` examples are left out, and values of an arm whose labels make no line: too few, or all
    alike.
    """
    trained_on = {"original": data.before, "balanced": data.drawn}
    points: dict[str, list[dict[str, object]]] = {}
    for arm in dict.fromkeys(trial.arm for trial in trials):
        table = trained_on.get(arm)
        if table is None:
            continue
        models = [trial.evaluation.label_associations for trial in trials if trial.arm == arm]
        large = table.association.filter(pl.col("examples") >= FEWEST)
        for value, of_model in models[0].items():
            of_data = data_associations(table, value)
            known = of_data.keys() & set(large.filter(pl.col("value") == value)["label"])
            rows = [
                {
                    "concept": label,
                    "arm": arm,
                    "data": of_data[label],
                    "model": fmean(model[value][label] for model in models),
                }
                for label in of_model
                if label in known
            ]
            if len(rows) >= FEWEST_CONCEPTS and _differ(rows, "data") and _differ(rows, "model"):
                points.setdefault(value, []).extend(rows)
    return {value: pl.DataFrame(rows) for value, rows in points.items()}


def transfer_measurements(points: pl.DataFrame) -> dict[str, tuple[Measurement, ...]]:
    """r, R squared, slope and agreement of sign of each arm, with intervals and nulls over labels.

    Parameters
    ----------
    points : of one value, as `transfer_points` gives them
    """
    resampling = Resampling()
    found = {}
    for (arm,), rows in points.group_by("arm", maintain_order=True):
        draws = bias_transfer_draws(rows["data"].to_numpy(), rows["model"].to_numpy(), resampling)
        found[str(arm)] = tuple(each.measurements(resampling.level)[0] for each in draws)
    return found


def _differ(rows: Sequence[Mapping[str, object]], what: str) -> bool:
    return len({row[what] for row in rows}) > 1
