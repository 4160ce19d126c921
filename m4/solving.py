"""Solve for sampling weights: from patterns with a problem, or from plain arrays."""

import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from m4.bias import BiasTable, bias_table
from m4.catalogue import explain
from m4.certificate import Certificate, certify, repair_rate
from m4.diagnostics import effective_sample_size
from m4.errors import InputError
from m4.feasibility import explain_infeasible
from m4.patterns import Patterns
from m4.policy import BiasSummary, Policy
from m4.problem import Moments, Problem, Tolerance
from m4.reference import Duals, NoSolution, solve_with_cvxpy

Method = Literal["auto", "cvxpy", "streaming"]


@dataclass(frozen=True, eq=False)
class Solution:
    """Weights of the given rows, (N,), with the policy that gives them and what it achieves."""

    weights: np.ndarray
    policy: Policy
    certificate: Certificate
    before: BiasTable
    after: BiasTable
    effective_sample_size: float


def solve(
    problem: Problem,
    patterns: Patterns,
    *,
    method: Method = "auto",
    solver: str | None = None,
    passes: int | None = None,
    seed: int | None = None,
    catalogue: str = "",
) -> Solution:
    """Solve a balancing problem on patterns or examples; equal rows are joined first.

    Parameters
    ----------
    method : "cvxpy" for the exact optimum, "streaming" for the published per-example algorithm,
        "auto" for the exact one
    solver : the solver that cvxpy calls, CLARABEL where left out
    passes, seed : of the streaming method; 5 and 0 where left out
    catalogue : digest of the catalogue that the data was annotated with

    Raises `InfeasibleError` where hard constraints cannot be met, with the largest feasible rate
    and a minimal set of constraints that conflict; the streaming method cannot tell, and leaves
    violations that its certificate shows. Raises `InputError` for an option without effect.
    """
    problem.check(patterns)
    if method not in ("auto", "cvxpy", "streaming"):
        raise InputError(f"method {method!r} is not one of auto, cvxpy, streaming")
    streaming = method == "streaming"
    for option, given, wrong in (
        ("solver", solver, streaming),
        ("passes", passes, not streaming),
        ("seed", seed, not streaming),
    ):
        if given is not None and wrong:
            raise InputError(f"{option} {given!r} has no effect with method {method}; leave it out")
    joined, inverse = patterns.distinct()
    moments = Moments.of(problem, joined)
    if streaming:
        from m4.streaming import solve_by_streaming  # numba takes a second to import

        duals = solve_by_streaming(
            moments,
            joined.counts,
            passes=5 if passes is None else passes,
            seed=seed or 0,
        )
    else:
        duals = _solve_exactly(problem, joined, moments, solver)
    rate_dual = repair_rate(moments, duals.constraints)
    weights = moments.weights(duals.constraints, rate_dual)
    certificate = certify(moments, duals.constraints, rate_dual)
    before, after = bias_table(problem, joined), bias_table(problem, joined, weights)
    size = effective_sample_size(weights, joined.counts)
    named = zip(problem.constraints(), duals.constraints.tolist(), strict=True)
    policy = Policy(
        problem=problem,
        duals={str(name): value for name, value in named if value != 0.0},
        rate_dual=rate_dual,
        certificate=certificate,
        before=_summary(before),
        after=_summary(after),
        effective_sample_size=size,
        examples=joined.examples,
        catalogue=catalogue,
        method=method if streaming else f"cvxpy/{(solver or 'clarabel').lower()}",
        versions={name: version(name) for name in ("m4-balance", "numpy", "scipy", "cvxpy")},
    )
    return Solution(weights[inverse], policy, certificate, before, after, size)


def _summary(table: BiasTable) -> BiasSummary:
    return BiasSummary(
        representation_bias=table.representation_bias, association_bias=table.association_bias
    )


def _solve_exactly(
    problem: Problem, patterns: Patterns, moments: Moments, solver: str | None
) -> Duals:
    try:
        return solve_with_cvxpy(moments, solver=solver)
    except NoSolution as failure:
        infeasible = explain_infeasible(problem, patterns) if math.isinf(moments.penalty) else None
        if infeasible is not None:
            raise infeasible from None
        raise InputError(
            f"solver {solver or 'CLARABEL'} ended with `{failure}` although the rate "
            f"{problem.eta:g} is feasible; try another solver, or a slightly larger tolerance"
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
    penalty : price of a violation; None for hard constraints
    method : "auto", "cvxpy" or "streaming"

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
