"""m4-balance receipt: what a training run read, against what its manifest planned."""

import sys
from typing import Annotated, Literal

import tyro
from rich.table import Table

from commands.console import Shown, table_of
from pipelines.receipt_check import (
    EpochCheck,
    ReceiptCheck,
    ReceiptSettings,
    UseCount,
    check_receipt,
    named,
)
from pipelines.receipts import read_receipt

NAMED = 10  # differences of an epoch that are printed


def command(
    action: Annotated[tyro.conf.Positional[Literal["check"]], tyro.conf.arg()],
    /,
    settings: ReceiptSettings,
    shown: Shown = Shown(),
) -> int:
    """Compare what training runs wrote down of their epochs with the manifest's plan.

    Exit code 1 where they differ. docs/receipts.md says how other consumers write receipts.
    """
    receipts = {path: read_receipt(path) for path in settings.receipts}
    with shown.progress("check receipts") as progress:
        found = check_receipt(settings.manifest, receipts, progress=progress)
    content = {"agrees": found.agrees, **found.model_dump(mode="json")}
    shown.result(content, *map(epoch_table, found.epochs))
    for sentence in complaints(found):
        print(sentence, file=sys.stderr)
    return 0 if found.agrees else 1


def epoch_table(epoch: EpochCheck) -> Table:
    """Uses of an epoch, by weight where the manifest has weights."""
    by_weight = [
        (named(each.weight), each.uses) for each in epoch.weights if each.weight is not None
    ]
    rows = [_row(name, uses) for name, uses in [*by_weight, ("all", epoch.uses)]]
    title = f"Epoch {epoch.epoch}, {'read' if epoch.finished else 'stopped'}"
    if not epoch.finished:
        title += f" when {epoch.share_read:.1%} was read"
    if epoch.redraw_seed is not None:
        title += f"; copies drawn with seed {epoch.redraw_seed}"
    if epoch.p_value is not None:
        title += f"; shares of weights: p = {epoch.p_value:.2g}"
    return table_of(title, ("uses", "planned", "read", "set aside", "missing"), rows)


def complaints(found: ReceiptCheck) -> list[str]:
    """A sentence for each difference; of an epoch the first ones."""
    says = [*found.strangers, *found.gaps]
    for epoch in found.epochs:
        first = epoch.differences[:NAMED]
        says += [f"epoch {epoch.epoch}: {each.where}: {each.says}" for each in first]
        more = len(epoch.differences) - len(first)
        if more:
            says.append(f"epoch {epoch.epoch}: and {more:,} more (--json shows all)")
    return says


def _row(name: str, uses: UseCount) -> tuple[str, ...]:
    return name, *(f"{each:,}" for each in (uses.planned, uses.read, uses.failed, uses.missing))
