"""One table of models and methods: what each measure says of each, and what a method changed."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field
from scipy.stats import false_discovery_control

from evaluation.draws import Difference, Measurement
from evaluation.results import COLUMNS, SetUsed, figure_row
from m4.catalogue import Model
from m4.files import write_whole

PLAIN = "none"  # the method of a model as it is
LARGEST, MEAN = ", largest", ", mean"
STAND_INS = {
    "max_skew": ("min_skew", "bias@", "absolute bias@"),
    "zero_shot_top1": ("zero_shot_top5", "mean_per_class_recall"),
}
SCHEMA = {
    "model": pl.String,
    "method": pl.String,
    "source": pl.String,
    "fit_seconds": pl.Float64,
    **COLUMNS,
    **{
        f"{name}{part}": pl.Float64
        for name in ("change", "from_first")
        for part in ("", "_low", "_high", "_p", "_p_fdr")
    },
}


class ComparedRow(Model):
    """A model with a method.

    Attributes
    ----------
    model, method : names; the method `PLAIN` is the model as it is
    source : what the method was fitted on, in words
    fit_seconds : of `fit` alone; None of a model as it is, and where it failed
    figures : headlines of the protocol
    changes : by the method on its model, resample by resample; of a model as it is, from the
        first arm's model of the same seed
    from_first : of a method on a model of another arm, from the first arm's model of the same
        seed as it is: what both together change
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
    from_first: tuple[Difference, ...] = ()
    undefined: dict[str, str] = Field(default_factory=dict)
    failure: str | None = None
    seen: int = 0

    def figure(self, column: "Column") -> Measurement | None:
        """What one measure says; None where it says nothing."""
        return next((each for each in self.figures if Column.of(each) == column), None)

    def change(self, column: "Column") -> Difference | None:
        """What the method changed; None where there is nothing to compare with."""
        return next((each for each in self.changes if Column.of(each) == column), None)

    def from_baseline(self, column: "Column") -> Difference | None:
        """What differs from the first arm's model as it is; None of such a model itself."""
        found = self.from_first or self.changes
        return next((each for each in found if Column.of(each) == column), None)


def arms_of(models: Sequence[str]) -> dict[str, str]:
    """The arm that each model is a seed of: "balanced" of "balanced-0" and "balanced-1".

    Models are seeds of one arm where what follows their last "-" counts from 0 without a gap, and
    no model is called as the arm; any other is an arm of its own, as "ViT-B-16" and "ViT-B-32".
    """
    seeds: dict[str, list[str]] = {}
    for model in models:
        arm, _, seed = model.rpartition("-")
        seeds.setdefault(arm, []).append(seed)
    counted = {
        arm
        for arm, found in seeds.items()
        if arm not in ("", *models) and set(found) == {str(number) for number in range(len(found))}
    }
    return {
        model: arm if (arm := model.rpartition("-")[0]) in counted else model for model in models
    }


def corrected(rows: Sequence[ComparedRow]) -> tuple[ComparedRow, ...]:
    """Rows whose differences have `p_fdr` over all of them, by Benjamini and Hochberg (1995)."""
    known = [
        each.p_value
        for row in rows
        for each in (*row.changes, *row.from_first)
        if each.p_value is not None
    ]
    left = iter(false_discovery_control(known).tolist() if known else [])

    def of(changes: Sequence[Difference]) -> tuple[Difference, ...]:
        return tuple(
            each.model_copy(update={"p_fdr": None if each.p_value is None else next(left)})
            for each in changes
        )

    return tuple(
        row.model_copy(update={"changes": of(row.changes), "from_first": of(row.from_first)})
        for row in rows
    )


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
    """A figure of several seeds.

    `null` is the mean of what they show without bias; None where that is not known.
    """

    mean: float
    least: float
    most: float
    seeds: int
    null: float | None = None


class Comparison(Model):
    """Models and methods, measured alike.

    Attributes
    ----------
    protocol, title, published : the protocol's name, title and source
    sets : of images, by role
    level : of the intervals
    rows : the models as they are and with each method, model by model; false discoveries are
        controlled over all their differences
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
        """Those of them for a table: without those for which another one of their task stands.

        That is the mean over prompts for their largest, MaxSkew for other skews, and top-1 for
        other accuracies of zero-shot classification.
        """
        there = self.all_columns
        measures: dict[str, set[str]] = {}
        for each in there:
            measures.setdefault(each.task, set()).add(each.measure)
        return tuple(each for each in there if not _stood_for(each.measure, measures[each.task]))

    def spread(self, arm: str, method: str, column: Column) -> Spread | None:
        """One figure over the seeds of an arm; None where any of them has none."""
        arms = self.arms
        rows = [row for row in self.rows if (arms[row.model], row.method) == (arm, method)]
        found = [row.figure(column) for row in rows]
        known = [each for each in found if each is not None]
        if not rows or len(known) < len(rows):
            return None
        values = [each.value for each in known]
        nulls = [each.null.mean for each in known if each.null is not None]
        return Spread(
            mean=float(np.mean(values)),
            least=min(values),
            most=max(values),
            seeds=len(values),
            null=float(np.mean(nulls)) if len(nulls) == len(known) else None,
        )

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
            for each in row.figures:
                column = Column.of(each)
                found.append(
                    about
                    | figure_row(each)
                    | _change("change", row.change(column))
                    | _change("from_first", row.from_baseline(column))
                )
            if not row.figures:
                found.append(about)
        return pl.DataFrame(found, schema=SCHEMA)

    def save(self, folder: Path) -> None:
        """Write `comparison.json` and `comparison.csv`; the JSON last."""
        write_whole(folder / "comparison.csv", self.table().write_csv().encode())
        content = self.model_dump_json(indent=1) + "\n"
        write_whole(folder / "comparison.json", content.encode())


def _stood_for(measure: str, there: Set[str]) -> bool:
    """Whether another measure of the same task, of all that are there, says it as well."""
    if measure.endswith(LARGEST):
        return measure.removesuffix(LARGEST) + MEAN in there
    return any(
        measure.startswith(others) and any(each.startswith(stand_in) for each in there)
        for stand_in, others in STAND_INS.items()
    )


def _change(name: str, found: Difference | None) -> dict[str, object]:
    if found is None:
        return {}
    interval = found.interval
    return {
        name: found.value,
        f"{name}_low": None if interval is None else interval.low,
        f"{name}_high": None if interval is None else interval.high,
        f"{name}_p": found.p_value,
        f"{name}_p_fdr": found.p_fdr,
    }
