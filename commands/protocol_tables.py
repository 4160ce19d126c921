"""Tables for the screen: what protocols found, and what differs between two models."""

from collections.abc import Sequence
from typing import TypeVar

from rich.table import Table
from rich.text import Text

from commands.console import table_of
from evaluation.draws import Difference, Interval, Measurement, Null
from evaluation.results import ProtocolRun, RunDifferences
from reporting.drawings import few_images, readable

MOST_HEADLINES = 12

Found = TypeVar("Found", Measurement, Difference)


def headline_table(name: str, run: ProtocolRun) -> Table:
    """Headlines of a protocol, the foremost where there are many; below, what was left out."""
    result = run.result
    images = ", ".join(f"{used.images:,} of {used.name}" for used in result.sets.values())
    title = f"{name}: {result.model}, {images}"
    table = measurement_table(title, _foremost(result.headlines), result.resampling.level)
    notes = (*_cut(result.headlines, f"all are in {name}.csv"), *result.losses)
    table.caption = Text("\n".join(notes)) if notes else None
    return table


def measurement_table(title: str, found: Sequence[Measurement], level: float) -> Table:
    """Figures with their intervals, and what they are without bias."""
    rows = []
    for each in found:
        null, interval = each.null, each.interval
        few = " (few images)" if few_images(each) else ""
        rows.append(
            (
                f"{_named(each)}{few}",
                _figure(each.value, interval),
                "" if null is None else _figure(null.mean, null),
                "" if each.excess is None else f"{each.excess:+.3f}",
                "" if each.p_value is None else f"{each.p_value:.2g}",
            )
        )
    columns = ("measure", f"figure [{level:.0%}]", f"without bias [{level:.0%}]", "excess", "p")
    return _folding(table_of(title, columns, rows))


def difference_table(found: RunDifferences) -> Table:
    """What differs between two models, headline by headline."""
    rows = [
        (
            _named(each),
            f"{each.first:.3f}",
            f"{each.second:.3f}",
            _figure(each.value, each.interval, sign="+"),
            "" if each.p_value is None else f"{each.p_value:.2g}",
        )
        for each in _foremost(found.headlines)
    ]
    columns = ("measure", "first", "second", "difference [interval]", "p")
    title = f"On the same images and prompts: {found.first}, and {found.second}"
    table = _folding(table_of(title, columns, rows))
    notes = _cut(found.headlines, "--json prints all")
    table.caption = Text("\n".join(notes)) if notes else None
    return table


def _foremost(found: Sequence[Found]) -> Sequence[Found]:
    """Those with the smallest p-values, where there are too many to look at."""
    if len(found) <= MOST_HEADLINES:
        return found
    by = sorted(found, key=lambda each: 1.0 if each.p_value is None else each.p_value)
    return by[:MOST_HEADLINES]


def _cut(found: Sequence[Found], others: str) -> tuple[str, ...]:
    if len(found) <= MOST_HEADLINES:
        return ()
    return (f"The {MOST_HEADLINES} of {len(found)} headlines with the smallest p; {others}.",)


def _named(found: Measurement | Difference) -> str:
    return f"{readable(found.measure)}; {found.subject}"


def _figure(value: float, around: Interval | Null | None, sign: str = "") -> str:
    shown = f"{value:{sign}z.3f}"
    if around is None:
        return shown
    return f"{shown}\n[{around.low:{sign}z.3f}, {around.high:{sign}z.3f}]"  # names need the width


def _folding(table: Table) -> Table:
    """Names are folded, where figures must stay on their line."""
    for column in table.columns[1:]:
        column.no_wrap = True
    table.columns[0].overflow = "fold"
    return table
