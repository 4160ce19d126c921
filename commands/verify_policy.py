"""m4-balance verify-policy."""

import sys

from rich.table import Table

from commands.console import Shown, table_of
from pipelines.settings import VerifyPolicySettings
from pipelines.stages import verify_policy
from pipelines.verification import Verification


def command(settings: VerifyPolicySettings, shown: Shown = Shown()) -> int:
    """Recompute from the annotations what a policy states of itself. Exit code 1 if it differs."""
    with shown.progress("verify the policy") as progress:
        found = verify_policy(settings, progress=progress)
    shown.result(found.model_dump(mode="json"), claim_table(found))
    if found.holds:
        return 0
    differ = [claim.name for claim in found.claims if not claim.agrees]
    reasons = [f"it states another {', '.join(differ)}"] if differ else []
    sentence = "; ".join([*reasons, *found.faults])
    print(f"the policy does not hold on these annotations: {sentence}", file=sys.stderr)
    return 1


def claim_table(found: Verification) -> Table:
    """Every claim with the figure found again."""
    rows = [
        (
            claim.name.replace("_", " "),
            f"{claim.stated:.6g}",
            f"{claim.recomputed:.6g}",
            f"{claim.stated - claim.recomputed:.1e}",
            "yes" if claim.agrees else "NO",
        )
        for claim in found.claims
    ]
    title = f"Claims, on {found.examples:,} examples of {found.shards:,} shards"
    columns = ("", "stated", "recomputed", "difference", "agrees")
    return table_of(title, columns, rows)
