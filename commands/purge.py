"""m4-balance purge."""

from rich.table import Table

from commands.console import Shown, console, table_of
from pipelines.purging import REPORT, Purge, PurgeSettings, purge


def command(settings: PurgeSettings, shown: Shown = Shown()) -> None:
    """Delete annotations, patterns and the report; the policy and the manifests are kept."""
    found = purge(settings)
    shown.result(found.model_dump(mode="json"), part_table(found))
    if not shown.json:
        console.print(_ending(settings, found), soft_wrap=True, highlight=False, markup=False)


def part_table(found: Purge) -> Table:
    """What goes, with its size."""
    rows = [(part.name, f"{part.files:,}", f"{part.bytes / 1e6:,.2f}") for part in found.parts]
    title = "To be deleted" if found.record is None else "Deleted"
    return table_of(title, ("", "files", "MB"), rows)


def _ending(settings: PurgeSettings, found: Purge) -> str:
    kept = f"Kept: policy, catalogue, manifests, failures, sums in {settings.run}."
    if found.record is None:
        report = ""
        if any(part.name == REPORT for part in found.parts):
            report = (
                f" {REPORT} may show pictures: to keep a report, write it without --pictures and "
                "copy it out of the run."
            )
        return f"{kept}{report} Nothing was deleted; add --yes to delete."
    return f"{kept} run.json says what was deleted."
