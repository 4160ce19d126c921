"""What a policy costs and whom it moves: sample size, love plot, prices of the constraints."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from m4.bias import BiasTable
from m4.certificate import certify
from m4.errors import InputError
from m4.policy import Policy
from m4.problem import Constraint, Problem
from m4.totals import Totals

if TYPE_CHECKING:
    from m4.solving import Solution  # loads the compiled passes

SAME = 1e-9  # relative difference below which two totals are the same number
SLIGHT = 1e-5  # share of the primal value below which the price of violations is rounding


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """All that is known of a solution beside its certificate.

    Attributes
    ----------
    design_effect, top_share : of the weights, by the functions of these names
    prices : the `price_table`, without constraints that cost nothing
    violated : what stayed violated where violations have a price (`Solution.violated`)
    love : the `love_table`
    """

    design_effect: float
    top_share: float
    prices: pl.DataFrame
    violated: pl.DataFrame
    love: pl.DataFrame

    def content(self) -> dict[str, Any]:
        """As JSON takes it; the tables as lists of their rows."""
        return {
            name: each.to_dicts() if isinstance(each, pl.DataFrame) else each
            for name, each in vars(self).items()
        }


def diagnose(solution: "Solution") -> Diagnostics:
    """Diagnostics of a solution."""
    policy, counts = solution.policy, solution.counts
    violated = solution.violated()
    return Diagnostics(
        design_effect(solution.weights, counts),
        top_share(solution.weights, counts),
        price_table(policy, solution.totals).filter(pl.col("objective_price") > 0),
        violated.clear() if policy.problem.penalty is None else violated,
        love_table(policy, solution.before, solution.after),
    )


def effective_sample_size(weights: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Kish's effective sample size, (sum q)^2 / sum q^2.

    Parameters
    ----------
    weights : (N,) weights q
    counts : (N,) examples that each row stands for; ones where left out

    Returns 0 where all weights are 0.
    """
    weights = np.asarray(weights, dtype=np.float64)
    counts = np.ones_like(weights) if counts is None else np.asarray(counts, dtype=np.float64)
    squares = float(counts @ weights**2)
    return float(counts @ weights) ** 2 / squares if squares > 0 else 0.0


def design_effect(weights: np.ndarray, counts: np.ndarray | None = None) -> float:
    """Kish's design effect, N / effective sample size; infinite where all weights are 0."""
    size = effective_sample_size(weights, counts)
    examples = float(len(weights) if counts is None else np.sum(counts))
    return examples / size if size > 0 else float("inf")


def top_share(weights: np.ndarray, counts: np.ndarray | None = None, part: float = 0.01) -> float:
    """Share of all weight that the heaviest examples hold; `part` where all are equally heavy.

    Examples of a row are taken one by one, and the last of them in part, so that exactly
    `part * N` examples count as the heaviest.

    Parameters
    ----------
    weights, counts : as of `effective_sample_size`
    part : in (0, 1], of all examples

    Returns 0 where all weights are 0. Raises `InputError` for another `part`.
    """
    if not 0 < part <= 1:
        raise InputError(f"part is {part:g}, which is not in (0, 1]; 0.01 is the heaviest 1 %")
    weights = np.asarray(weights, dtype=np.float64)
    counts = np.ones_like(weights) if counts is None else np.asarray(counts, dtype=np.float64)
    heaviest_first = np.argsort(-weights, kind="stable")
    weights, counts = weights[heaviest_first], counts[heaviest_first]
    heavier = np.cumsum(counts) - counts
    taken = np.clip(part * counts.sum() - heavier, 0.0, counts)
    total = float(counts @ weights)
    return min(float(taken @ weights) / total, 1.0) if total > 0 else 0.0


def love_table(policy: Policy, before: BiasTable, after: BiasTable) -> pl.DataFrame:
    """What a love plot shows: imbalance of every constraint before and after, largest first.

    Imbalance is a standardised difference. With p the share of a value or of an intersection and
    p_r0, p_r1 the rates of label r among the examples without and with the value,

        value, intersection   (p - target) / sqrt(target (1 - target))
        value & label         (p_r1 - p_r0) / sqrt((p_r1 (1 - p_r1) + p_r0 (1 - p_r0)) / 2)

    The second is Austin's for a yes/no covariate ("Balance diagnostics for comparing the
    distribution of baseline covariates between treatment groups in propensity-score matched
    samples", Statistics in Medicine 28, 2009), drawn as T. E. Love did (2004). As in R's cobalt,
    the denominator is that of the data as it was, before and after. A label with targets of its own
    is not meant to reach 0.

    Parameters
    ----------
    before, after : bias of the data as it is, and under the policy's weights

    Returns one row per constraint: `constraint`, `kind` ("value", "label", "intersection"),
    `before`, `after` (null where nothing is to compare, or the deviation is 0), `tolerance`,
    `multiplier`, `within` its tolerance after, `examples` (observed and labelled, unweighted).
    """
    first, second = (
        pl.concat([_deviations(each.representation), _rates(each), _deviations(each.intersections)])
        for each in (before, after)
    )
    deviation = np.sqrt(first["variance"].fill_null(np.nan).to_numpy())
    problem = policy.problem
    table = pl.DataFrame(
        {
            **_named(problem.constraints()),
            "before": _standardised(first["difference"], deviation),
            "after": _standardised(second["difference"], deviation),
            "tolerance": problem.layout.eps,
            "multiplier": policy.dual_vector(),
            "within": second["within"],
            "examples": first["examples"],
        },
        schema_overrides={"constraint": pl.String, "kind": pl.String},
    ).with_columns(pl.col("before", "after").fill_nan(None))
    size = pl.col("before").abs()
    return table.sort(size, descending=True, nulls_last=True, maintain_order=True)


