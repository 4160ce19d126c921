"""m4-balance solve."""

from rich.table import Table

from commands.console import Shown, table_of
from m4.solving import Solution
from pipelines.settings import SolveSettings
from pipelines.stages import solve


def command(settings: SolveSettings, shown: Shown = Shown()) -> None:
    """Solve for the policy that balances the annotated data."""
    solution = solve(settings)
    shown.result(solution.policy.model_dump(mode="json"), solution_table(solution))


def solution_table(solution: Solution) -> Table:
    """Bias before and after, its cost, and how near the optimum the weights are."""
    before, after = solution.policy.before, solution.policy.after
    whole = solution.policy.examples
    certificate = solution.certificate
    rows = [
        (
            "representation bias",
            f"{before.representation_bias:.4f}",
            f"{after.representation_bias:.4f}",
        ),
        ("association bias", f"{before.association_bias:.4f}", f"{after.association_bias:.4f}"),
        ("effective sample size", f"{whole:,.0f}", f"{solution.effective_sample_size:,.0f}"),
        ("relative gap to the optimum", "", f"{certificate.relative_gap:.1e}"),
        ("largest violation", "", f"{certificate.max_violation:.1e}"),
    ]
    lost = solution.after.lost_labels
    if lost:
        rows.append(("labels without any weight left", "", ", ".join(lost)))
    return table_of("Data", ("", "before", "after"), rows)
