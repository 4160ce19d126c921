"""m4-balance solve."""

from rich.table import Table

from commands.console import Shown, table_of
from m4.bias import BiasTable
from m4.policy import Policy
from pipelines.settings import SolveSettings
from pipelines.stages import solve


def command(settings: SolveSettings, shown: Shown = Shown()) -> None:
    """Solve for the policy that balances the annotated data."""
    solution = solve(settings)
    shown.result(
        solution.policy.model_dump(mode="json"), data_table(solution.policy, solution.after)
    )


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
