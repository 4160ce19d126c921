"""Calibrated thresholds: hashed samples that meet the tolerances, not only on average.

Example i is used where its draw h_i lies below q_i(v, mu), as in Poisson sampling. What such a
sample holds differs from what was planned by the noise of the draws. But the draws are permanent,
so that noise can be measured, and is nearly the same for weights nearby:

    E[copies(v') z] - E[q(v') z]  ~  E[copies(v) z] - E[q(v) z]          for (v', mu') near (v, mu)

So solve the problem once more with that difference added to its moments, its masses and its rate,
and use the thresholds q_i(v', mu'). What remains is the noise of the draws that lie between the
old and the new thresholds, about sqrt(E|q' - q|) as large; tolerances are narrowed by three of its
standard deviations, so that a sample that scatters around its plan still meets them.

The idea of matching a realised sample to known totals is that of calibration (Deville and Särndal
1992), which changes the weights of a sample; here the sample itself is changed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from m4.certificate import exact_price
from m4.dual import Point, Tilt
from m4.errors import InputError
from m4.full_passes import SampleDual
from m4.optimum import maximise
from m4.patterns import Patterns
from m4.policy import Policy
from m4.problem import Problem
from m4.realised import Realised, realised_totals
from m4.sampling import poisson_copies
from m4.solving import duals_over
from m4.totals import Totals, measure, weights

Realise = Callable[[np.ndarray, float], Totals]

ROUNDS = 3
ACCURACY = 1e-9  # relative gap of a round; far below the noise that it is to take out
DEVIATIONS = 3.0  # of the noise to come, by which tolerances are narrowed
NARROWEST = 0.2  # share of a tolerance that is left
HEADROOM = 4.0  # a multiplier may grow by, before a violation is cheaper


@dataclass(frozen=True, eq=False)
class Round:
    """Multipliers v, (J,), and mu, with the totals and the report of the sample they draw."""

    duals: np.ndarray
    rate_dual: float
    totals: Totals
    realised: Realised


@dataclass(frozen=True, eq=False)
class Calibration:
    """The rounds, the policy's own multipliers first. The thresholds to use are those of `best`."""

    rounds: tuple[Round, ...]

    @property
    def best(self) -> Round:
        """The round whose sample has the least violation in total; the first of equals."""
        return min(self.rounds, key=lambda each: each.realised.total_violation)


def calibrate_thresholds(
    policy: Policy, patterns: Patterns, realise: Realise, *, rounds: int = ROUNDS
) -> Calibration:
    """Calibrate a policy's thresholds to the draws of one sample, for one seed and epoch.

    Each round takes one pass over the examples, by `realise`, and two warm solves on the patterns.
    It ends early where no constraint is exceeded.

    It cannot help where a constraint has so few copies that one of them steps over the tolerance
    (see `Realised.unresolved`): such constraints scatter by a few copies, and while they are
    chased they stir up the others by as much. Nor is more gained by a tolerance of zero than the
    noise of the last round.

    Parameters
    ----------
    patterns : of all the examples that the sample is drawn from, with counts
    realise : called with multipliers (v, mu), gives the totals of the copies that they draw, as
        `realised_totals` does: of copies with thresholds q*(v, mu), summed over all examples; the
        draws must be the same at each call
    rounds : how often multipliers are corrected

    Raises `InputError` where the totals are of another number of examples than the patterns.
    """
    problem = _priced(policy)
    problem.check(patterns)
    duals_of = duals_over(problem, patterns)
    duals, rate_dual = policy.dual_vector(), policy.rate_dual
    made: list[Round] = []
    for left in reversed(range(rounds + 1)):
        totals = realise(duals, rate_dual)
        if totals.examples != patterns.examples:
            raise InputError(
                f"the sample was drawn from {totals.examples:.0f} examples, but the patterns count "
                f"{patterns.examples:.0f}; count the patterns of the same examples"
            )
        made.append(Round(duals, rate_dual, totals, Realised.of(policy.problem, totals)))
        if left == 0 or made[-1].realised.violated == 0:
            break
        point = _corrected(problem, duals_of, patterns, made[-1])
        duals, rate_dual = point.duals, point.rate_dual
    return Calibration(tuple(made))


