"""What charts of evaluations share: which figures they show, and the picture with its note."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import polars as pl

from evaluation.draws import Measurement
from evaluation.results import ProtocolResult, check_alike
from m4.errors import InputError
from reporting.charts import ARMS, FEWEST, MOST_LABELS, OTHER_ARMS, to_svg

INK = "#1c1917"
COLOURS = (*ARMS.values(), *OTHER_ARMS)  # of models, in their order
SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down")
LONGEST_LABEL = 260  # pixels
COLOUR_BAR = re.compile(r"(?<=[#\"])gradient_\d+(?=[)\"])")
SHORT = {"able": "ABLE", "c_asc": "C-ASC", "ndkl": "NDKL"}
ABBREVIATED = re.compile(rf"^({'|'.join(SHORT)})(?![a-z_])")


@dataclass(frozen=True)
class Table:
    """One task's figures of one measure, by subject; a subject is written "task: name"."""

    task: str
    measure: str

    @property
    def title(self) -> str:
        return ": ".join(part for part in (self.task, readable(self.measure)) if part)


@dataclass(frozen=True, eq=False)
class Drawing:
    """A chart, and what it leaves out.

    Attributes
    ----------
    chart : None where nothing is left to show
    hidden : figures that tell of fewer than `FEWEST` images
    beyond : rows after the first `MOST_LABELS`
    """

    chart: Any
    hidden: int = 0
    beyond: int = 0

    @property
    def svg(self) -> str:
        """The picture; empty where nothing is left to show."""
        if self.chart is None:
            return ""
        svg = to_svg(self.chart)
        # The renderer counts colour bars as it goes; named by content they are always the same.
        return COLOUR_BAR.sub(f"bar{crc32(COLOUR_BAR.sub('', svg).encode())}", svg)

    @property
    def note(self) -> str:
        """What is left out, in words; empty where nothing is."""
        notes = []
        if self.beyond:
            notes.append(f"Shown are the first {MOST_LABELS} of {self.beyond + MOST_LABELS:,}.")
        if self.hidden:
            notes.append(left_out(self.hidden))
        return " ".join(notes)


def readable(measure: str) -> str:
    """A measure's name in words: "max skew@1000"."""
    return ABBREVIATED.sub(lambda found: SHORT[found[0]], measure).replace("_", " ")


def check_models(results: Sequence[ProtocolResult]) -> None:
    """Raise `InputError` where results are not of different models, measured alike."""
    names = [result.model for result in results]
    for other in results[1:]:
        check_alike(results[0], other)
    if len(set(names)) < len(names) or len(names) > len(COLOURS):
        raise InputError(
            f"models {', '.join(names)}: give each once, and at most {len(COLOURS)} of them"
        )


def few_images(found: Measurement) -> bool:
    """Whether a figure tells of fewer than `FEWEST` images, by itself or as it compares a group."""
    group = found.images if found.smallest_group is None else found.smallest_group
    return min(found.images, group) < FEWEST


def visible(figures: pl.DataFrame, *together: str) -> tuple[pl.DataFrame, int]:
    """Figures that do not tell of few images, as `few_images`, and how many subjects do.

    Figures with equal values in the columns `together` are complements, from which one that is
    hidden alone would follow: all are hidden where one is.
    """
    fewest = pl.min_horizontal("images", "smallest_group").min()
    few = fewest.over("measure", *(together or ("subject",))) < FEWEST
    hidden = figures.filter(few).select("measure", "subject").unique()
    return figures.filter(~few), len(hidden)


def left_out(figures: int) -> str:
    """How many figures are not shown, in words."""
    return f"Left out, as they tell of fewer than {FEWEST} images: {figures:,}."


def tables(result: ProtocolResult) -> tuple[Table, ...]:
    """The tables of a result's details, in their order."""
    names = figures_of([result], headlines=False).select("task", "measure")
    return tuple(Table(*row) for row in names.unique(maintain_order=True).iter_rows())


def figures_of(results: Sequence[ProtocolResult], *, headlines: bool) -> pl.DataFrame:
    """The headlines, or all other figures, of every model, with "task" and "name" of subjects."""
    found = []
    for result in results:
        table, first = result.table(), len(result.headlines)
        part = table.head(first) if headlines else table.slice(first)
        found.append(part.with_columns(model=pl.lit(result.model)))
    parts = pl.col("subject").str.extract_groups(r"^(?:(?<task>[^:]*): )?(?<name>.*)$")
    return (
        pl.concat(found)
        .with_columns(parts.struct.unnest())
        .with_columns(pl.col("task").fill_null(""))
    )


def figures_in(results: Sequence[ProtocolResult], table: Table) -> pl.DataFrame:
    """The figures of a table, of every model. Raises `InputError` naming the tables there are."""
    details = figures_of(results, headlines=False)
    wanted = (pl.col("task") == table.task) & (pl.col("measure") == table.measure)
    figures = details.filter(wanted)
    if len(figures) == 0:
        there = ", ".join(each.title for each in tables(results[0])) or "none"
        raise InputError(f"{results[0].protocol}: no table {table.title}; there are {there}")
    return figures


def lower_is_better(figures: pl.DataFrame) -> bool:
    """Whether that holds of all figures."""
    return bool((figures["better"] != "higher").all())


def percent(share: float) -> str:
    """A share in words: "95 %"."""
    return f"{share * 100:g} %"
