"""One table of models and methods: what each measure says of each, and what a method changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field

from evaluation.draws import Difference, Measurement
from evaluation.results import COLUMNS, SetUsed, figure_row
from m4.catalogue import Model
from m4.files import write_whole

PLAIN = "none"  # the method of a model as it is
LARGEST, MEAN = ", largest", ", mean"
# MaxSkew and NDKL stand for other skews, top-1 for other accuracies of zero-shot classification.
IN_FILES_ALONE = ("min_skew", "bias@", "absolute bias@", "zero_shot_top5", "mean_per_class_recall")
SCHEMA = {
    "model": pl.String,
    "method": pl.String,
    "source": pl.String,
    "fit_seconds": pl.Float64,
    **COLUMNS,
    "change": pl.Float64,
    "change_low": pl.Float64,
    "change_high": pl.Float64,
    "change_p": pl.Float64,
}


class ComparedRow(Model):
    """A model with a method.

    Attributes
    ----------
    model, method : names; the method `PLAIN` is the model as it is
    source : what the method was fitted on, in words
    fit_seconds : of `fit` alone; None of a model as it is, and where it failed
    figures : headlines of the protocol
    changes : by the method, resample by resample; of a model as it is, from the first model
    undefined : by task, why it has no figures
    failure : why the method could not be fitted or used; there are no figures then
    seen : images that it was fitted on and is measured on
    """

    model: str
    method: str = PLAIN
    source: str | None = None
    fit_seconds: float | None = None
    figures: tuple[Measurement, ...] = ()
    changes: tuple[Difference, ...] = ()
    undefined: dict[str, str] = Field(default_factory=dict)
    failure: str | None = None
    seen: int = 0

    def figure(self, column: "Column") -> Measurement | None:
        """What one measure says; None where it says nothing."""
        return next((each for each in self.figures if Column.of(each) == column), None)

    def change(self, column: "Column") -> Difference | None:
        """What the method changed; None where there is nothing to compare with."""
        return next((each for each in self.changes if Column.of(each) == column), None)


def arms_of(models: Sequence[str]) -> dict[str, str]:
    """The arm that each model is a seed of: "balanced" of "balanced-0" and "balanced-1".

    Models are seeds of one arm where what follows their last "-" counts from 0 without a gap; any
    other model is an arm of its own, as "ViT-B-16" and "ViT-B-32" are.
    """
    seeds: dict[str, list[str]] = {}
    for model in models:
        arm, _, seed = model.rpartition("-")
        seeds.setdefault(arm, []).append(seed)
    counted = {
        arm
        for arm, found in seeds.items()
        if arm and set(found) == {str(number) for number in range(len(found))}
    }
    return {
        model: arm if (arm := model.rpartition("-")[0]) in counted else model for model in models
    }


@dataclass(frozen=True)
class Column:
    """A headline, of which each row has a figure."""

    measure: str
    subject: str

    @classmethod
    def of(cls, found: Measurement | Difference) -> "Column":
        return cls(found.measure, found.subject)

    @property
    def task(self) -> str:
        return self.subject.partition(": ")[0]


@dataclass(frozen=True)
class Spread:
    """A figure of several seeds."""

    mean: float
    least: float
    most: float
    seeds: int


class Comparison(Model):
    """Models and methods, measured alike.

    Attributes
    ----------
    protocol, title, published : the protocol's name, title and source
    sets : of images, by role
    level : of the intervals
    rows : the models as they are and with each method, model by model
    """

    protocol: str
    title: str
    published: str
    sets: dict[str, SetUsed]
    level: float
    rows: tuple[ComparedRow, ...]

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in their order."""
        return tuple(dict.fromkeys(row.model for row in self.rows))

    @property
    def arms(self) -> dict[str, str]:
        """The arm of each model; see `arms_of`."""
        return arms_of(self.models)

    @property
    def seeded(self) -> bool:
        """Whether any arm has several seeds."""
        return len(set(self.arms.values())) < len(self.models)

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """Every headline that any row has, in the protocol's order."""
        found = (Column.of(each) for row in self.rows for each in row.figures)
        return tuple(dict.fromkeys(found))

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those of them for a table; where prompts have a mean, their largest is left out."""
        there = set(self.all_columns)

        def mean_of(column: Column) -> bool:
            name = column.measure.removesuffix(LARGEST)
            return any(each.measure == name + MEAN and each.task == column.task for each in there)

        return tuple(
            each
            for each in self.all_columns
            if not (each.measure.endswith(LARGEST) and mean_of(each))
            and not each.measure.startswith(IN_FILES_ALONE)
        )

    def spread(self, arm: str, method: str, column: Column) -> Spread | None:
        """One figure over the seeds of an arm; None where any of them has none."""
        arms = self.arms
        rows = [row for row in self.rows if (arms[row.model], row.method) == (arm, method)]
        found = [row.figure(column) for row in rows]
        values = [each.value for each in found if each is not None]
        if not rows or len(values) < len(rows):
            return None
        return Spread(float(np.mean(values)), min(values), max(values), len(values))

    def table(self) -> pl.DataFrame:
        """A row for each headline of each model and method; one without figures where it failed."""
        found: list[dict[str, object]] = []
        for row in self.rows:
            about: dict[str, object] = {
                "model": row.model,
                "method": row.method,
                "source": row.source,
                "fit_seconds": row.fit_seconds,
            }
            changes = {Column.of(each): each for each in row.changes}
            for each in row.figures:
                found.append(about | figure_row(each) | _change(changes.get(Column.of(each))))
            if not row.figures:
                found.append(about)
        return pl.DataFrame(found, schema=SCHEMA)

    def save(self, folder: Path) -> None:
        """Write `comparison.json` and `comparison.csv`; the JSON last."""
        write_whole(folder / "comparison.csv", self.table().write_csv().encode())
        content = self.model_dump_json(indent=1) + "\n"
        write_whole(folder / "comparison.json", content.encode())


def _change(found: Difference | None) -> dict[str, object]:
    if found is None:
        return {}
    interval = found.interval
    return {
        "change": found.value,
        "change_low": None if interval is None else interval.low,
        "change_high": None if interval is None else interval.high,
        "change_p": found.p_value,
    }
