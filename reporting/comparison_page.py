"""The page of a comparison of models and methods, as one HTML file without scripts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from debias.comparison import PLAIN, Column, ComparedRow, Comparison, Spread
from evaluation.draws import Better, Difference, Measurement
from pipelines import storage
from reporting.charts import FEWEST
from reporting.comparison_chart import comparison_chart
from reporting.drawings import few_images, percent, readable
from reporting.evaluation_charts import verdict
from reporting.page import EMPTY


@dataclass(frozen=True)
class Heading:
    """A column, and which direction is better."""

    column: Column
    better: Better | None


@dataclass(frozen=True)
class SeedRow:
    """A method on an arm: figures over its seeds, with what all of them say of the first arm's."""

    arm: str
    method: str
    cells: list[tuple[Spread | None, str]]


@dataclass(frozen=True)
class Cell:
    """A figure of a row, and what it differs from.

    Attributes
    ----------
    verdict : "better" or "worse" than the first arm's model as it is; "" where that is not told
    by_method : the same of what the method changed on its model; "" of a model as it is too
    """

    figure: Measurement | None
    verdict: str
    by_method: str


def told(change: Difference | None, level: float) -> str:
    """ "better" or "worse"; "" where two are not told apart, false discoveries controlled."""
    if change is None or change.p_fdr is None or change.p_fdr > 1 - level:
        return ""
    found = verdict(change)
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
        rows=[(row, [_cell(row, column, found.level) for column in columns]) for row in found.rows],
        seeds=_seeds(found, columns),
        about=methods_of(found),
        svg=Markup(drawing.svg),  # our own markup: text in it was escaped when it was rendered
        note=drawing.note,
        fewest=FEWEST,
        plain=PLAIN,
    )


@dataclass(frozen=True)
class AboutMethod:
    """A method on some of the models, of which the same is to be said.

    Attributes
    ----------
    models : names; None: all
    seconds : that fitting took, in their order; empty where it failed
    notes : what it was fitted on, why it failed, what it has no answer for
    """

    method: str
    models: tuple[str, ...] | None
    seconds: tuple[float, ...]
    notes: tuple[str, ...]

    @property
    def shown_models(self) -> str:
        return "all" if self.models is None else ", ".join(self.models)

    @property
    def shown_seconds(self) -> str:
        """From the least to the most."""
        ends = dict.fromkeys(f"{end(self.seconds):.2f}" for end in (min, max) if self.seconds)
        return " to ".join(ends)


def methods_of(found: Comparison) -> tuple[AboutMethod, ...]:
    """What is to be said of each method, once for all models of which the same is."""
    rows: dict[tuple[str, tuple[str, ...]], list[ComparedRow]] = {}
    for row in found.rows:
        notes = _notes(row)
        if notes:  # there are none of a model as it is
            rows.setdefault((row.method, notes), []).append(row)
    order = list(dict.fromkeys(row.method for row in found.rows))
    return tuple(
        AboutMethod(
            method,
            None if len(alike) == len(found.models) else tuple(row.model for row in alike),
            tuple(row.fit_seconds for row in alike if row.fit_seconds is not None),
            notes,
        )
        for (method, notes), alike in sorted(rows.items(), key=lambda item: order.index(item[0][0]))
    )


def _notes(row: ComparedRow) -> tuple[str, ...]:
    notes = [row.source] if row.source else []
    if row.failure is not None:
        notes.append(f"failed: {row.failure}")
    notes += [f"{task}: undefined ({why})" for task, why in row.undefined.items()]
    if row.seen:
        notes.append(f"{row.seen:,} of the images are measured on too")
    return tuple(notes)


def _seeds(found: Comparison, columns: Sequence[Column]) -> list[SeedRow]:
    """A row for each arm with each method; none where no arm has several seeds."""
    if not found.seeded:
        return []
    rows: dict[tuple[str, str], list[ComparedRow]] = {}
    for row in found.rows:
        rows.setdefault((found.arms[row.model], row.method), []).append(row)
    return [
        SeedRow(
            arm,
            method,
            [
                (found.spread(arm, method, column), _in_all(seeds, column, found.level))
                for column in columns
            ],
        )
        for (arm, method), seeds in rows.items()
    ]


def _in_all(rows: Sequence[ComparedRow], column: Column, level: float) -> str:
    """What every seed says of its difference from the first arm's; "" where they do not agree."""
    verdicts = {told(row.from_baseline(column), level) for row in rows}
    return verdicts.pop() if len(verdicts) == 1 else ""


def _few(found: Comparison, column: Column) -> bool:
    figures = (row.figure(column) for row in found.rows)
    return any(figure is not None and few_images(figure) for figure in figures)


def _cell(row: ComparedRow, column: Column, level: float) -> Cell:
    return Cell(
        row.figure(column),
        told(row.from_baseline(column), level),
        "" if row.method == PLAIN else told(row.change(column), level),
    )


def _heading(found: Comparison, column: Column) -> Heading:
    figures = (row.figure(column) for row in found.rows)
    return Heading(column, next(figure.better for figure in figures if figure is not None))
