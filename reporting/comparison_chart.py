"""Chart of models and methods: for each measure a panel, for each method a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from debias.comparison import Comparison, arms_of
from m4.errors import InputError
from reporting.drawings import (
    COLOURS,
    LONGEST_LABEL,
    SHAPES,
    Drawing,
    few_images,
    percent,
    readable,
)
from reporting.evaluation_charts import BAND

PANEL, COLUMNS = 210, 3
LANES, LANE = 18, 5  # pixels of a method's line, and at least of a model in it


def check_arms(models: Sequence[str]) -> None:
    """Raise `InputError` where models are of more arms than there are colours."""
    several = len(set(arms_of(models).values()))
    if several > len(COLOURS):
        raise InputError(
            f"{several} arms, but a chart tells {len(COLOURS)} apart; compare fewer, or name "
            "seeds of one arm arm-0, arm-1"
        )


def comparison_chart(found: Comparison) -> Drawing:
    """Every measure's figures by method, arms told apart by colour and shape.

    A line through a point is its interval; the grey band behind it holds `level` of what it would
    show without bias. Figures that tell of few images are left out.

    Raises `InputError` where there are more arms than colours.
    """
    check_arms(found.models)
    figures, hidden = _figures(found)
    if len(figures) == 0:
        return Drawing(None, hidden)
    methods = list(dict.fromkeys(row.method for row in found.rows))
    arms = list(dict.fromkeys(found.arms.values()))
    lines = _Lines(methods, list(found.models), arms, found.level)
    panels = [
        lines.panel(part, named=number % COLUMNS == 0).properties(
            title=alt.Title(str(title), anchor="start", fontSize=12), width=PANEL
        )
        for number, ((title,), part) in enumerate(figures.group_by("title", maintain_order=True))
    ]
    return Drawing(alt.concat(*panels, columns=COLUMNS, spacing=14), hidden)


def _figures(found: Comparison) -> tuple[pl.DataFrame, int]:
    """A row for each figure; and how many columns tell of few images."""
    rows: list[dict[str, Any]] = []
    hidden, arms = 0, found.arms
    for column in found.columns:
        figures = [(row, row.figure(column)) for row in found.rows]
        if any(figure is not None and few_images(figure) for _, figure in figures):
            hidden += 1
            continue
        for row, figure in figures:
            if figure is None:
                continue
            interval, null = figure.interval, figure.null
            rows.append(
                {
                    "title": f"{column.subject}; {readable(column.measure)}",
                    "method": row.method,
                    "model": row.model,
                    "arm": arms[row.model],
                    "better": figure.better,
                    "value": figure.value,
                    "low": None if interval is None else interval.low,
                    "high": None if interval is None else interval.high,
                    "null_low": None if null is None else null.low,
                    "null_high": None if null is None else null.high,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None), hidden


@dataclass(frozen=True)
class _Lines:
    """What panels share: a line for each method, and in it a lane for each model."""

    methods: list[str]
    models: list[str]
    arms: list[str]
    level: float

    def panel(self, figures: pl.DataFrame, *, named: bool) -> Any:
        """One measure; `named`: methods are written beside it."""
        scale = alt.Scale(zero=figures["better"][0] != "higher")
        ticks = alt.Axis(tickCount=4, labelFlush=False)
        names = alt.Axis(grid=True, labels=named, ticks=False, labelLimit=LONGEST_LABEL)
        line = alt.Y("method:N", title=None, scale=alt.Scale(domain=self.methods), axis=names)
        beside = alt.YOffset("model:N", scale=alt.Scale(domain=self.models))
        looks = {"y": line, "yOffset": beside, "color": self._told_apart(alt.Color, COLOURS)}

        def along(column: str) -> alt.X:
            return alt.X(f"{column}:Q", title=None, scale=scale, axis=ticks)

        lane = max(LANE, LANES // len(self.models))
        says = f"without bias: {percent(self.level)}"
        known = figures.drop_nulls("null_low").with_columns(band=pl.lit(says))
        fill = alt.Fill("band:N", scale=alt.Scale(domain=[says], range=[BAND]))
        null = alt.Chart(known).mark_bar(opacity=0.7, aria=False)
        intervals = alt.Chart(figures.drop_nulls("low")).mark_rule(
            strokeWidth=1.5 if lane > LANE else 1
        )
        points = alt.Chart(figures).mark_point(filled=True, size=4 * lane, opacity=1)
        shape = self._told_apart(alt.Shape, SHAPES)
        return alt.layer(
            null.encode(x=along("null_low"), x2="null_high:Q", y=line, yOffset=beside, fill=fill),
            intervals.encode(x=along("low"), x2="high:Q", **looks),
            points.encode(x=along("value"), shape=shape, **looks),
        ).properties(height=alt.Step(lane, **{"for": "offset"}))

    def _told_apart(self, channel: Any, looks: tuple[str, ...]) -> Any:
        scale = alt.Scale(domain=self.arms, range=looks[: len(self.arms)])
        return channel("arm:N", scale=scale)
