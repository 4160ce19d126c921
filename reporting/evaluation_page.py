"""The page of an evaluation: what protocols found, as one HTML file without scripts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evaluation.draws import Measurement, NullKind
from evaluation.results import ProtocolResult, ProtocolRun, RunDifferences, compare_runs
from m4.errors import InputError
from pipelines import storage
from reporting.charts import FEWEST
from reporting.drawings import (
    Drawing,
    check_models,
    few_images,
    left_out,
    percent,
    readable,
    tables,
)
from reporting.evaluation_charts import (
    association_heat_map,
    before_after,
    cells,
    headline_dots,
    skew_dumbbells,
)
from reporting.page import EMPTY, LARGEST

NULLS: dict[NullKind, str] = {
    "permutation": "images trade their groups",
    "multinomial": "preferences are drawn from the target shares",
    "chance": "answers are guessed",
}


@dataclass(frozen=True)
class ProtocolSection:
    """What one protocol found.

    Attributes
    ----------
    results : of models that were measured alike; of two, the one before is the first
    differences : of two models; None: not compared
    """

    results: tuple[ProtocolResult, ...]
    differences: RunDifferences | None = None

    @classmethod
    def of(cls, runs: Sequence[ProtocolRun]) -> "ProtocolSection":
        """Runs of one protocol; two are compared resample by resample."""
        compared = compare_runs(runs[0], runs[1]) if len(runs) == 2 else None
        return cls(tuple(run.result for run in runs), compared)


@dataclass(frozen=True)
class Figure:
    """A chart on the page; without a picture where everything in it had to be left out."""

    caption: str
    svg: Markup
    note: str


@dataclass(frozen=True)
class Row:
    """A headline of one model."""

    model: str
    found: Measurement


def write_evaluation_page(path: Path, sections: Sequence[ProtocolSection]) -> Path:
    """Write the page and return its path. Parameters and errors as for `evaluation_page`."""
    storage.write_bytes(str(path), evaluation_page(sections).encode())
    return path


def evaluation_page(sections: Sequence[ProtocolSection]) -> str:
    """The page as HTML that opens anywhere: tables of headlines, and charts of all figures.

    Raises `InputError` where a section's models were not measured alike, or the page would be
    above `reporting.page.LARGEST` bytes.
    """
    for section in sections:
        check_models(section.results)
    environment = Environment(
        loader=PackageLoader("reporting", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["figure"] = lambda number: EMPTY if number is None else f"{number:z.3f}"
    environment.filters["chance"] = _chance
    environment.filters["percent"] = percent
    environment.filters["readable"] = readable
    models = dict.fromkeys(result.model for section in sections for result in section.results)
    html = environment.get_template("evaluation_page.html").render(
        models=list(models),
        sections=[_shown(section) for section in sections],
        fewest=FEWEST,
    )
    size = len(html.encode())
    if size > LARGEST:
        raise InputError(
            f"the page of {len(sections)} protocols would be {size:,} bytes, above {LARGEST:,}; "
            "write a page for each"
        )
    return html


def _chance(p_value: float | None) -> str:
    if p_value is None:
        return EMPTY
    return "< 0.001" if p_value < 0.0005 else f"{p_value:.3f}"


def _shown(section: ProtocolSection) -> dict[str, object]:
    """What the template says of a section."""
    results = section.results
    headlines, hidden = _headlines(results)
    kinds = dict.fromkeys(
        found.null.kind
        for result in results
        for found in (*result.headlines, *result.details)
        if found.null is not None
    )
    return {
        "first": results[0],
        "models": [result.model for result in results],
        "losses": _losses(results),
        "headlines": headlines,
        "hidden": left_out(hidden) if hidden else "",
        "nulls": [NULLS[kind] for kind in kinds],
        "figures": _figures(section),
    }


def _losses(results: Sequence[ProtocolResult]) -> list[str]:
    """What did not take part, in words; after the models, where it is not so for all of them."""
    found = []
    for lost in dict.fromkeys(line for result in results for line in result.losses):
        models = [result.model for result in results if lost in result.losses]
        found.append(lost if len(models) == len(results) else f"{', '.join(models)}: {lost}")
    return found


def _headlines(results: Sequence[ProtocolResult]) -> tuple[dict[str, list[Row]], int]:
    """Rows by measure, the models that have a headline one after the other.

    Headlines that tell of few images are left out, and counted.
    """
    of_each: dict[tuple[str, str], list[Row]] = {}
    for result in results:
        for found in result.headlines:
            rows = of_each.setdefault((found.measure, found.subject), [])
            rows.append(Row(result.model, found))
    shown: dict[str, list[Row]] = {}
    hidden = 0
    for (measure, _), rows in of_each.items():
        if any(few_images(row.found) for row in rows):
            hidden += 1
        else:
            shown.setdefault(measure, []).extend(rows)
    return shown, hidden


def _figures(section: ProtocolSection) -> list[Figure]:
    results = section.results
    figures = []
    if any(result.headlines for result in results):
        figures.append(_figure("Headlines.", headline_dots(results)))
    if section.differences is not None:
        drawing = before_after(results[0], results[1], section.differences.headlines)
        figures.append(
            _figure("Differences; what both models share cancels in their intervals.", drawing)
        )
    for table in dict.fromkeys(table for result in results for table in tables(result)):
        those = [result for result in results if table in tables(result)]
        by_groups = cells(those, table) is not None
        draw = association_heat_map if by_groups else skew_dumbbells
        figures.append(_figure(f"{table.title}.", draw(those, table)))
    return figures


def _figure(caption: str, drawing: Drawing) -> Figure:
    # The charts are our own markup: all text in them was escaped when they were rendered.
    return Figure(caption, Markup(drawing.svg), drawing.note)
