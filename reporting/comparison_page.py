"""The page of a comparison of models and methods, as one HTML file without scripts."""

import math
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from debias.comparison import PLAIN, Column, ComparedRow, Comparison
from evaluation.draws import Better, Difference, Measurement, Null
from pipelines import storage
from reporting.charts import FEWEST
from reporting.comparison_chart import comparison_chart
from reporting.drawings import few_images, percent, readable
from reporting.evaluation_charts import verdict
from reporting.page import EMPTY


@dataclass(frozen=True)
class Heading:
    """A column, which direction is better, and what the first model would show without bias."""

    column: Column
    better: Better | None
    null: Null | None


@dataclass(frozen=True)
class Cell:
    """A figure of a row, and what the method changed."""

    figure: Measurement | None
    change: Difference | None

    @property
    def verdict(self) -> str:
        """ "better", "worse", or "" where the two are not told apart."""
        found = "" if self.change is None else verdict(self.change)
        return found if found in ("better", "worse") else ""


def write_comparison_page(path: Path, found: Comparison) -> Path:
    """Write the page and return its path. Errors as for `comparison_page`."""
    storage.write_bytes(str(path), comparison_page(found).encode())
    return path


def comparison_page(found: Comparison) -> str:
    """The page as HTML that opens anywhere: a chart, a table of all figures, and the methods.

    Figures that tell of few images are left out, a measure at a time. Raises `InputError` where
    there are more arms than a chart tells apart.
    """
    environment = Environment(
        loader=PackageLoader("reporting", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["figure"] = lambda number: (
        EMPTY if number is None or math.isnan(number) else f"{number:z.3f}"
    )
    environment.filters["percent"] = percent
    environment.filters["readable"] = readable
    drawing = comparison_chart(found)
    columns = [column for column in found.columns if not _few(found, column)]
    return environment.get_template("comparison_page.html").render(
        found=found,
        headings=[_heading(found, column) for column in columns],
        rows=[(row, [_cell(row, column) for column in columns]) for row in found.rows],
        about=[(row, notes) for row in found.rows if (notes := notes_of(row))],
        svg=Markup(drawing.svg),  # our own markup: text in it was escaped when it was rendered
        note=drawing.note,
        fewest=FEWEST,
        plain=PLAIN,
    )


def notes_of(row: ComparedRow) -> tuple[str, ...]:
    """What is said of a row: what it was fitted on, why it failed, what it has no answer for."""
    notes = [row.source] if row.source else []
    if row.failure is not None:
        notes.append(f"failed: {row.failure}")
    notes += [f"{task}: undefined ({why})" for task, why in row.undefined.items()]
    if row.seen:
        notes.append(f"{row.seen:,} images to fit on are measured on too")
    return tuple(notes)


def _few(found: Comparison, column: Column) -> bool:
    figures = (row.figure(column) for row in found.rows)
    return any(figure is not None and few_images(figure) for figure in figures)


def _cell(row: ComparedRow, column: Column) -> Cell:
    return Cell(row.figure(column), row.change(column))


def _heading(found: Comparison, column: Column) -> Heading:
    figures = [row.figure(column) for row in found.rows]
    better = next(figure.better for figure in figures if figure is not None)
    return Heading(column, better, None if figures[0] is None else figures[0].null)
