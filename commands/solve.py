"""m4-balance solve."""

import polars as pl
from rich.table import Table

from commands.console import Shown, console, table_of
from m4.bias import BiasTable
from m4.diagnostics import Diagnostics, diagnose
from m4.policy import Policy
from pipelines import storage
from pipelines.settings import SolveSettings
from pipelines.stages import solve

DEAREST = 5  # constraints whose price is printed
MOST_VIOLATED = 10  # constraints whose violation is printed
STEP = 0.01  # of tolerance, whose price is printed


def command(settings: SolveSettings, shown: Shown = Shown()) -> None:
    """Solve for the policy that balances the annotated data; draw what changes as love.svg."""
    with shown.progress("solve") as progress:
        solution = solve(settings, progress=progress)
    policy = solution.policy
    found = diagnose(solution)
    content = {**policy.model_dump(mode="json"), "diagnostics": found.content()}
    shown.result(content, data_table(policy, solution.after), *diagnostic_tables(found))
    plot = _draw(found.love, settings.run)
    if not shown.json:
        console.print(f"Love plot: {plot}", soft_wrap=True, highlight=False, markup=False)


def _draw(love: pl.DataFrame, run: str) -> str:
    from reporting.charts import love_plot  # over half a second to import

    path = storage.join(run, "love.svg")
    storage.write_bytes(path, love_plot(love).encode())
    return path


def data_table(policy: Policy, after_cells: BiasTable) -> Table:
    """Bias before and after, its cost, and how near the optimum the weights are."""
    before, after, certificate = policy.before, policy.after, policy.certificate
    size = policy.effective_sample_size
    rows = [
        (
            "representation bias",
            f"{before.representation_bias:.4f}",
            f"{after.representation_bias:.4f}",
        ),
        ("association bias", f"{before.association_bias:.4f}", f"{after.association_bias:.4f}"),
        (
            "effective sample size",
            f"{policy.examples:,.0f}",
            f"{size:,.0f}",
        ),
        ("relative gap to the optimum", "", f"{certificate.relative_gap:.1e}"),
        ("largest violation", "", f"{certificate.max_violation:.1e}"),
    ]
    lost = after_cells.lost_labels
    if lost:
        rows.append(("labels without any weight left", "", ", ".join(lost)))
    return table_of("Data", ("", "before", "after"), rows)


def diagnostic_tables(found: Diagnostics) -> list[Table]:
    """How unequal the weights are, what costs most, and what stayed violated, if anything did."""
    weights = [
        ("design effect", f"{found.design_effect:.3f}"),
        ("share of weight in the heaviest 1 % of examples", f"{found.top_share:.2%}"),
    ]
    tables = [table_of("Weights", ("", ""), weights)]
    if len(found.prices):
        dearest = found.prices.head(DEAREST).iter_rows(named=True)
        columns = ("dearest constraint", "is held", f"{STEP:g} of tolerance costs")
        rows = [
            (
                row["constraint"],
                "down" if row["multiplier"] > 0 else "up",
                price_in_words(row["objective_price"], row["effective_share_price"]),
            )
            for row in dearest
        ]
        tables.append(table_of("Prices", columns, rows))
    if len(found.violated):
        worst = found.violated.head(MOST_VIOLATED).iter_rows(named=True)
        rest = len(found.violated) - MOST_VIOLATED
        title = f"Violated ({rest} more)" if rest > 0 else "Violated"
        rows = [
            (row["constraint"], f"{row['excess']:.4f}", f"{row['multiplier']:+.4g}")
            for row in worst
        ]
        columns = ("constraint", "share beyond its tolerance", "multiplier")
        tables.append(table_of(title, columns, rows))
    return tables


def price_in_words(objective: float, effective_share: float | None) -> str:
    """What `STEP` of tolerance costs, from prices per unit of it.

    In effective sample size as a share of all examples, or where that price is not known, in units
    of the objective.
    """
    if effective_share is None:
        return f"{STEP * objective:.2g} of the objective"
    return f"{STEP * effective_share * 100:.2f} % of all examples"
