"""What a benchmark prints: the machine, tables, and what it leaves out; as markdown."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Table:
    """A table of text, with a sentence above it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.caption}: {row} has not the columns {self.columns}")

    def markdown(self) -> str:
        """As markdown, padded so that it reads well in a terminal too."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.columns))]

        def line(cells: Sequence[str]) -> str:
            padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
            return f"| {' | '.join(padded)} |"

        rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
        head = [self.caption, ""] if self.caption else []
        return "\n".join([*head, line(self.columns), rule, *map(line, self.rows)])


@dataclass(frozen=True)
class Report:
    """What came out of one run.

    Attributes
    ----------
    title : the question in a few words
    tables : the figures, ratios among them
    leaves_out : what the figures do not tell, a sentence each
    machine : as `machine.describe` says it
    """

    title: str
    tables: tuple[Table, ...]
    leaves_out: tuple[str, ...]
    machine: str

    def markdown(self) -> str:
        left_out = "\n".join(f"- {sentence}" for sentence in self.leaves_out)
        parts = [f"### {self.title}", *(table.markdown() for table in self.tables)]
        return "\n\n".join([*parts, f"Left out:\n\n{left_out}", f"On {self.machine}."]) + "\n"

    def show(self, file: Path | None = None) -> None:
        """Print it, and write it to a file if one is named."""
        print(self.markdown(), end="")
        if file is not None:
            file.write_text(self.markdown())


def progress(message: str) -> None:
    """Say what goes on, beside the report: to the standard error."""
    print(message, file=sys.stderr, flush=True)


def seconds(number: float) -> str:
    """Three digits: 0.000243, 0.125, 12.3, 415."""
    return f"{number:.0f}" if number >= 100 else f"{number:#.3g}"


def power(number: float) -> str:
    """A round number as people say it: 1e4, 2.5e6."""
    digits, exponent = f"{number:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def exact(number: float) -> str:
    """Two digits and an exponent: 3.1e-09."""
    return f"{number:.1e}"


def times(number: float) -> str:
    """A ratio: 0.52, 3.1, 250."""
    return f"{number:.2g}" if number < 100 else f"{number:.0f}"
