"""m4-balance drift."""

import sys
from typing import Any

from rich.table import Table

from commands.console import Shown, table_of
from m4.drift import Drift, Finding
from pipelines.drifting import DriftSettings, drift

WORST = 10  # constraints that are printed
SMALLEST = 20  # figures of fewer examples are not shown: they may point at single people


def command(settings: DriftSettings, shown: Shown = Shown()) -> int:
    """Find out whether a policy still balances newer annotations. Exit code 1: solve again."""
    with shown.progress("drift") as progress:
        found = drift(settings, progress=progress)
    shown.result(json_content(found), summary_table(found), worst_table(found))
    if found.verdict != "solve again":
        return 0
    drifted = [each.name for each in found.drifted]
    named = ", ".join(drifted[:WORST]) + (", ..." if len(drifted) > WORST else "")
    print(
        f"solve again: {len(drifted)} of {len(found.constraints) + 1} constraints (with the rate) "
        f"drifted further than chance explains: {named}",
        file=sys.stderr,
    )
    return 1


def json_content(found: Drift) -> dict[str, Any]:
    """The whole result, without the figures of constraints that have too few examples."""
    constraints = [
        {"name": each.name, "fewer_examples_than": SMALLEST}
        if _too_few(each)
        else each.model_dump(mode="json")
        for each in found.constraints
    ]
    return {**found.model_dump(mode="json"), "constraints": constraints}


def summary_table(found: Drift) -> Table:
    """The verdict, and what the new examples are to the policy."""
    rows = [
        ("verdict", "", found.verdict),
        ("examples", f"{found.solved_on:,.0f}", f"{found.examples:,.0f}"),
        (
            "effective sample size, share",
            f"{found.stated_effective_share:.1%}",
            f"{found.effective_share:.1%}",
        ),
        ("beyond what is allowed", "", f"{len(found.exceeded):,}"),
        ("and beyond chance", "", f"{len(found.drifted):,}"),
        ("solving again gains at most", "", f"{found.gain:.1%}"),
    ]
    rows += [
        (f"constraints {name}", "", f"{len(names):,}: {', '.join(names[:3])}")
        for name, names in (("without examples", found.unseen), ("without weight", found.lost))
        if names
    ]
    return table_of("Drift", ("", "solved on", "new"), rows)


def worst_table(found: Drift) -> Table:
    """The rate and the worst constraints, the least likely by chance first."""
    others = [each for each in found.constraints if not each.excess]
    others.sort(key=lambda each: each.allowed - abs(each.found))
    exceeded = [each for each in found.exceeded if each != found.rate]
    rows = [_row(each) for each in (found.rate, *(exceeded + others)[:WORST])]
    columns = ("off target", "found", "allowed", "excess", "noise", "z")
    return table_of("Worst constraints", columns, rows)


def _too_few(finding: Finding) -> bool:
    return finding.examples < SMALLEST


def _row(finding: Finding) -> tuple[str, ...]:
    if _too_few(finding):
        return (finding.name, *[f"< {SMALLEST}"], *["-"] * 4)
    return (
        finding.name,
        f"{finding.found:+.4f}",
        f"{finding.allowed:.4f}",
        f"{finding.excess:.4f}",
        f"{finding.noise:.4f}",
        f"{finding.score:.1f}",
    )
