"""The cost curve: bias against effective sample size over tolerances, rates and caps.

Without utilities the problem has the largest effective sample size among all weights that meet
its constraints: with E[q] = eta fixed,

    ESS / N  =  eta^2 / E[q^2]  =  1 / (1 + 2 objective / eta^2)

so that it never falls as tolerances or the cap grow, nor as the rate falls.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from pydantic import ValidationError

from m4.bias import bias_of
from m4.catalogue import explain
from m4.certificate import certify, repair_rate
from m4.diagnostics import design_effect, effective_share_prices, top_share
from m4.dual import Dual
from m4.errors import InputError
from m4.feasibility import RATE_SLACK, largest_rate
from m4.moments import Moments
from m4.optimum import maximise
from m4.patterns import Patterns
from m4.points import Curve, CurvePoint, Outcome, Requirements, Setting, Status, nothing_meets
from m4.policy import BiasSummary
from m4.problem import Problem
from m4.solving import REQUIRED_ACCURACY, dual_of, processors, summary_of
from m4.sparse_dual import SparseDual
from m4.table_dual import TableDual
from m4.totals import Totals, measure
from m4.totals import weights as weights_of

FACTORS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
PRECISION = 0.01  # how far above the effective sample size that is asked for a choice may end
NARROWEST = 1e-4  # share of a factor at which halving ends, where feasibility and not size limits
VIOLATED = 1e-7  # violations above this are paid for, not rounding
DEAREST = 5  # tolerances whose price a point tells
CHEAP = 200_000  # rows, labels of rows, times values: up to here largest rates are worked out

Progress = Callable[[int, int], None]


class CurveSolver:
    """A problem's data laid out once, to solve it at one setting after the other.

    Every point starts from the multipliers of the nearest point that is solved; a point is solved
    once. Feasible weights stay feasible at wider tolerances and, scaled, at a smaller eta / cap;
    so what one point refutes is not tried again.
    """

    def __init__(self, problem: Problem, patterns: Patterns, *, warm: bool = True):
        """`warm` False solves every point from nothing, for comparison."""
        problem.check(patterns)
        self.problem = problem
        self.examples = patterns.examples
        self._patterns = patterns.distinct()[0]
        first = dual_of(problem, self._patterns)
        self._buckets = first.buckets if isinstance(first, TableDual) else None
        self._plain = measure(problem, self._patterns)
        self._indifferent = bool(np.ptp(patterns.utility) == 0.0)
        self._warm = warm
        self._points: dict[Setting, CurvePoint] = {}
        self._multipliers: dict[Setting, np.ndarray] = {}  # (v, mu)
        self._rates: dict[float, float] = {}

    @cached_property
    def _moments(self) -> Moments:
        return Moments.of(self.problem, self._patterns)

    @property
    def before(self) -> BiasSummary:
        """Bias of the data as it is."""
        return summary_of(bias_of(self.problem, self._plain, self._plain))

    def curve(
        self,
        factors: Sequence[float],
        etas: Sequence[float],
        caps: Sequence[float],
        progress: Progress | None = None,
    ) -> Curve:
        """All settings of a grid; each line from its loosest tolerances to its tightest."""
        for name, given in (("factors", factors), ("etas", etas), ("caps", caps)):
            if not given:
                raise InputError(f"{name} is empty; give at least one")
        if len(set(factors)) > 1 and not self.problem.layout.eps.any():
            raise InputError(
                "factors have no effect on tolerances of 0; set a tolerance, or give tolerances"
            )
        try:
            settings = [
                Setting(factor=factor, eta=eta, cap=cap)
                for cap in sorted(set(caps))
                for eta in sorted(set(etas))
                for factor in sorted(set(factors), reverse=True)
            ]
        except ValidationError as error:
            raise InputError(explain(error)) from None
        points = []
        for setting in settings:
            points.append(self.point(setting))
            if progress is not None:
                progress(len(points), len(settings))
        points.sort(key=lambda p: (p.setting.cap, p.setting.eta, p.setting.factor))
        return Curve(examples=self.examples, before=self.before, points=tuple(points))

    def point(self, setting: Setting) -> CurvePoint:
        """Solve at a setting, or refute it."""
        if setting not in self._points:
            self._points[setting] = self._solve(setting)
        return self._points[setting]

    def tighten(self, point: CurvePoint, wanted: Requirements) -> CurvePoint:
        """The least factor at a point's rate and cap that still has the size that is wanted.

        By halving, from the next smaller factor that was tried and falls short (0 if none was).
        Ends within 1 % above that size, or at the tightest feasible tolerances. Points for which no
        size is wanted are left as they are.
        """
        needed = wanted.size(self.examples)
        if needed == 0.0 or point.outcome is None:
            return point
        line, exact = point.setting, point.setting.model_copy(update={"factor": 0.0})
        short = [
            tried.setting.factor
            for tried in self._points.values()
            if (tried.setting.eta, tried.setting.cap) == (line.eta, line.cap)
            and tried.setting.factor < line.factor
            and not wanted.met_by(tried, self.examples)
        ]
        if not short and wanted.met_by(self.point(exact), self.examples):
            return self.point(exact)
        low, best = max(short, default=0.0), point
        while best.setting.factor - low > NARROWEST * best.setting.factor:
            if best.size <= (1.0 + PRECISION) * needed:
                break
            factor = 0.5 * (low + best.setting.factor)
            middle = self.point(line.model_copy(update={"factor": factor}))
            if wanted.met_by(middle, self.examples):
                best = middle
            else:
                low = factor
        return best

    def _solve(self, setting: Setting) -> CurvePoint:
        if self._refuted(setting):
            return self._missing(setting, "infeasible", 0)
        problem, start = setting.of(self.problem), self._start(setting)
        optimum = maximise(self._dual(problem), start=start)
        passes, found = optimum.passes, optimum.point
        if start and not optimum.infeasible and found.relative_gap > REQUIRED_ACCURACY:
            optimum = maximise(self._dual(problem))
            passes, found = passes + optimum.passes, optimum.point
        if optimum.infeasible:
            return self._missing(setting, "infeasible", passes)
        if found.relative_gap > REQUIRED_ACCURACY:
            return self._missing(setting, "unsolved", passes)
        self._multipliers[setting] = np.append(found.duals, found.rate_dual)
        return CurvePoint(
            setting=setting,
            eps_r=problem.eps_r,
            eps_d=problem.eps_d,
            eps_x=problem.eps_x,
            status="solved",
            outcome=self._outcome(problem, found.duals),
            passes=passes,
        )

    def _refuted(self, setting: Setting) -> bool:
        """Whether no weights can reach the rate, or an infeasible point is no stricter."""
        if setting.eta > setting.cap:
            return True
        ratio = setting.eta / setting.cap * (1.0 + 1e-12)
        return any(
            tried.status == "infeasible"
            and tried.setting.factor >= setting.factor
            and tried.setting.eta / tried.setting.cap <= ratio
            for tried in self._points.values()
        )

    def _missing(self, setting: Setting, status: Status, passes: int) -> CurvePoint:
        rate = self._largest_rate(setting)
        if status == "unsolved" and rate is not None and rate + RATE_SLACK < setting.eta:
            status = "infeasible"
        return CurvePoint(
            setting=setting,
            eps_r=setting.factor * self.problem.eps_r,
            eps_d=setting.factor * self.problem.eps_d,
            eps_x=setting.factor * self.problem.eps_x,
            status=status,
            largest_rate=rate,
            passes=passes,
        )

    def _largest_rate(self, setting: Setting) -> float | None:
        """The rates of caps are in the ratio of the caps, so one programme per factor will do."""
        if not math.isinf(self.problem.price):
            return setting.cap
        entries = len(self._patterns.counts) + self._patterns.y.nnz
        if entries * len(self.problem.values) > CHEAP:
            return None
        factor = setting.factor
        if factor not in self._rates:
            eps = factor * self._moments.eps
            self._rates[factor] = largest_rate(replace(self._moments, eps=eps, cap=1.0)).rate
        return self._rates[factor] * setting.cap

    def _start(self, setting: Setting) -> tuple[np.ndarray, float] | None:
        """Multipliers of a point with the same weights up to scale, where there is one; else those
        of the nearest, or on the line through the two nearest where both have this rate and cap.
        """
        if not (self._warm and self._multipliers):
            return None

        def distance(other: Setting) -> tuple[bool, float, float]:
            away = abs(math.log(setting.eta / other.eta)) + abs(math.log(setting.cap / other.cap))
            return (
                not self._alike_up_to_scale(other, setting),
                away,
                abs(setting.factor - other.factor),
            )

        near = sorted(self._multipliers, key=distance)[:2]
        start = setting.eta / near[0].eta * self._multipliers[near[0]]
        if len(near) == 2 and all(distance(other)[:2] == (True, 0.0) for other in near):
            first, second = near[0].factor, near[1].factor
            part = min(max((setting.factor - first) / (first - second), -1.0), 1.0)
            moved = start + part * (start - self._multipliers[near[1]])
            crossing = moved * start < 0.0
            crossing[-1] = False  # mu may have any sign
            start = np.where(crossing, 0.0, moved)
        return start[:-1], float(start[-1])

    def _alike_up_to_scale(self, solved: Setting, setting: Setting) -> bool:
        """Whether the weights of a solved point times the ratio of the rates solve another setting.

        They do at the same tolerances where no weight comes to its cap, now or then.
        """
        outcome = self._points[solved].outcome
        if outcome is None or solved.factor != setting.factor:
            return False
        largest = outcome.largest_weight
        return largest < solved.cap and largest * setting.eta / solved.eta <= setting.cap

    def _dual(self, problem: Problem) -> Dual:
        if self._buckets is not None:
            return TableDual(problem, self._buckets, threads=processors())
        moments = replace(
            self._moments,
            eps=problem.layout.eps,
            preferred=problem.eta * self._patterns.utility,
            eta=problem.eta,
            cap=problem.cap,
        )
        return SparseDual(problem, moments)

    def _outcome(self, problem: Problem, duals: np.ndarray) -> Outcome:
        patterns = self._patterns
        rate_dual = repair_rate(problem, duals, patterns)
        weights = weights_of(problem, duals, rate_dual, patterns)
        totals = measure(problem, patterns, weights)
        table = bias_of(problem, self._plain, totals)
        size = totals.effective_sample_size
        moment, mass = np.abs(totals.moment(problem.layout)), totals.mass(problem.layout)
        return Outcome(
            representation_bias=table.representation_bias,
            association_bias=table.association_bias,
            worst_gap=float((moment[mass > 0] / mass[mass > 0]).max(initial=0.0)),
            effective_sample_size=size,
            effective_share=size / totals.examples,
            effective_per_kept=size / totals.weight,
            design_effect=design_effect(weights, patterns.counts),
            largest_weight=float(weights[patterns.counts > 0].max()),
            top_share=top_share(weights, patterns.counts),
            lost_labels=table.lost_labels,
            relative_gap=certify(problem, duals, rate_dual, totals).relative_gap,
            dearest=self._dearest(problem, duals, totals),
        )

    def _dearest(self, problem: Problem, duals: np.ndarray, totals: Totals) -> dict[str, float]:
        if not self._indifferent or totals.violation(problem.layout).max(initial=0.0) > VIOLATED:
            return {}
        prices = 0.01 * totals.examples * effective_share_prices(problem, duals, totals)
        highest = np.argsort(-prices, kind="stable")[:DEAREST]
        names = problem.constraints()
        return {str(names[j]): float(prices[j]) for j in highest if prices[j] > 0.0}


def cost_curve(
    problem: Problem,
    patterns: Patterns,
    *,
    factors: Sequence[float] | None = None,
    tolerances: Sequence[float] | None = None,
    etas: Sequence[float] | None = None,
    caps: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Solve a problem over a grid of tolerances, rates and caps.

    Parameters
    ----------
    factors : common factors on eps_r, eps_d and eps_x; `FACTORS` where left out
    tolerances : instead of factors, absolute values that all three take
    etas, caps : rates and caps; the problem's own where left out
    progress : called with (points done, points in all)

    A point that cannot be met is part of the curve. Raises `InputError` for a grid that is empty or
    out of range, or has no effect.
    """
    if tolerances is not None:
        if factors is not None:
            raise InputError("factors and tolerances exclude each other; leave one out")
        problem = problem.model_copy(update={"eps_r": 1.0, "eps_d": 1.0, "eps_x": 1.0})
        factors = tolerances
    return CurveSolver(problem, patterns).curve(
        FACTORS if factors is None else factors,
        (problem.eta,) if etas is None else etas,
        (problem.cap,) if caps is None else caps,
        progress,
    )


def least_biased(problem: Problem, patterns: Patterns, wanted: Requirements) -> CurvePoint:
    """The smallest tolerances, in proportion, that satisfy what is wanted at the problem's rate.

    The cap is the problem's, or max_weight where that is given. The factor is doubled or halved
    from 1 and then found by halving, to 1 % of the size that is wanted.

    Raises `InputError` where no tolerances satisfy it, naming the nearest point.
    """
    eps = problem.layout.eps
    if not eps.any():
        raise InputError("all tolerances are 0, so no factor changes them; set one above 0")
    vacuous = 1.0 / eps[eps > 0].min()  # no share is farther from its target than 1
    solver = CurveSolver(problem, patterns)
    setting = Setting(factor=1.0, eta=problem.eta, cap=wanted.max_weight or problem.cap)
    tried = [solver.point(setting)]
    while not wanted.met_by(tried[-1], solver.examples):
        if tried[-1].setting.factor >= vacuous:
            raise nothing_meets(wanted, tried, solver.examples)
        wider = setting.model_copy(update={"factor": 2.0 * tried[-1].setting.factor})
        tried.append(solver.point(wider))
    return solver.tighten(tried[-1], wanted)
