"""Charts of what protocols found: each figure beside what it would be without bias.

Models are told apart by colour and by shape, in the order in which they are given. Grey bands hold
what a measure shows where there is nothing to find; a tick is its mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import altair as alt
import polars as pl

from evaluation.draws import Difference
from evaluation.results import ProtocolResult
from m4.errors import InputError
from reporting.charts import ARMS, MOST_LABELS, WIDTH
from reporting.drawings import (
    COLOURS,
    INK,
    LONGEST_LABEL,
    SHAPES,
    Drawing,
    Table,
    check_models,
    figures_in,
    figures_of,
    lower_is_better,
    percent,
    readable,
    visible,
)

BETWEEN, BAND = "#a8a29e", "#d6d3d1"
UNCLEAR = "not told apart"
VERDICTS = {"better": ARMS["balanced"], "worse": ARMS["original"], UNCLEAR: "#78716c"}
FALSE_DISCOVERIES = 0.05  # share of the marked cells that may be chance
DIVERGING: Final = "blueorange"  # a scheme that the colour-blind tell apart
PANEL = 230  # width of one of several small charts
CELL = 64  # width of a group's column
ROW = 18


def headline_dots(results: Sequence[ProtocolResult]) -> Drawing:
    """Every headline with its interval and null band: a small chart for each measure."""
    check_models(results)
    figures, hidden = visible(figures_of(results, headlines=True))
    layers = _Layers.of(results)
    return Drawing(_panels(figures, layers.in_lanes, title=""), hidden)


def skew_dumbbells(results: Sequence[ProtocolResult], table: Table) -> Drawing:
    """The figures of a table by prompt, word or pair: a point for each model, joined by a line.

    The worst `MOST_LABELS` of the first model are shown, in the order of its figures: the largest,
    whatever their sign, where lower is better. One model alone is shown with its intervals.

    Raises `InputError` where there is no such table, or models were not measured alike.
    """
    check_models(results)
    figures, hidden = _visible_of(figures_in(results, table))
    lower = lower_is_better(figures)
    first = figures.filter(pl.col("model") == results[0].model)
    by = pl.col("value").abs() if lower else pl.col("value")
    worst = first.sort(by, descending=lower, maintain_order=True).head(MOST_LABELS)
    if len(worst) == 0:
        return Drawing(None, hidden)
    order = worst.sort("value", descending=lower, maintain_order=True)["name"]
    rows = figures.filter(pl.col("name").is_in(order.implode()))
    chart = _Layers.of(results).in_line(rows, order.to_list(), table.title)
    step = ROW if len(results) == 1 else 1.5 * ROW  # for a lane of each model
    sized = chart.properties(width=WIDTH, height=alt.Step(step, **{"for": "position"}))
    return Drawing(sized, hidden, len(first) - len(worst))


def _visible_of(figures: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Of a table; where it has two subjects they are complements, as two groups are."""
    return visible(figures, *(("task",) if figures["subject"].n_unique() == 2 else ()))


def cells(results: Sequence[ProtocolResult], table: Table) -> pl.DataFrame | None:
    """A table's figures with their "word" and "group", where all its names are "word, group".

    None where they are not: each word must come with each of at least two groups.
    """
    parts = pl.col("name").str.extract_groups(r"^(?<word>.*), (?<group>[^,]*)$")
    figures = figures_in(results, table).with_columns(parts.struct.unnest())
    words, groups = (figures[name].drop_nulls().n_unique() for name in ("word", "group"))
    whole = not figures["word"].has_nulls() and words * groups * len(results) == len(figures)
    return figures if whole and groups > 1 else None


def association_heat_map(results: Sequence[ProtocolResult], table: Table) -> Drawing:
    """Signed figures of words by groups, 0 in the middle of the colours, dots where p_fdr is small.

    Models stand below each other and share the colours. Of the words, the `MOST_LABELS` that are
    furthest from 0 for any group and model are shown, those first.

    Raises `InputError` where the table's names are not "word, group", or models were not measured
    alike.
    """
    check_models(results)
    figures = cells(results, table)
    if figures is None:
        raise InputError(
            f"{results[0].protocol}: {table.title} is no table of words by groups; chart it by "
            "subject"
        )
    shown, hidden = visible(figures, "word")
    words = (
        shown.group_by("word", maintain_order=True)
        .agg(furthest=pl.col("value").abs().max())
        .sort("furthest", descending=True, maintain_order=True)
    )
    first = words.head(MOST_LABELS)
    if len(first) == 0:
        return Drawing(None, hidden)
    order, limit = first["word"].to_list(), first["furthest"].item(0)
    charts = [
        _heat_map(
            shown.filter((pl.col("model") == result.model) & pl.col("word").is_in(order)),
            order,
            _diverging(table.title, limit),
        ).properties(title=alt.Title(result.model, anchor="start", fontSize=12))
        for result in results
    ]
    return Drawing(alt.vconcat(*charts), hidden, len(words) - len(first))


