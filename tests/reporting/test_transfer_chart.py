"""The chart of bias transfer: its points, lines, shades, and the names that find room."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.transfer import bias_transfer
from m4.errors import InputError
from reporting.charts import WIDTH
from reporting.transfer_chart import (
    GAP,
    HEIGHT,
    LETTER,
    LINE,
    MOST_NAMED,
    labels_with_room,
    transfer_fits,
    transfer_scatter,
)
from tests.measured_runs import marked

CONCEPTS = ["doctor", "nurse", "pilot", "cook"]
DATA = [0.4, -0.3, 0.1, -0.05]


def points_of(**arms: list[float]) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame({"concept": CONCEPTS, "data": DATA, "model": model, "arm": arm})
        for arm, model in arms.items()
    )


TWO = points_of(original=[0.2, -0.1, 0.1, 0.0], balanced=[0.05, 0.0, 0.02, -0.04])


def test_each_arm_has_its_points_and_its_line():
    drawing = transfer_scatter(TWO)
    assert [row["model"] for row in marked(drawing, "point")] == TWO["model"].to_list()
    for arm, rows in TWO.group_by("arm"):
        found = bias_transfer(rows["data"].to_numpy(), rows["model"].to_numpy())
        ends = [row for row in marked(drawing, "line") if row["arm"].startswith(str(arm[0]))]
        for end in ends:
            assert end["model"] == pytest.approx(found.intercept + found.slope * end["data"])
        assert ends[0]["data"] == -ends[1]["data"] < min(DATA)
        assert ends[0]["arm"] == f"{arm[0]}: r {found.r:.2f}, R² {found.r_squared:.2f}"
        assert ends[0]["arm"] in drawing.svg


def test_the_quarters_in_which_signs_agree_are_shaded():
    corners = [(row["far"], row["high"]) for row in marked(transfer_scatter(TWO), "rect")]
    assert len(corners) == 2
    assert all(far * high > 0 for far, high in corners)
    assert corners[0] == tuple(-end for end in corners[1])


def test_lines_are_kept_in_the_order_of_the_arms():
    assert list(transfer_fits(TWO)) == ["original", "balanced"]


def test_an_arm_of_two_concepts_has_no_line():
    with pytest.raises(InputError, match="2 concepts"):
        transfer_scatter(TWO.head(2))


def test_a_concept_is_named_once_at_its_furthest_point():
    labels = labels_with_room(TWO, {"data": 0.5, "model": 0.25})
    assert labels["concept"].to_list() == ["doctor", "nurse", "pilot", "cook"]
    assert labels.row(0, named=True)["model"] == 0.2
    texts = [row["concept"] for row in marked(transfer_scatter(TWO), "text")]
    assert sorted(texts) == sorted(CONCEPTS)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=40),
    st.integers(1, 12),
)
def test_no_name_is_over_another_or_over_a_point_or_outside(
    places: list[tuple[float, float]], letters: int
):
    points = pl.DataFrame(
        {
            "concept": [f"{i:02d}" * letters for i in range(len(places))],
            "data": [float(x) for x, _ in places],
            "model": [float(y) for _, y in places],
            "arm": "a",
        }
    )
    labels = labels_with_room(points, {"data": 1.1, "model": 1.1})
    assert len(labels) <= MOST_NAMED
    columns = (points["data"].to_numpy() / 1.1 + 1) * WIDTH / 2
    heights = (points["model"].to_numpy() / 1.1 + 1) * HEIGHT / 2
    boxes = []
    for row in labels.iter_rows(named=True):
        column = (row["data"] / 1.1 + 1) * WIDTH / 2
        width = LETTER * len(row["concept"])
        left = column - GAP - width if row["side"] == "left" else column + GAP
        boxes.append((left, left + width, (row["model"] / 1.1 + 1) * HEIGHT / 2))
    for place, (left, right, middle) in enumerate(boxes):
        assert left >= 0 and right <= WIDTH
        level = np.abs(heights - middle) < LINE
        assert not ((columns > left) & (columns < right) & level).any()
        for other_left, other_right, other_middle in boxes[:place]:
            apart = other_right <= left or right <= other_left
            assert apart or abs(middle - other_middle) >= LINE
