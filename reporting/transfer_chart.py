"""The chart of bias transfer: associations in the data against those of models trained on it."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from evaluation.transfer import BiasTransfer, bias_transfer
from reporting.charts import WIDTH
from reporting.drawings import COLOURS, INK, LONGEST_LABEL, SHAPES, Drawing

HEIGHT = 400
MARGIN = 1.08  # the axes end a little beyond the furthest point
AGREEMENT = "#f0efee"
MOST_NAMED = 16
LETTER, LINE = 6.5, 14.0  # pixels that a letter is wide and high
DOT, GAP = 4.0, 8.0  # pixels from the middle of a dot to its edge and to its label


def transfer_fits(points: pl.DataFrame) -> dict[str, BiasTransfer]:
    """The line of each arm, in the order of the table. Parameters as for `transfer_scatter`."""
    return {
        str(arm): bias_transfer(rows["data"].to_numpy(), rows["model"].to_numpy())
        for (arm,), rows in points.group_by("arm", maintain_order=True)
    }


def transfer_scatter(points: pl.DataFrame) -> Drawing:
    """A point for each concept, each arm's line by least squares, and names of extreme concepts.

    Where data and model are of one sign is shaded: there the model leans as its data do.

    Parameters
    ----------
    points : rows of "concept", "arm" (which training, or which model), and the concept's signed
        association in its "data" and in the "model"

    Raises `InputError` where an arm has fewer than three concepts, or no line.
    """
    lines = transfer_fits(points)
    says = {
        arm: f"{arm}: r {found.r:.2f}, R\N{SUPERSCRIPT TWO} {found.r_squared:.2f}"
        for arm, found in lines.items()
    }
    ends = {axis: float(np.abs(points[axis]).max()) * MARGIN for axis in ("data", "model")}
    x, y = _axis(alt.X, "data", ends), _axis(alt.Y, "model", ends)
    looks: dict[str, Any] = {}
    for name, channel, range_ in (("color", alt.Color, COLOURS), ("shape", alt.Shape, SHAPES)):
        scale = alt.Scale(domain=list(says.values()), range=range_[: len(says)])
        looks[name] = channel("arm:N", scale=scale, legend=alt.Legend(labelLimit=LONGEST_LABEL))
    fitted = pl.DataFrame(
        [
            {"arm": says[arm], "data": end, "model": found.intercept + found.slope * end}
            for arm, found in lines.items()
            for end in (-ends["data"], ends["data"])
        ]
    )
    named = points.with_columns(pl.col("arm").replace_strict(says))
    line = alt.Chart(fitted).mark_line(strokeWidth=1.5, clip=True)
    dots = alt.Chart(named).mark_point(filled=True, size=55, opacity=0.85)
    chart = alt.layer(
        *_quadrants(ends, x, y),
        line.encode(x=x, y=y, color=looks["color"]),
        dots.encode(x=x, y=y, **looks),
        *_names(points, ends, x, y),
    )
    return Drawing(chart.properties(width=WIDTH, height=HEIGHT))


def _axis(channel: Any, name: str, ends: Mapping[str, float]) -> Any:
    """0 stands in the middle, so that what agrees in sign takes half of the chart."""
    scale = alt.Scale(domain=[-ends[name], ends[name]], nice=False)
    axis = alt.Axis(grid=False, tickCount=7)
    return channel(f"{name}:Q", title=f"association in the {name}", scale=scale, axis=axis)


def _quadrants(ends: Mapping[str, float], x: Any, y: Any) -> list[Any]:
    """Shades where the signs agree, and the zero lines."""
    corners = [
        {"data": 0.0, "model": 0.0, "far": side * ends["data"], "high": side * ends["model"]}
        for side in (1, -1)
    ]
    shade = alt.Chart(pl.DataFrame(corners)).mark_rect(color=AGREEMENT)
    zero = alt.Chart(pl.DataFrame({"data": [0.0], "model": [0.0]})).mark_rule(color="#a8a29e")
    return [shade.encode(x=x, y=y, x2="far", y2="high"), zero.encode(x=x), zero.encode(y=y)]


def _names(points: pl.DataFrame, ends: Mapping[str, float], x: Any, y: Any) -> list[Any]:
    labels = labels_with_room(points, ends)
    left, right = (alt.Chart(labels.filter(pl.col("side") == side)) for side in ("left", "right"))
    look: dict[str, Any] = {"baseline": "middle", "color": INK}
    texts = [
        left.mark_text(align="right", dx=-GAP, **look),
        right.mark_text(align="left", dx=GAP, **look),
    ]
    return [text.encode(x=x, y=y, text="concept:N") for text in texts]


def labels_with_room(points: pl.DataFrame, ends: Mapping[str, float]) -> pl.DataFrame:
    """Points to name, and on which "side": the furthest from 0, none over another, none over a dot.

    At most `MOST_NAMED`; a concept is named once, at its furthest point.

    Parameters
    ----------
    points : as for `transfer_scatter`
    ends : of the axes, by "data" and "model"
    """
    columns = (points["data"].to_numpy() / ends["data"] + 1) * WIDTH / 2
    rows = (points["model"].to_numpy() / ends["model"] + 1) * HEIGHT / 2
    distance = np.hypot(columns / WIDTH - 0.5, rows / HEIGHT - 0.5)
    taken = np.column_stack([columns - DOT, columns + DOT, rows])  # left, right, middle
    chosen: dict[str, dict[str, object]] = {}
    seen = set()
    for place in np.argsort(-distance, kind="stable"):
        concept = points["concept"][int(place)]
        if concept in seen or len(chosen) == MOST_NAMED:
            continue
        seen.add(concept)
        column, row = columns[place], rows[place]
        width = LETTER * len(concept)
        for side, left in (("left", column - GAP - width), ("right", column + GAP)):
            right = left + width
            beside = (taken[:, 0] < right) & (taken[:, 1] > left)
            free = not (beside & (np.abs(taken[:, 2] - row) < LINE)).any()
            if free and left >= 0 and right <= WIDTH:
                taken = np.vstack([taken, [left, right, row]])
                chosen[concept] = {**points.row(int(place), named=True), "side": side}
                break
    return pl.DataFrame(list(chosen.values()), schema={**points.schema, "side": pl.String})