def _priced(policy: Policy) -> Problem:
    """The policy's problem with a finite price.

    The few examples of a rare label may have been drawn so that no weights make up for it.
    """
    if policy.problem.penalty is not None:
        return policy.problem
    price = HEADROOM * exact_price(policy.dual_vector())
    return policy.problem.model_copy(update={"penalty": price, "slack": "l1"})


def _corrected(problem: Problem, dual_of: SampleDual, patterns: Patterns, last: Round) -> Point:
    """Multipliers whose plan, with the noise that the last sample had, meets the tolerances."""
    layout = problem.layout
    planned = dual_of(problem, None, None).evaluate(last.duals, last.rate_dual)
    noise = Tilt(
        last.totals.moment(layout) - planned.moment,
        last.totals.mass(layout) - planned.mass,
        last.totals.weight / last.totals.examples - (planned.rate_error + problem.eta),
    )
    start = (last.duals, last.rate_dual)
    found = maximise(dual_of(problem, noise, None), start=start, accuracy=ACCURACY).point
    # The new plan's sample scatters around it as far as its thresholds moved: a draw in between
    # changes a moment by s - pi, with variance pi (1 - pi) where the constraint is met.
    moved = np.abs(
        weights(problem, found.duals, found.rate_dual, patterns)
        - weights(problem, last.duals, last.rate_dual, patterns)
    )
    crossed = measure(problem, patterns, moved).known[layout.feature, layout.column]
    deviation = np.sqrt(crossed * layout.goal * (1.0 - layout.goal)) / patterns.examples
    most = (1.0 - NARROWEST) * layout.eps * np.maximum(found.mass, 0.0)
    margin = np.minimum(DEVIATIONS * deviation, most)
    narrowed = np.divide(margin, layout.eps, out=np.zeros_like(margin), where=layout.eps > 0)
    aim = Tilt(noise.moment, noise.mass - narrowed, noise.rate)
    start = (found.duals, found.rate_dual)
    return maximise(dual_of(problem, aim, None), start=start, accuracy=ACCURACY).point


@dataclass(frozen=True, eq=False)
class CalibratedSample:
    """Copies of each example, (N,) int32, and how their thresholds were found."""

    copies: np.ndarray
    calibration: Calibration


def calibrated_copies(
    policy: Policy,
    patterns: Patterns,
    inverse: np.ndarray,
    draws: np.ndarray,
    *,
    rounds: int = ROUNDS,
) -> CalibratedSample:
    """Draw a sample whose realised moments meet the policy's tolerances; examples in memory.

    Parameters
    ----------
    patterns, inverse : distinct patterns, and the row of each example among them, (N,); both as
        `Patterns.distinct` gives them
    draws : (N,) in [0, 1), such as `uniform_draws` gives
    rounds : how often the thresholds are corrected

    The copies depend on the set of examples and their draws, not on their order. They are those of
    `poisson_copies` for other weights, so over seeds the mean of a copy is not exactly q: it lies
    between q and the weights of the problem with tolerances as narrow as those aimed at, a fifth at
    the least; they come together as N grows.
    """
    problem = policy.problem

    def drawn(duals: np.ndarray, rate_dual: float) -> np.ndarray:
        return poisson_copies(weights(problem, duals, rate_dual, patterns)[inverse], draws)

    def realise(duals: np.ndarray, rate_dual: float) -> Totals:
        return realised_totals(problem, patterns, drawn(duals, rate_dual), inverse)

    calibration = calibrate_thresholds(policy, patterns, realise, rounds=rounds)
    best = calibration.best
    return CalibratedSample(drawn(best.duals, best.rate_dual), calibration)
