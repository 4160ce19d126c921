"""A comparison of models and methods as tables on the screen."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from commands.console import console, table_of
from debias.comparison import Column, ComparedRow, Comparison
from reporting.comparison_page import methods_of, told
from reporting.drawings import few_images, readable

MARKS = {"better": " +", "worse": " -"}
NAME, FIGURE = 29, 21  # width of a row's name, and of a figure with its interval


def comparison_tables(found: Comparison) -> Iterator[Table]:
    """Figures, in as many tables as the screen's width asks for; then what each was fitted on.

    Of several seeds the mean, the smallest and the largest are shown; else each figure with its
    interval, and whether it is better or worse than without the method.
    """
    columns, several = found.columns, found.seeded
    rows = list({_name(found, row): row for row in reversed(found.rows)}.values())[::-1]
    each = max(1, (console.width - NAME) // FIGURE)
    for first in range(0, len(columns), each):
        part = columns[first : first + each]
        lines = [
            (_name(found, row), *(_cell(found, row, column, several) for column in part))
            for row in rows
        ]
        titles = [_title(found, column) for column in part]
        table = table_of("" if first else found.title, ("model, method", *titles), lines)
        for column in table.columns:
            column.overflow = "fold"
        table.caption = Text(_legend(found, several)) if first + each >= len(columns) else None
        yield table
    yield _about(found)


def _name(found: Comparison, row: ComparedRow) -> str:
    """The arm, which is the model where there are not several seeds, and the method."""
    return f"{found.arms[row.model]}, {row.method}"


def _title(found: Comparison, column: Column) -> str:
    figures = (row.figure(column) for row in found.rows)
    few = any(figure is not None and few_images(figure) for figure in figures)
    return f"{column.subject}\n{readable(column.measure)}{' (few images)' if few else ''}"


def _cell(found: Comparison, row: ComparedRow, column: Column, several: bool) -> str:
    if several:
        spread = found.spread(found.arms[row.model], row.method, column)
        if spread is None:
            return ""
        return f"{spread.mean:z.3f}\n[{spread.least:z.3f}, {spread.most:z.3f}]{_null(spread.null)}"
    figure = row.figure(column)
    if figure is None:
        return ""
    mark = MARKS.get(told(row.change(column), found.level), "")
    interval = figure.interval
    around = "" if interval is None else f"\n[{interval.low:z.3f}, {interval.high:z.3f}]"
    null = None if figure.null is None else figure.null.mean
    return f"{figure.value:z.3f}{mark}{around}{_null(null)}"


def _null(mean: float | None) -> str:
    return "" if mean is None else f"\n({mean:z.3f})"


def _legend(found: Comparison, several: bool) -> str:
    if several:
        return (
            "Mean of the seeds [smallest, largest] (mean without bias); comparison.csv and the "
            "page have each model's own interval."
        )
    return (
        f"Figures with their {found.level:.0%} intervals (mean without bias); + better, - worse "
        "than the model without the method (a model as it is: than the first), false discoveries "
        "controlled."
    )


def _about(found: Comparison) -> Table:
    """What methods were fitted on, in which time, and where there is no answer."""
    lines = [
        (about.method, about.shown_models, about.shown_seconds, "\n".join(about.notes))
        for about in methods_of(found)
    ]
    table = table_of("Methods", ("method", "models", "seconds to fit", "fitted on"), lines)
    for column in (table.columns[1], table.columns[3]):
        column.justify, column.overflow = "left", "fold"
    return table