def _diverging(title: str, limit: float) -> alt.Color:
    scale = alt.Scale(scheme=DIVERGING, domain=[-limit, limit], domainMid=0)
    legend = alt.Legend(title=title, gradientLength=200, tickCount=5)
    return alt.Color("value:Q", scale=scale, legend=legend)


def _heat_map(rows: pl.DataFrame, words: list[str], colour: alt.Color) -> Any:
    groups = rows["group"].unique(maintain_order=True).to_list()
    above = alt.Axis(orient="top", labelAngle=-30, labelLimit=140, ticks=False)
    beside = alt.Axis(labelLimit=LONGEST_LABEL, ticks=False)
    x = alt.X("group:N", title=None, sort=groups, axis=above)
    y = alt.Y("word:N", title=None, sort=words, axis=beside)
    squares = alt.Chart(rows).mark_rect(stroke="white").encode(x=x, y=y, color=colour)
    size = {"width": CELL * len(groups), "height": alt.Step(ROW)}
    says = f"at most {percent(FALSE_DISCOVERIES)} false discoveries"
    found = rows.filter(pl.col("p_fdr") <= FALSE_DISCOVERIES).with_columns(mark=pl.lit(says))
    if len(found) == 0:
        return squares.properties(**size)
    legend = alt.Legend(symbolFillColor=INK, symbolStrokeColor=INK)
    dot = alt.Shape("mark:N", scale=alt.Scale(domain=[says], range=["circle"]), legend=legend)
    dots = alt.Chart(found).mark_point(
        filled=True, size=34, color=INK, opacity=1, stroke="white", strokeWidth=1
    )
    return (squares + dots.encode(x=x, y=y, shape=dot)).properties(**size)


def verdict(difference: Difference) -> str:
    """Whether the second model is better or worse; neither where the paired interval holds 0.

    Where lower is better it is sizes that are compared: a bias with a sign is better nearer to 0.
    """
    interval = difference.interval
    if interval is None or interval.low <= 0 <= interval.high:
        return UNCLEAR
    if difference.better != "higher":
        return "better" if abs(difference.second) < abs(difference.first) else "worse"
    return "better" if difference.second > difference.first else "worse"


def before_after(
    first: ProtocolResult, second: ProtocolResult, differences: Sequence[Difference]
) -> Drawing:
    """How much each headline differs, second - first, with its paired interval and a zero line.

    Differences of other figures are passed over. Raises `InputError` where the models were not
    measured alike.
    """
    check_models([first, second])
    found = {(each.measure, each.subject): each for each in differences}
    rows = [
        {
            "measure": headline.measure,
            "subject": headline.subject,
            "images": headline.images,
            "smallest_group": headline.smallest_group,
            "value": each.value,
            "low": None if each.interval is None else each.interval.low,
            "high": None if each.interval is None else each.interval.high,
            "verdict": verdict(each),
        }
        for headline in first.headlines
        if (each := found.get((headline.measure, headline.subject))) is not None
    ]
    if not rows:
        return Drawing(None)
    figures, hidden = visible(pl.DataFrame(rows, infer_schema_length=None))
    return Drawing(
        _panels(figures, _change, f"{second.model} \N{MINUS SIGN} {first.model}"), hidden
    )


def _change(rows: pl.DataFrame) -> Any:
    """Differences around a zero line that stands in the middle."""
    axis = alt.Axis(grid=True, labelLimit=LONGEST_LABEL)
    base = alt.Chart(rows).encode(y=alt.Y("subject:N", title=None, sort=None, axis=axis))
    names = list(VERDICTS)
    colour = alt.Color("verdict:N", scale=alt.Scale(domain=names, range=list(VERDICTS.values())))
    shape = alt.Shape("verdict:N", scale=alt.Scale(domain=names, range=SHAPES[: len(names)]))
    limit = rows.select(pl.max_horizontal(pl.col("value", "low", "high").abs()).max()).item()
    scale = alt.Scale(domain=[-limit, limit], nice=True)
    ticks = alt.Axis(tickCount=5, labelFlush=False)
    x = alt.X("value:Q", title=None, scale=scale, axis=ticks)
    spans = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    points = base.mark_point(filled=True, size=80, opacity=1)
    zero = alt.Chart(pl.DataFrame({"value": [0.0]})).mark_rule(color=INK)
    return alt.layer(
        zero.encode(x=x),
        spans.encode(x=alt.X("low:Q", title=None), x2="high:Q", color=colour),
        points.encode(x=x, color=colour, shape=shape),
    )


