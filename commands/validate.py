"""m4-balance validate."""

import sys

from rich.table import Table

from commands.console import Shown, table_of
from pipelines.validation import Finding, ValidateSettings, Validation, validate


def command(settings: ValidateSettings, shown: Shown = Shown()) -> int:
    """Find out what is wrong with shards, and how to mend it. Exit code 1 if there are errors."""
    with shown.progress("validate") as progress:
        found = validate(settings, progress=progress)
    shown.result(found.model_dump(mode="json"), *tables_of(found))
    if not found.errors:
        return 0
    counts = ", ".join(f"{each.count} x {each.kind.name}" for each in found.errors)
    print(f"the shards have errors: {counts}", file=sys.stderr)
    return 1


def tables_of(found: Validation) -> tuple[Table, ...]:
    """How often each kind was found; and where first, what it does, and how to mend it."""
    title = f"{found.shards:,} shards, {found.samples:,} samples that can be used"
    rows = [
        (each.kind.name, str(each.kind.severity), f"{each.count:,}", f"{each.shards:,}")
        for each in found.findings
    ]
    rows = rows or [("nothing is wrong", "", "0", "0")]
    counts = table_of(title, ("", "severity", "found", "shards"), rows)
    return counts, *(_explained(each) for each in found.findings)


def _explained(finding: Finding) -> Table:
    table = Table.grid(padding=(0, 1))
    table.title, table.title_justify = finding.kind.name, "left"
    where = f"{finding.name} at byte {finding.offset:,} of {finding.shard}"
    for head, text in (
        ("first", where),
        ("effect", finding.kind.effect),
        ("mend", finding.kind.mend),
    ):
        table.add_row(f"  {head}", text)
    return table
