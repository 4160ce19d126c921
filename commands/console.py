"""What a person sees: progress while work runs, a short table at the end; or JSON for a program."""

import contextlib
import json as json_format
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipelines.record import StageRecord

# What is printed names files and keys, whose brackets and colons are no markup.
console = Console(markup=False, emoji=False)
messages = Console(stderr=True, markup=False, emoji=False)


@dataclass(frozen=True)
class Shown:
    """How much is printed.

    Attributes
    ----------
    quiet : no progress bars
    json : print the result as JSON
    """

    quiet: bool = False
    json: bool = False

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar; yields what a stage calls with (done, in all)."""
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=36),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        bar = Progress(*columns, console=messages, disable=self.quiet or self.json)
        task = bar.add_task(title, total=None)

        def tell(done: int, total: int) -> None:
            bar.start()  # not before there is something to show
            bar.update(task, completed=done, total=total)

        try:
            yield tell
        finally:
            if bar.live.is_started:
                bar.stop()

    def result(self, content: Any, *tables: Table) -> None:
        """Print a result: the tables for a person, or the content as JSON.

        A number that is not finite, which JSON does not have, is null.
        """
        if self.json:
            plain = from_json(to_json(content, inf_nan_mode="null"))
            sys.stdout.write(json_format.dumps(plain, indent=1, allow_nan=False) + "\n")
        self.person(*tables)

    def person(self, *parts: Table | str) -> None:
        """Print for a person; nothing where a program reads JSON."""
        for part in () if self.json else parts:
            console.print(part, soft_wrap=isinstance(part, str))


def table_of(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    return table


def record_table(*records: StageRecord) -> Table:
    """What stages did: rows in = kept + dropped + failed."""
    rows = [
        (
            record.stage,
            f"{record.rows_in:,}",
            f"{record.kept:,}",
            f"{record.dropped:,}",
            f"{record.failed:,}",
            f"{record.seconds:.1f}",
        )
        for record in records
    ]
    return table_of("Stages", ("stage", "rows in", "kept", "dropped", "failed", "seconds"), rows)