@dataclass(frozen=True)
class _Layers:
    """Layers of charts that have figures along x and their subjects along y."""

    models: tuple[str, ...]
    level: float

    @classmethod
    def of(cls, results: Sequence[ProtocolResult]) -> "_Layers":
        return cls(tuple(result.model for result in results), results[0].resampling.level)

    def in_lanes(self, rows: pl.DataFrame) -> Any:
        """Models below each other, each with its own band and interval."""
        axis = alt.Axis(grid=True, labelLimit=LONGEST_LABEL)
        y = alt.Y("subject:N", title=None, sort=None, axis=axis)
        place = {"y": y, "yOffset": alt.YOffset("model:N", sort=list(self.models))}
        x = _x(rows, title=None)
        layers = [*self._null(rows, x), self._intervals(rows, x), self._points(rows, x)]
        return alt.layer(*(layer.encode(**place) for layer in layers))

    def in_line(self, rows: pl.DataFrame, order: list[str], title: str) -> Any:
        """Models on one line: joined where there are several, with intervals where there is one."""
        axis = alt.Axis(grid=True, labelLimit=LONGEST_LABEL)
        y = alt.Y("name:N", title=None, sort=order, axis=axis)
        x = _x(rows, title)
        span = self._intervals(rows, x) if len(self.models) == 1 else _between(rows, x)
        null = self._null(rows, x)
        if len(self.models) > 1:  # whose band and tick they are, place and colour tell
            own = alt.YOffset("model:N", sort=list(self.models))
            null = [layer.encode(yOffset=own) for layer in null]
            null[1] = null[1].encode(color=self._told_apart(alt.Color, COLOURS))
        layers = [*null, span, self._points(rows, x)]
        return alt.layer(*(layer.encode(y=y) for layer in layers))

    def _null(self, rows: pl.DataFrame, x: "_Along") -> list[Any]:
        """The band that holds `level` of the figures without bias, and a tick at their mean."""
        says = f"without bias: {percent(self.level)}, and the mean"
        known = alt.Chart(rows.drop_nulls("null_mean").with_columns(band=pl.lit(says)))
        legend = alt.Legend(symbolType="square", symbolStrokeWidth=0, labelLimit=LONGEST_LABEL)
        fill = alt.Fill("band:N", scale=alt.Scale(domain=[says], range=[BAND]), legend=legend)
        tick = known.mark_tick(color=INK, thickness=1.5, size=12, opacity=1, aria=False)
        return [
            known.mark_bar(opacity=0.7, aria=False).encode(
                x=x("null_low"), x2="null_high:Q", fill=fill
            ),
            tick.encode(x=x("null_mean")),
        ]

    def _intervals(self, rows: pl.DataFrame, x: "_Along") -> Any:
        known = alt.Chart(rows.drop_nulls("low")).mark_rule(strokeWidth=2)
        return known.encode(x=x("low"), x2="high:Q", color=self._told_apart(alt.Color, COLOURS))

    def _points(self, rows: pl.DataFrame, x: "_Along") -> Any:
        return (
            alt.Chart(rows)
            .mark_point(filled=True, size=70, opacity=1)
            .encode(
                x=x("value"),
                color=self._told_apart(alt.Color, COLOURS),
                shape=self._told_apart(alt.Shape, SHAPES),
            )
        )

    def _told_apart(self, channel: Any, looks: tuple[str, ...]) -> Any:
        scale = alt.Scale(domain=list(self.models), range=looks[: len(self.models)])
        return channel("model:N", scale=scale, legend=alt.Legend(labelLimit=LONGEST_LABEL))


_Along = Callable[[str], alt.X]


def _x(rows: pl.DataFrame, title: str | None) -> _Along:
    """The x axis of every layer of a chart; biases are seen from 0, accuracies are not."""
    scale = alt.Scale(zero=lower_is_better(rows))
    axis = alt.Axis(tickCount=5 if title is None else 10, labelFlush=False)
    return lambda column: alt.X(f"{column}:Q", title=title, scale=scale, axis=axis)


def _between(rows: pl.DataFrame, x: _Along) -> Any:
    """Lines from the smallest to the largest figure of each name."""
    ends = rows.group_by("name", maintain_order=True).agg(
        least=pl.col("value").min(), most=pl.col("value").max()
    )
    return (
        alt.Chart(ends)
        .mark_rule(color=BETWEEN, strokeWidth=2, aria=False)
        .encode(x=x("least"), x2="most:Q")
    )


def _panels(figures: pl.DataFrame, panel: Callable[[pl.DataFrame], Any], title: str) -> Any:
    """A small chart for each measure, which has its own scale; None where there are none."""
    if len(figures) == 0:
        return None
    charts = [
        panel(figures.filter(pl.col("measure") == measure)).properties(
            title=alt.Title(readable(measure), anchor="start", fontSize=12),
            width=PANEL,
            height=alt.Step(ROW),
        )
        for measure in figures["measure"].unique(maintain_order=True)
    ]
    above = alt.Title(title, anchor="start", fontSize=13)
    return alt.concat(*charts, columns=2, spacing=16, title=above)
