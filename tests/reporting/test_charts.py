"""The love plot: which rows it shows, and that it is the same picture each time."""

import xml.etree.ElementTree as ElementTree

import polars as pl
import pytest

from reporting.charts import FEWEST, MOST_LABELS, love_plot


def table(rows: int, **changes: object) -> pl.DataFrame:
    """A love table of so many rows, the largest first; `changes` are of its first row."""
    sizes = [round(0.9 - 0.01 * i, 4) for i in range(rows)]
    frame = pl.DataFrame(
        {
            "constraint": [f"value{i:02d} & label" for i in range(rows)],
            "before": [(-1.0) ** i * size for i, size in enumerate(sizes)],
            "after": [-0.1 * size for size in sizes],
            "examples": [100.0] * rows,
        }
    )
    first = pl.int_range(pl.len()) == 0
    return frame.with_columns(
        pl.when(first).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
        for name, value in changes.items()
    )


def shown(svg: str) -> list[str]:
    """Names of the rows in a picture, from top to bottom."""
    texts = [element.text or "" for element in ElementTree.fromstring(svg).iter()]
    return [text for text in texts if text.startswith("value")]


def test_rows_come_in_the_tables_order_with_both_states() -> None:
    svg = love_plot(table(6))
    assert shown(svg) == [f"value{i:02d} & label" for i in range(6)]
    assert "before" in svg and "balanced (weights)" in svg and "standardised difference" in svg
    assert svg == love_plot(table(6))


def test_only_the_largest_are_shown() -> None:
    names = shown(love_plot(table(60)))
    assert names == [f"value{i:02d} & label" for i in range(MOST_LABELS)]


@pytest.mark.parametrize("change", [{"examples": FEWEST - 1.0}, {"before": None, "after": None}])
def test_small_cells_and_what_cannot_be_compared_are_left_out(change: dict[str, object]) -> None:
    assert shown(love_plot(table(3, **change))) == ["value01 & label", "value02 & label"]


def test_what_lost_all_its_weight_is_shown_as_it_was() -> None:
    def marks(svg: str) -> int:
        """Points and the lines between them."""
        return svg.count('aria-roledescription="point"') + svg.count('roledescription="rule mark"')

    assert shown(love_plot(table(3, after=None)))[0] == "value00 & label"
    assert marks(love_plot(table(3))) - marks(love_plot(table(3, after=None))) == 2


def test_nothing_to_show_is_an_empty_picture() -> None:
    assert shown(love_plot(table(3).clear())) == []
