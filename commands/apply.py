"""m4-balance apply."""

from rich.table import Table

from commands.console import Shown, record_table, table_of
from pipelines.balance import ManifestBalance
from pipelines.opt_out import OptOutReport
from pipelines.settings import ApplySettings
from pipelines.stages import apply


def command(settings: ApplySettings, shown: Shown = Shown()) -> None:
    """Draw a manifest: how often each sample is used, from the policy and the annotations."""
    with shown.progress("apply") as progress:
        record = apply(settings, progress=progress)
    tables = [record_table(record)]
    if record.balance is not None:
        tables.append(balance_table(record.balance))
    if record.opt_outs is not None:
        tables.append(opt_out_table(record.opt_outs))
    shown.result(record.model_dump(mode="json"), *tables)


def balance_table(found: ManifestBalance) -> Table:
    """How balanced the data is, from what it was to what was drawn of it."""
    rows = [
        (
            stage,
            f"{balance.realised.copies:,.0f}",
            f"{balance.realised.max_violation:.1e}",
            f"{balance.bias.representation_bias:.4f}",
            f"{balance.bias.association_bias:.4f}",
        )
        for stage, balance in found.stages.items()
    ]
    columns = ("", "copies", "violation", "repr. bias", "assoc. bias")
    return table_of("Balance, the largest of each", columns, rows)


def opt_out_table(found: OptOutReport) -> Table:
    """What each opt-out list names, and what all together take away."""
    rows = [
        (each.path, f"{each.entries:,} {each.kind}", f"{each.matched:,}") for each in found.lists
    ]
    lost = "" if found.copies_lost is None else f"{found.copies_lost:.2%} of the copies"
    rows.append(("in all", lost, f"{found.samples:,}"))
    if found.without_url is not None:
        rows.append(("state no url", "", f"{found.without_url:,}"))
    return table_of("Opted out", ("list", "entries", "samples"), rows)
