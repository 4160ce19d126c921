"""Solve for sampling weights: from patterns with a problem, or from plain arrays."""

import contextlib
import math
import os
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, NoReturn

import numpy as np
import polars as pl
from pydantic import ValidationError

from m4.bias import BiasTable, bias_of
from m4.buckets import Buckets, attribute_patterns
from m4.catalogue import explain
from m4.certificate import Certificate, certify, repair_rate
from m4.dual import Dual
from m4.errors import InputError
from m4.feasibility import explain_infeasible
from m4.full_passes import SampleDual
from m4.moments import Moments
from m4.optimum import maximise
from m4.patterns import Patterns
from m4.policy import BiasSummary, Policy
from m4.problem import Problem, Slack, Tolerance
from m4.reference import NoSolution, solve_with_cvxpy
from m4.sparse_dual import SparseDual
from m4.table_dual import TableDual
from m4.totals import Totals, measure
from m4.totals import weights as weights_of

Method = Literal["auto", "dual", "cvxpy", "streaming"]

REQUIRED_ACCURACY = 1e-6  # relative gap above which a solution is not handed out
EDGE_ACCURACY = 1e-8  # relative gap above which a general solver is asked where that is quick
LARGEST_GENERAL = 500_000  # non-zeros of the moments for which it is
LARGEST_TABLE = 1_000_000  # numbers per attribute pattern and label, if that is more than the data


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights of the given rows, (N,), with the policy that gives them and what it achieves.

    `counts`, (N,), are the examples that each row stands for. `passes` counts the passes over the
    patterns that the solver made, 0 for cvxpy.
    """

    weights: np.ndarray
    counts: np.ndarray
    policy: Policy
    certificate: Certificate
    before: BiasTable
    after: BiasTable
    effective_sample_size: float
    totals: Totals
    passes: int

    def violated(self, least: float = 1e-9) -> pl.DataFrame:
        """What stayed violated by more than `least`: constraint, multiplier, violation, mass.

        `violation` is |E[q z]| - eps E[q t] and `excess` the same over E[q t], a share; largest
        first. Empty for hard constraints.
        """
        layout = self.policy.problem.layout
        violation, mass = self.totals.violation(layout), self.totals.mass(layout)
        excess = np.divide(violation, mass, out=np.zeros_like(mass), where=mass > 0)
        frame = pl.DataFrame(
            {
                "constraint": [str(name) for name in self.policy.problem.constraints()],
                "multiplier": self.policy.dual_vector(),
                "violation": violation,
                "excess": excess,
            },
            schema_overrides={"constraint": pl.String},
        )
        return frame.filter(pl.col("violation") > least).sort("violation", descending=True)


def solve(
    problem: Problem,
    patterns: Patterns,
    *,
    method: Method = "auto",
    solver: str | None = None,
    passes: int | None = None,
    seed: int | None = None,
    start: Policy | None = None,
    catalogue: str = "",
) -> Solution:
    """Solve a balancing problem on patterns or examples; equal rows are joined first.

    Parameters
    ----------
    method : "dual" for the exact optimum by the fast path, "cvxpy" for the same by a general
        solver, "streaming" for the published per-example algorithm; "auto" for the fast path
    solver : the solver that cvxpy calls, CLARABEL where left out
    passes, seed : of the streaming method; 5 and 0 where left out
    start : a policy of a similar problem, for the fast path to start from
    catalogue : digest of the catalogue that the data was annotated with

    Raises `InfeasibleError` where hard constraints cannot be met, with the largest feasible rate
    and a minimal set of constraints that conflict; the streaming method cannot tell, and leaves
    violations that its certificate shows. Raises `InputError` for an option without effect.
    """
    problem.check(patterns)
    if method not in ("auto", "dual", "cvxpy", "streaming"):
        raise InputError(f"method {method!r} is not one of auto, dual, cvxpy, streaming")
    fast = method in ("auto", "dual")
    for option, given, wrong in (
        ("solver", solver, method != "cvxpy"),
        ("passes", passes, method != "streaming"),
        ("seed", seed, method != "streaming"),
        ("start", start and start.method, not fast),
    ):
        if given is not None and wrong:
            raise InputError(f"{option} {given!r} has no effect with method {method}; leave it out")
    joined, inverse = patterns.distinct()
    looked, by = 0, str(method)
    if method == "streaming":
        from m4.streaming import solve_by_streaming

        looked = 5 if passes is None else passes
        moments = Moments.of(problem, joined)
        duals = solve_by_streaming(
            moments, joined.counts, passes=looked, seed=seed or 0
        ).constraints
    elif method == "cvxpy":
        duals = _solve_by_cvxpy(problem, joined, solver)
        by = f"cvxpy/{(solver or 'clarabel').lower()}"
    else:
        duals, looked, by = _solve_by_dual(problem, joined, start)
    rate_dual = repair_rate(problem, duals, joined)
    weights = weights_of(problem, duals, rate_dual, joined)
    plain, totals = measure(problem, joined), measure(problem, joined, weights)
    policy = make_policy(
        problem,
        duals,
        rate_dual,
        plain,
        totals,
        method=by,
        catalogue=catalogue,
    )
    return make_solution(policy, weights[inverse], patterns.counts, plain, totals, looked)


def make_solution(
    policy: Policy,
    weights: np.ndarray,
    counts: np.ndarray,
    plain: Totals,
    totals: Totals,
    passes: int,
) -> Solution:
    """A policy with what it does to the data, from totals as it is and under the weights."""
    return Solution(
        weights,
        counts,
        policy,
        policy.certificate,
        bias_of(policy.problem, plain, plain),
        bias_of(policy.problem, plain, totals),
        totals.effective_sample_size,
        totals,
        passes,
    )


def make_policy(
    problem: Problem,
    duals: np.ndarray,
    rate_dual: float,
    plain: Totals,
    totals: Totals,
    *,
    method: str,
    catalogue: str = "",
) -> Policy:
    """The policy of multipliers, certified by totals of the data as it is and under its weights."""
    named = zip(problem.constraints(), duals.tolist(), strict=True)
    return Policy(
        problem=problem,
        duals={str(name): value for name, value in named if value != 0.0},
        rate_dual=rate_dual,
        certificate=certify(problem, duals, rate_dual, totals),
        before=summary_of(bias_of(problem, plain, plain)),
        after=summary_of(bias_of(problem, plain, totals)),
        effective_sample_size=totals.effective_sample_size,
        examples=totals.examples,
        catalogue=catalogue,
        method=method,
        versions={name: version(name) for name in ("m4-balance", "numpy", "scipy", "cvxpy")},
    )


def summary_of(table: BiasTable) -> BiasSummary:
    """The two maxima of a bias table."""
    return BiasSummary(
        representation_bias=table.representation_bias, association_bias=table.association_bias
    )


def dual_of(problem: Problem, patterns: Patterns) -> Dual:
    """The dual function of a problem on some data, in the form that suits the data."""
    return duals_over(problem, patterns)(problem, None, None)


def duals_over(problem: Problem, patterns: Patterns) -> SampleDual:
    """Makes dual functions of problems on the same data, which is laid out once.

    Tables of slopes by attribute pattern and label where they are small; row by row where
    probabilities make nearly every attribute pattern its own.
    """
    groups = len(attribute_patterns(patterns)[0])
    size = groups * problem.layout.shape[1]
    if size > max(LARGEST_TABLE, len(patterns.counts) + patterns.y.nnz):
        return lambda problem, tilt, anchor: SparseDual(
            problem, Moments.of(problem, patterns), tilt=tilt, anchor=anchor
        )
    buckets, threads = Buckets.of(patterns), processors()
    return lambda problem, tilt, anchor: TableDual(
        problem, buckets, threads=threads, tilt=tilt, anchor=anchor
    )


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _solve_by_dual(
    problem: Problem, patterns: Patterns, start: Policy | None
) -> tuple[np.ndarray, int, str]:
    """Multipliers, passes, and the method that led there."""
    if start is not None and start.problem.constraints() != problem.constraints():
        raise InputError("start is a policy of other constraints; solve without it")
    first = None if start is None else (start.dual_vector(), start.rate_dual)
    dual = dual_of(problem, patterns)
    optimum, method = maximise(dual, start=first), "dual"
    # At the edge of what is feasible the dual is all but linear: interior points do better there.
    if not optimum.infeasible and optimum.point.relative_gap > EDGE_ACCURACY:
        moments = Moments.of(problem, patterns)
        if moments.z.nnz <= LARGEST_GENERAL:
            with contextlib.suppress(NoSolution):
                found = solve_with_cvxpy(moments)
                again = maximise(dual, start=(found.constraints, found.rate))
                if again.point.gap < optimum.point.gap:
                    optimum, method = again, "cvxpy/clarabel, dual"
    point = optimum.point
    if optimum.infeasible or point.relative_gap > REQUIRED_ACCURACY:
        _complain(problem, patterns, f"a relative gap of {point.relative_gap:.1e}")
    return point.duals, dual.passes, method


def _solve_by_cvxpy(problem: Problem, patterns: Patterns, solver: str | None) -> np.ndarray:
    try:
        return solve_with_cvxpy(Moments.of(problem, patterns), solver=solver).constraints
    except NoSolution as failure:
        _complain(problem, patterns, f"`{failure}` of {solver or 'CLARABEL'}")


def _complain(problem: Problem, patterns: Patterns, ending: str) -> NoReturn:
    """Say why there is no solution: infeasible constraints, or the solver itself."""
    hard = math.isinf(problem.price)
    infeasible = explain_infeasible(problem, patterns) if hard else None
    if infeasible is not None:
        raise infeasible from None
    raise InputError(
        f"solving ended with {ending} although the rate {problem.eta:g} is "
        + ("feasible, if only just; " if hard else "always feasible; ")
        + "lower the rate a little, raise a tolerance, or try method cvxpy"
    ) from None


def solve_weights(
    s: Any,
    y: Any,
    *,
    target: Any = None,
    observed: Any = None,
    utility: Any = None,
    counts: Any = None,
    eta: float = 0.9,
    cap: float = 1.0,
    eps_r: float = 0.01,
    eps_d: float = 0.01,
    tolerance: Tolerance = "relative",
    penalty: float | None = None,
    slack: Slack = "l1",
    method: Method = "auto",
) -> Solution:
    """Sampling weights that match first- and second-order moments, from plain arrays.

    Parameters
    ----------
    s : (N, m) sensitive values in [0, 1]; NaN where not known
    y : (N, c) labels and proxies in [0, 1], dense or scipy sparse
    target : m shares, or one for all. Left out, the uniform target: 1/m where each observed row
        of s sums to 1 (the values of one attribute), 1/2 otherwise (separate questions)
    observed : (N, m) or (N,) bool, False where an attribute is not known or does not apply
    utility : (N,) in [0, 1], preference for an example; 1 where left out
    counts : (N,) examples that a row stands for; 1 where left out
    eta : rate E[q] that is kept
    cap : largest weight; 1 makes the weights probabilities of keeping
    eps_r, eps_d : tolerances of representation and of association
    tolerance : "relative" to each label's own mass, or "absolute" as published
    penalty, slack : price of a violation, of it ("l1") or its square ("l2"); None for hard
        constraints
    method : "auto", "dual", "cvxpy" or "streaming"

    Returns a `Solution`. Raises `InputError` for arrays that do not fit together and
    `InfeasibleError` where hard constraints cannot be met.

    Problem and notation: Alabdulmohsin et al., "CLIP the Bias" (ICLR 2024); see `m4.Problem`.
    """
    patterns = Patterns.from_arrays(s, y, observed=observed, utility=utility, counts=counts)
    m, c = patterns.s.shape[1], patterns.y.shape[1]
    targets = _targets(target, patterns)
    try:
        problem = Problem(
            values=tuple(f"s{k}" for k in range(m)),
            labels=tuple(f"y{r}" for r in range(c)),
            targets=targets,
            label_targets=tuple((share,) * c for share in targets),
            eps_r=eps_r,
            eps_d=eps_d,
            tolerance=tolerance,
            eta=eta,
            cap=cap,
            penalty=penalty,
            slack=slack,
        )
    except ValidationError as error:
        raise InputError(explain(error)) from None
    return solve(problem, patterns, method=method)


def _targets(target: Any, patterns: Patterns) -> tuple[float, ...]:
    m = patterns.s.shape[1]
    if target is None:
        whole = patterns.observed.all(axis=1)
        sums = patterns.s[whole].sum(axis=1)
        one_attribute = m > 1 and sums.size > 0 and np.allclose(sums, 1.0)
        return (1.0 / m if one_attribute else 0.5,) * m
    shares = np.asarray(target, dtype=np.float64).ravel()
    if shares.size not in (1, m):
        raise InputError(f"target has {shares.size} shares, but s has {m} columns; give one each")
    return tuple(np.broadcast_to(shares, m).tolist())