def _deviations(shares: pl.DataFrame) -> pl.DataFrame:
    target = pl.col("target")
    return shares.select(
        "examples", "within", difference=pl.col("share") - target, variance=target * (1 - target)
    )


def _rates(table: BiasTable) -> pl.DataFrame:
    one, other = pl.col("given_value"), pl.col("given_other")
    return table.association.filter("constrained").select(
        "examples",
        "within",
        difference=one - other,
        variance=(one * (1 - one) + other * (1 - other)) / 2,
    )


def _standardised(difference: pl.Series, deviation: np.ndarray) -> np.ndarray:
    number = difference.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return np.divide(number, deviation, out=np.full(len(number), np.nan), where=deviation > 0)


def _named(constraints: tuple[Constraint, ...]) -> dict[str, list[str]]:
    kinds = [
        "intersection" if each.other is not None else "value" if each.label is None else "label"
        for each in constraints
    ]
    return {"constraint": [str(each) for each in constraints], "kind": kinds}


def price_table(policy: Policy, totals: Totals) -> pl.DataFrame:
    """What each tolerance costs at an optimum: dual prices by name, dearest first.

    By the envelope theorem the optimum moves with a tolerance as the Lagrangian does, which is
    linear in it: per unit of eps_j the objective falls by

        |v_j| E[q t_j],

    with t_j the mass that eps_j is a share of. Where every utility is 1 and nothing is violated,
    the objective is (E[q^2] - 2 eta E[q] + eta^2) / 2 with E[q] = eta, and ESS/N = eta^2 / E[q^2].
    The effective share ESS/N therefore rises per unit of eps_j by

        2 |v_j| E[q t_j] (ESS/N)^2 / eta^2.

    Prices of several constraints that share a tolerance add up; so do those of constraints that say
    the same, like the two values of an exclusive pair, whose single prices mean nothing. They are
    slopes: right for small changes, and as good as the policy's gap is small.

    Parameters
    ----------
    totals : of the data under the policy's weights

    Returns one row per constraint: `constraint`, `kind` ("value", "label", "intersection"),
    `multiplier` v_j, `tolerance` eps_j, `mass` E[q t_j], `objective_price` and
    `effective_share_price`, both per unit of tolerance; the last is null where utilities differ or
    something is violated, since the objective is then not the sample size alone.
    """
    problem, duals = policy.problem, policy.dual_vector()
    alone = _indifferent(problem.eta, totals) and not _violated(policy, totals)
    effective = effective_share_prices(problem, duals, totals) if alone else None
    table = pl.DataFrame(
        {
            **_named(problem.constraints()),
            "multiplier": duals,
            "tolerance": problem.layout.eps,
            "mass": totals.mass(problem.layout),
            "objective_price": objective_prices(problem, duals, totals),
            "effective_share_price": effective,
        },
        schema_overrides={
            "constraint": pl.String,
            "kind": pl.String,
            "effective_share_price": pl.Float64,
        },
    )
    return table.sort("objective_price", descending=True, maintain_order=True)


def objective_prices(problem: Problem, duals: np.ndarray, totals: Totals) -> np.ndarray:
    """|v_j| E[q t_j], (J,): by how much the objective falls per unit of each tolerance."""
    return np.abs(duals) * totals.mass(problem.layout)


def effective_share_prices(problem: Problem, duals: np.ndarray, totals: Totals) -> np.ndarray:
    """2 |v_j| E[q t_j] (ESS/N)^2 / eta^2, (J,): by how much ESS/N rises per unit of each tolerance.

    Holds where utilities are all alike and nothing is violated (see `price_table`).
    """
    share = totals.effective_sample_size / totals.examples
    return 2.0 * objective_prices(problem, duals, totals) * (share / problem.eta) ** 2


def _violated(policy: Policy, totals: Totals) -> bool:
    """Whether violations take a part of the objective that is more than a solver's rounding."""
    primal = certify(policy.problem, policy.dual_vector(), policy.rate_dual, totals).primal
    paid = primal - 0.5 * totals.distance / totals.examples
    return paid > SLIGHT * max(abs(primal), 1e-6)  # the floor of Certificate.relative_gap


def _indifferent(eta: float, totals: Totals) -> bool:
    """Whether all utilities are 1, as far as totals tell: sum (eta u - q)^2 = sum (eta - q)^2."""
    terms = (eta**2 * totals.examples, 2.0 * eta * totals.weight, totals.squares)
    alike = terms[0] - terms[1] + terms[2]
    return abs(totals.distance - alike) <= SAME * sum(terms)
