"""Drift: whether a policy still balances examples that it was not solved on.

A policy weighs any example. Under its weights the new examples miss its targets by some excess,
part of which chance explains: the new examples are a sample, and so were those it was solved on.
The constraint j on side d (+1 or -1) is kept where E[x] <= 0 for

    x = q (d z_j - a t_j),   z_j = o (s - pi) y,   t_j = o y, or o for absolute tolerances,

with the allowed share a. Let T = E[q o y], M = E[q t_j] and H = E[q o s y]. The square of x is
convex in s and in y, so it is largest where they are 0 or 1, and q^2 <= cap q. Hence

    Var x <= cap (H (d (1 - pi) - a)^2 + (T - H) (d pi + a)^2 + (M - T) a^2)

for probabilities s and y too, and for an intersection, whose s is a product. Where the constraint
is just kept, H = pi T + d a M. That is put in, with T and M as measured; with a relative tolerance
it gives cap T pi' (1 - pi') for pi' = pi + d a, the variance of a share times the largest weight.

The difference of two means, over N new and N' old examples, has the variance Var x (1/N + 1/N').
That the policy was fitted to the old ones changes this in second order only. By Bernstein's
inequality it is above b L / 3 + sqrt((b L / 3)^2 + 2 L Var) with probability exp(-L) at most, for
the largest term b = cap / min(N, N'). With L = log(2 (J + 1) / `FALSE_ALARMS`) that holds for both
sides of all J constraints and of the rate at once (Bonferroni).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import computed_field

from m4.catalogue import Model
from m4.certificate import Certificate, certify
from m4.policy import Policy
from m4.totals import Totals

Verdict = Literal["holds", "within noise", "solve again"]

FALSE_ALARMS = 0.01  # chance of "solve again" where nothing has drifted, over all constraints
ROUNDING = 1e-12  # an excess below, of the mean over all examples, is one of rounding


class Finding(Model):
    """What the new examples hold, of one constraint or of the rate.

    All figures are shares of the constraint's weight E[q t]; those of the rate are weights.

    Attributes
    ----------
    name : the constraint, or "rate"
    examples : new examples that it is about, without weights
    found : E[q z] / E[q t], how far the share is from its target; E[q] - eta for the rate
    allowed : what |found| may be: the tolerance, and what the policy missed when it was solved
    excess : |found| beyond what is allowed
    deviation : standard deviation of the excess by chance, at most
    noise : an excess that is larger is not chance
    """

    name: str
    examples: float
    found: float
    allowed: float
    excess: float
    deviation: float
    noise: float

    @property
    def score(self) -> float:
        """The excess in standard deviations; infinite where chance has no part in it."""
        if self.excess == 0:
            return 0.0
        return self.excess / self.deviation if self.deviation > 0 else math.inf

    @property
    def significant(self) -> bool:
        """Whether chance does not explain the excess."""
        return self.excess > self.noise


class Drift(Model):
    """What a policy does to examples that it was not solved on.

    Attributes
    ----------
    examples, solved_on : how many are new, and how many it was solved on
    margin : excess that does not matter, which was added to every tolerance
    rate : E[q] against eta
    constraints : those of which there are new examples with any weight
    unseen : constraints of which there are no new examples, so that nothing is known of them
    lost : constraints whose new examples all have the weight 0
    effective_share, stated_effective_share : effective sample size over examples, and the policy's
    certificate : of the old multipliers on the new examples, at the rate that these weights have
    """

    examples: float
    solved_on: float
    margin: float
    rate: Finding
    constraints: tuple[Finding, ...]
    unseen: tuple[str, ...]
    lost: tuple[str, ...]
    effective_share: float
    stated_effective_share: float
    certificate: Certificate

    @property
    def exceeded(self) -> tuple[Finding, ...]:
        """What is beyond what is allowed, the least likely by chance first."""
        found = [each for each in (self.rate, *self.constraints) if each.excess > 0]
        return tuple(sorted(found, key=lambda each: -each.score))

    @property
    def drifted(self) -> tuple[Finding, ...]:
        """What chance does not explain, the least likely first."""
        return tuple(each for each in self.exceeded if each.significant)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def gain(self) -> float:
        """What solving again could gain at most, as a share of the primal value.

        The relative gap: no weights of the same mean are better by more. It holds the price of what
        is violated, by chance or not.
        """
        return self.certificate.relative_gap

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """Whether the policy holds, misses no more than chance explains, or is to be replaced."""
        if self.drifted:
            return "solve again"
        return "within noise" if self.exceeded else "holds"


def drift_of(policy: Policy, plain: Totals, weighted: Totals, *, margin: float = 0.0) -> Drift:
    """Compare what a policy does to new examples with what it was solved for.

    Parameters
    ----------
    plain, weighted : totals of the new examples as they are, and under the policy's weights
    margin : excess that does not matter, as a share of a constraint's weight, or of the rate
    """
    problem = policy.problem
    cell = (problem.layout.feature, problem.layout.column)
    names = [str(name) for name in problem.constraints()]
    absent, weightless = plain.known[cell] <= 0, weighted.known[cell] <= 0
    look = _Look(policy, plain, weighted, margin)
    return Drift(
        examples=plain.examples,
        solved_on=policy.examples,
        margin=margin,
        rate=look.rate(),
        constraints=tuple(
            look.constraint(j, names[j]) for j in np.flatnonzero(~weightless).tolist()
        ),
        unseen=tuple(names[j] for j in np.flatnonzero(absent)),
        lost=tuple(names[j] for j in np.flatnonzero(weightless & ~absent)),
        effective_share=weighted.effective_sample_size / weighted.examples,
        stated_effective_share=policy.effective_sample_size / policy.examples,
        # With mu = 0 the rate has no term: the certificate at the rate that these weights have.
        certificate=certify(problem, policy.dual_vector(), 0.0, weighted),
    )


@dataclass(frozen=True, eq=False)
class _Look:
    """What `drift_of` is given, looked at one constraint at a time."""

    policy: Policy
    plain: Totals
    weighted: Totals
    margin: float

    def rate(self) -> Finding:
        eta, examples = self.policy.problem.eta, self.weighted.examples
        rate = self.weighted.weight / examples
        allowed = self.margin * eta + self.policy.certificate.rate_error
        variance = self.weighted.squares / examples - rate**2
        return self._finding("rate", examples, rate - eta, allowed, 1.0, variance)

    def constraint(self, j: int, name: str) -> Finding:
        layout, examples = self.policy.problem.layout, self.weighted.examples
        feature, goal = layout.feature[j], float(layout.goal[j])
        cell = (feature, layout.column[j])
        held = float(self.weighted.held[cell]) / examples
        part = float(self.weighted.known[cell]) / examples
        mass = float(self.weighted.known[feature, layout.mass_column[j]]) / examples
        found = (held - goal * part) / mass
        allowed = float(layout.eps[j]) + self.margin + self._missed(name) / mass
        side = math.copysign(1.0, found)
        just_kept = min(max(goal * part + side * allowed * mass, 0.0), part)
        squares = (
            just_kept * (side * (1.0 - goal) - allowed) ** 2
            + (part - just_kept) * (side * goal + allowed) ** 2
            + (mass - part) * allowed**2
        )
        variance = self.policy.problem.cap * squares
        return self._finding(name, float(self.plain.known[cell]), found, allowed, mass, variance)

    def _finding(
        self, name: str, examples: float, found: float, allowed: float, mass: float, variance: float
    ) -> Finding:
        """A finding, from the variance of one example's term."""
        problem, new, old = self.policy.problem, self.weighted.examples, self.policy.examples
        tests = 2 * (len(problem.layout.goal) + 1)
        log = math.log(tests / FALSE_ALARMS)
        variance = max(variance, 0.0) * (1.0 / new + 1.0 / old)
        tail = log * problem.cap / min(new, old) / 3.0
        excess = abs(found) - allowed
        return Finding(
            name=name,
            examples=examples,
            found=found,
            allowed=allowed,
            excess=excess if excess * mass > ROUNDING else 0.0,
            deviation=math.sqrt(variance) / mass,
            noise=(tail + math.sqrt(tail**2 + 2.0 * log * variance)) / mass,
        )

    def _missed(self, name: str) -> float:
        """The largest violation that the certificate admits, of the old examples.

        The gap has a term for each constraint, and none is negative. That of a violation x is at
        least (V - |v|) x at the price V, or V/2 (x - |v|/V)^2 where squares have the price.
        """
        stated, size = self.policy.certificate, abs(self.policy.duals.get(name, 0.0))
        price, gap = stated.price, max(stated.gap, 0.0)
        if self.policy.problem.slack == "l2":
            most = size / price + math.sqrt(2.0 * gap / price)
        else:
            most = gap / (price - size) if price > size else math.inf
        return min(stated.max_violation, most)
