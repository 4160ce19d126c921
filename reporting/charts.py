"""Charts as SVG: they need no script and no network, and print well."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from evaluation.compare import Comparison, Trial
from m4.catalogue import Catalogue
from reporting.contents import DataBias

BEFORE, PLANNED, DRAWN = "before", "balanced (weights)", "balanced (drawn)"
STATES = {BEFORE: "#c2410c", PLANNED: "#0f766e", DRAWN: "#5eead4"}
ARMS = {"original": "#c2410c", "balanced": "#0f766e"}
OTHER_ARMS = ("#4338ca", "#a16207", "#be185d", "#475569")
WIDTH = 560
FONT = "Arial, Liberation Sans, sans-serif"  # what the renderer measures text with
MOST_LABELS = 40
NEGLIGIBLE = 0.1  # standardised difference that Austin (2009) and most after him take for balance
FEWEST = 20  # cells with fewer examples are not shown, so that nobody can be singled out


def to_svg(chart: Any) -> str:
    """Render a chart; text stays text."""
    import vl_convert  # 30 MB of renderer, wanted only here

    styled = (
        chart.configure(font=FONT, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=12, titleFontSize=12, gridColor="#e7e5e4", domain=False)
        .configure_legend(labelFontSize=12, title=None, orient="top", symbolStrokeWidth=2)
        .configure_header(labelFontSize=13, labelFontWeight="bold", title=None)
    )
    return str(vl_convert.vegalite_to_svg(styled.to_dict()))


def _states(data: DataBias) -> dict[str, Any]:
    states = {BEFORE: data.before, PLANNED: data.planned}
    return states if data.drawn is None else {**states, DRAWN: data.drawn}


def _colour(shown: Mapping[str, str]) -> alt.Color:
    return alt.Color(
        "state:N", scale=alt.Scale(domain=list(shown), range=list(shown.values())), title=None
    )


def informative_values(catalogue: Catalogue) -> list[str]:
    """Values worth a chart: of an exclusive pair the first says all, the second is 1 minus it."""
    names = []
    for name, attribute in catalogue.sensitive.items():
        values = [f"{name}.{value}" for value in attribute.values]
        pair = attribute.exclusive and len(values) == 2
        names += values[:1] if pair else values
    return names


def representation(data: DataBias) -> str:
    """Share of each value among the examples where it is known, before and after."""
    rows = pl.concat(
        [
            table.representation.select("value", "target", "share").with_columns(
                state=pl.lit(state)
            )
            for state, table in _states(data).items()
        ]
    )
    known = data.before.representation.filter(pl.col("examples") >= FEWEST)["value"]
    rows = rows.filter(pl.col("value").is_in(known.implode()))
    base = alt.Chart(rows).encode(y=alt.Y("value:N", title=None, sort=None))
    x = alt.X("share:Q", title="share among examples where it is known", axis=alt.Axis(format="%"))
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        x=x, color=_colour({state: STATES[state] for state in _states(data)})
    )
    target = base.mark_tick(color="#1c1917", thickness=2, size=20).encode(x="target:Q")
    return to_svg((target + points).properties(width=WIDTH, height=alt.Step(34)))


def association(data: DataBias, catalogue: Catalogue) -> str:
    """Share of each value among the examples of each label, before and after; target and band."""
    shown = informative_values(catalogue)
    worst = (
        data.before.association.filter(
            pl.col("value").is_in(shown) & (pl.col("examples") >= FEWEST)
        )
        .group_by("label", maintain_order=True)
        .agg(pl.col("gap").max())
        .sort("gap", descending=True, maintain_order=True)
        .head(MOST_LABELS)
    )
    columns = ["value", "label", "target", "share"]
    rows = pl.concat(
        [
            table.association.select(columns).with_columns(state=pl.lit(state))
            for state, table in _states(data).items()
        ]
    ).filter(pl.col("value").is_in(shown) & pl.col("label").is_in(worst["label"].implode()))
    first = data.before.association.filter(pl.col("value") == shown[0])
    order = first.filter(pl.col("label").is_in(worst["label"].implode())).sort("share")["label"]
    base = alt.Chart(rows).encode(
        y=alt.Y("label:N", title=None, sort=order.to_list(), axis=alt.Axis(grid=True))
    )
    x = alt.X("share:Q", title="share among examples with the label", axis=alt.Axis(format="%"))
    target = base.mark_tick(color="#1c1917", thickness=1.5, size=16).encode(x="target:Q")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        x=x, color=_colour({state: STATES[state] for state in _states(data)})
    )
    layered = (target + points).properties(
        width=WIDTH if len(shown) == 1 else WIDTH // 2, height=alt.Step(24)
    )
    return to_svg(layered.facet(facet=alt.Facet("value:N", sort=shown), columns=2))


def love_plot(table: pl.DataFrame) -> str:
    """Imbalance of the constraints before and after, the largest `MOST_LABELS` first.

    Parameters
    ----------
    table : of `m4.diagnostics.love_table`; rows of fewer than `FEWEST` examples are not shown
    """
    largest = (
        table.filter((pl.col("examples") >= FEWEST) & pl.col("before").is_not_null())
        .head(MOST_LABELS)
        .select("constraint", pl.col("before", "after").abs())
    )
    names = largest["constraint"].to_list()
    y = alt.Y("constraint:N", title=None, sort=names, axis=alt.Axis(grid=True, labelLimit=260))
    x = alt.X("difference:Q", title="standardised difference", scale=alt.Scale(zero=True))
    moved = largest.drop_nulls("after")
    way = alt.Chart(moved).mark_rule(color="#a8a29e").encode(y=y, x="before:Q", x2="after:Q")
    rows = pl.concat(
        largest.select("constraint", difference=pl.col(column), state=pl.lit(state))
        for column, state in (("before", BEFORE), ("after", PLANNED))
    )
    colours = {state: STATES[state] for state in (BEFORE, PLANNED)}
    points = alt.Chart(rows).mark_point(filled=True, size=70, opacity=1)
    usual = alt.Chart(pl.DataFrame({"difference": [NEGLIGIBLE]})).mark_rule(
        color="#1c1917", strokeDash=[4, 3]
    )
    layered = usual.encode(x=x) + way + points.encode(y=y, x=x, color=_colour(colours))
    return to_svg(layered.properties(width=WIDTH, height=alt.Step(18)))


def weights(data: DataBias, eta: float) -> str:
    """How many examples have which weight."""
    base = alt.Chart(data.weights)
    bars = base.mark_bar(color="#0f766e").encode(
        x=alt.X("weight:Q", bin=alt.Bin(maxbins=30), title="weight"),
        y=alt.Y("sum(count):Q", title="examples"),
    )
    rate = (
        alt.Chart(pl.DataFrame({"eta": [eta]}))
        .mark_rule(color="#1c1917", strokeDash=[4, 3])
        .encode(x="eta:Q")
    )
    return to_svg((bars + rate).properties(width=WIDTH, height=180))


def _arm_colour(arms: list[str]) -> alt.Color:
    others = [arm for arm in arms if arm not in ARMS]
    colours = {**ARMS, **dict(zip(others, OTHER_ARMS, strict=False))}
    return alt.Color(
        "arm:N",
        scale=alt.Scale(domain=arms, range=[colours.get(arm, "#78716c") for arm in arms]),
        title=None,
    )


def measures(comparison: Comparison, better: str) -> str:
    """Headline measures of which lower, or higher, is better: a point per seed, a tick the mean."""
    rows = [
        {"measure": row.measure.replace("_", " "), "arm": arm, "figure": figure}
        for row in comparison.measures
        if row.better == better
        for arm, spread in row.arms.items()
        for figure in spread.by_seed.values()
    ]
    return _by_arm(pl.DataFrame(rows), "measure", list(comparison.arms), title=None)


def _by_arm(rows: pl.DataFrame, what: str, arms: list[str], title: str | None) -> str:
    """A point per seed and a tick for the mean, an arm below the other."""
    base = alt.Chart(rows).encode(
        y=alt.Y(f"{what}:N", sort=None, title=None, axis=alt.Axis(grid=True, labelLimit=260)),
        yOffset=alt.YOffset("arm:N", sort=arms),
        color=_arm_colour(arms),
    )
    points = base.mark_point(filled=True, size=70, opacity=0.75).encode(
        x=alt.X("figure:Q", title=title, scale=alt.Scale(zero=True))
    )
    means = base.mark_tick(thickness=3, size=14).encode(x="mean(figure):Q")
    return to_svg((points + means).properties(width=WIDTH - 60, height=alt.Step(16)))


def pairs(trials: tuple[Trial, ...]) -> str:
    """Association bias of the models by pair of labels: a point per seed."""
    rows = [
        {"pair": f"{pair.first} or {pair.second}", "arm": trial.arm, "figure": pair.difference}
        for trial in trials
        for found in trial.evaluation.association.values()
        for pair in found.pairs
    ]
    arms = list(dict.fromkeys(trial.arm for trial in trials))
    return _by_arm(pl.DataFrame(rows), "pair", arms, title="difference between groups")


def losses(table: pl.DataFrame) -> str:
    """Training loss by step, a line per training."""
    arms = sorted(table["arm"].unique().to_list(), key=lambda arm: arm != "original")
    chart = (
        alt.Chart(table)
        .mark_line(strokeWidth=1.5, opacity=0.8)
        .encode(
            x=alt.X("step:Q", title="step"),
            y=alt.Y("loss:Q", title="contrastive loss", scale=alt.Scale(zero=False)),
            color=_arm_colour(arms),
            detail="seed:N",
        )
    )
    return to_svg(chart.properties(width=WIDTH, height=200))
