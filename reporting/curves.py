"""The chart of a cost curve, as SVG."""

from typing import Any

import altair as alt
import polars as pl

from m4.points import Curve
from reporting.charts import WIDTH, to_svg

INK = "#1c1917"
COLOURS = ["#c2410c", "#0f766e", "#4338ca", "#a16207", "#be185d", "#475569"]
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 1]]  # rates, where colour is lost
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
PANELS = {
    "representation_bias": "representation bias",
    "association_bias": "association bias",
}


def cost_chart(curve: Curve) -> str:
    """Bias against effective sample size: a line per rate and cap, colours of rates, marks of caps.

    A cross at the right is the data as it is, a ring the point that was chosen. Points that cannot
    be met are not there.
    """
    start = {name: getattr(curve.before, name) for name in PANELS}
    chosen = [] if curve.chosen is None else [curve.chosen]
    rings = curve.model_copy(update={"points": tuple(chosen)}).frame()
    panels = [_panel(name, _named(curve.frame()), rings, start[name]) for name in PANELS]
    return to_svg(alt.vconcat(*panels).resolve_scale(color="shared", shape="shared"))


def _named(rows: pl.DataFrame) -> pl.DataFrame:
    """The solved rows, with rates and caps as a legend names them."""
    return rows.filter(pl.col("status") == "solved").with_columns(
        rate=pl.format("rate {}", pl.col("eta").map_elements(_short, pl.String)),
        limit=pl.format("cap {}", pl.col("cap").map_elements(_short, pl.String)),
    )


def _short(number: float) -> str:
    return f"{number:g}"


def _panel(name: str, rows: pl.DataFrame, rings: pl.DataFrame, start: float) -> Any:
    rates = rows.sort("eta")["rate"].unique(maintain_order=True).to_list()
    limits = rows.sort("cap")["limit"].unique(maintain_order=True).to_list()
    x = alt.X(
        "effective_share:Q",
        title="effective sample size, share of the examples",
        axis=alt.Axis(format="%"),
        scale=alt.Scale(zero=False),
    )
    y = alt.Y(f"{name}:Q", title=PANELS[name], scale=alt.Scale(zero=True))
    base = alt.Chart(rows).encode(
        x=x, y=y, color=alt.Color("rate:N", scale=alt.Scale(domain=rates, range=COLOURS))
    )
    lines = base.mark_line(strokeWidth=1.5).encode(
        detail="limit:N",
        order="factor:Q",
        strokeDash=alt.StrokeDash("rate:N", scale=alt.Scale(domain=rates, range=DASHES)),
    )
    marks = base.mark_point(size=60, strokeWidth=1.5, opacity=1).encode(
        shape=alt.Shape("limit:N", scale=alt.Scale(domain=limits, range=SHAPES))
    )
    before = alt.Chart(pl.DataFrame({"effective_share": [1.0], name: [start]}))
    cross = before.mark_point(shape="cross", angle=45, filled=True, size=110, color=INK)
    ring = alt.Chart(rings).mark_point(size=260, strokeWidth=2, color=INK, opacity=1)
    layers = [lines, marks, cross.encode(x=x, y=y)]
    layers += [ring.encode(x=x, y=y)] if len(rings) else []
    return alt.layer(*layers).properties(width=WIDTH, height=210)
