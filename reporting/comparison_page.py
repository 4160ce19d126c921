"""The page of a comparison of models and methods, as one HTML file without scripts."""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from debias.comparison import PLAIN, Column, ComparedRow, Comparison
from evaluation.draws import Difference, Measurement
from pipelines import storage
from reporting.charts import FEWEST
from reporting.comparison_chart import comparison_chart
from reporting.drawings import few_images, percent, readable
from reporting.evaluation_charts import verdict
from reporting.page import EMPTY


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
    environment.filters["figure"] = lambda number: EMPTY if number is None else f"{number:z.3f}"
    environment.filters["percent"] = percent
    environment.filters["readable"] = readable
    drawing = comparison_chart(found)
    columns = [column for column in found.columns if not _few(found, column)]
    return environment.get_template("comparison_page.html").render(
        found=found,
        columns=columns,
        rows=[(row, [_cell(row, column) for column in columns]) for row in found.rows],
        methods=[row for row in found.rows if row.method != PLAIN],
        nulls=[_null(found, column) for column in columns],
        svg=Markup(drawing.svg),  # our own markup: text in it was escaped when it was rendered
        note=drawing.note,
        fewest=FEWEST,
        plain=PLAIN,
    )


def _few(found: Comparison, column: Column) -> bool:
    figures = (row.figure(column) for row in found.rows)
    return any(figure is not None and few_images(figure) for figure in figures)


def _cell(row: ComparedRow, column: Column) -> Cell:
    return Cell(row.figure(column), row.change(column))


def _null(found: Comparison, column: Column) -> Measurement | None:
    """The first model's figure, whose null stands for all."""
    return found.rows[0].figure(column)
