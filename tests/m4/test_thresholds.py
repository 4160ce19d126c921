"""Calibrated thresholds: samples that meet the tolerances where Poisson samples do not."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pytest

from m4.errors import InputError
from m4.patterns import Patterns
from m4.policy import Policy
from m4.problem import Problem
from m4.realised import Realised, realised_totals
from m4.sampling import poisson_copies, uniform_draws
from m4.solving import solve
from m4.thresholds import calibrate_thresholds, calibrated_copies
from m4.totals import Totals, weights

Make = Callable[..., Patterns]
MakeProblem = Callable[..., Problem]
ROWS = 20_000


@dataclass(frozen=True, eq=False)
class World:
    """Examples with their patterns, and a policy that balances them."""

    examples: Patterns
    patterns: Patterns
    inverse: np.ndarray
    policy: Policy

    def draws(self, seed: int) -> np.ndarray:
        return np.random.default_rng([seed, 17]).random(len(self.inverse))

    def realised(self, copies: np.ndarray) -> Realised:
        problem = self.policy.problem
        return Realised.of(problem, realised_totals(problem, self.examples, copies))


@pytest.fixture(scope="module")
def world_of(biased: Make, problem_for: MakeProblem) -> Callable[..., World]:
    def make(rows: int = ROWS, kind: dict[str, bool] | None = None, **settings: float) -> World:
        examples = biased(5, rows, **(kind or {}))
        given = {"eta": 0.5, "eps_r": 2e-3, "eps_d": 2e-3, **settings}
        problem = problem_for(examples, **given)
        patterns, inverse = examples.distinct()
        return World(examples, patterns, inverse, solve(problem, patterns).policy)

    return make


@pytest.fixture(scope="module")
def world(world_of: Callable[..., World]) -> World:
    return world_of()


@pytest.mark.parametrize(
    "settings", [{}, {"cap": 2.5, "eta": 1.2}, {"kind": {"masked": True}, "tolerance": "absolute"}]
)
def test_it_meets_tolerances_that_poisson_misses(
    world_of: Callable[..., World], settings: dict[str, object]
) -> None:
    """Planned: on ten seeds, no violation at all on eight, and less than a tenth of Poisson's."""
    world = world_of(**settings)
    poisson, calibrated, met = [], [], 0
    for seed in range(10):
        sample = calibrated_copies(world.policy, world.patterns, world.inverse, world.draws(seed))
        first, best = sample.calibration.rounds[0].realised, sample.calibration.best.realised
        poisson.append(first.total_violation)
        calibrated.append(best.total_violation)
        met += best.violated == 0
        assert world.realised(sample.copies) == pytest.approx(best, abs=1e-12)
        assert best.rate_error < 2e-3
    assert met >= 8
    assert sum(calibrated) < sum(poisson) / 10
    assert np.median(poisson) > 1e-4  # Poisson does miss them, or the test would prove little


def test_the_first_round_is_the_poisson_sample(world: World) -> None:
    draws = world.draws(3)
    sample = calibrated_copies(world.policy, world.patterns, world.inverse, draws, rounds=0)
    plain = poisson_copies(world.policy.weights(world.patterns)[world.inverse], draws)
    np.testing.assert_array_equal(sample.copies, plain)
    assert len(sample.calibration.rounds) == 1


def test_copies_are_thresholds_on_the_same_draws(world: World) -> None:
    """Nested with every other sample of these draws: the copies are Poisson's for other weights."""
    draws = world.draws(4)
    sample = calibrated_copies(world.policy, world.patterns, world.inverse, draws)
    best, problem = sample.calibration.best, world.policy.problem
    moved = weights(problem, best.duals, best.rate_dual, world.patterns)
    np.testing.assert_array_equal(poisson_copies(moved[world.inverse], draws), sample.copies)
    planned = world.policy.weights(world.patterns)
    assert 0 < np.abs(moved - planned).max() < 0.2
    lower = poisson_copies(0.9 * moved[world.inverse], draws)
    assert (lower <= sample.copies).all()


def test_over_seeds_a_pattern_is_used_as_planned_for_narrower_tolerances(world: World) -> None:
    """The mean lies between the policy's weights and those for a fifth of its tolerances."""
    seeds, counts = 40, world.patterns.counts
    used = np.zeros(len(counts))
    for seed in range(seeds):
        sample = calibrated_copies(
            world.policy, world.patterns, world.inverse, world.draws(100 + seed)
        )
        used += np.bincount(world.inverse, sample.copies)
    share = used / (seeds * counts)
    planned = world.policy.weights(world.patterns)
    narrower = {"eps_r": 0.2 * 2e-3, "eps_d": 0.2 * 2e-3}
    narrow = solve(world.policy.problem.model_copy(update=narrower), world.patterns)
    between = np.abs(narrow.policy.weights(world.patterns) - planned)
    deviation = np.sqrt(planned * (1 - planned) / (seeds * counts))
    assert (np.abs(share - planned) <= between + 4 * deviation + 2e-3).all()
    assert between.max() < 0.03


def test_no_order_and_no_sharding_changes_a_copy(world_of: Callable[..., World]) -> None:
    """Totals are summed over shards, cut and shuffled in three ways; marks are probabilities."""
    world = world_of(3_000, {"soft_s": True, "masked": True}, eps_r=1e-2, eps_d=1e-2)
    problem = world.policy.problem
    uids = [f"uid-{row}" for row in range(len(world.inverse))]
    generator = np.random.default_rng(0)
    found = []
    for shards in (1, 7, 40):
        order = generator.permutation(len(uids))
        parts = np.array_split(order, shards)
        drawn: dict[str, int] = {}

        def shard_totals(
            duals: np.ndarray,
            rate_dual: float,
            part: np.ndarray,
            drawn: dict[str, int] = drawn,
        ) -> Totals:
            rows = world.examples.rows(part)
            names = [uids[row] for row in part]
            kept = weights(problem, duals, rate_dual, rows)
            copies = poisson_copies(kept, uniform_draws(names, seed=9, epoch=2))
            drawn.update(zip(names, copies.tolist(), strict=True))
            return realised_totals(problem, rows, copies)

        def realise(duals: np.ndarray, rate_dual: float, parts: list[np.ndarray] = parts) -> Totals:
            return reduce(add, (shard_totals(duals, rate_dual, part) for part in parts))

        best = calibrate_thresholds(world.policy, world.patterns, realise).best
        realise(best.duals, best.rate_dual)
        found.append((best.duals.tolist(), best.rate_dual, drawn))
    assert found[0] == found[1] == found[2]
    draws = uniform_draws(uids, seed=9, epoch=2)
    together = calibrated_copies(world.policy, world.patterns, world.inverse, draws)
    assert dict(zip(uids, together.copies.tolist(), strict=True)) == found[0][2]


def test_it_ends_as_soon_as_nothing_is_exceeded(world_of: Callable[..., World]) -> None:
    wide = world_of(eps_r=0.3, eps_d=0.3)
    calls = 0

    def realise(duals: np.ndarray, rate_dual: float) -> Totals:
        nonlocal calls
        calls += 1
        kept = weights(wide.policy.problem, duals, rate_dual, wide.patterns)[wide.inverse]
        copies = poisson_copies(kept, wide.draws(0))
        return realised_totals(wide.policy.problem, wide.patterns, copies, wide.inverse)

    calibration = calibrate_thresholds(wide.policy, wide.patterns, realise)
    assert calls == len(calibration.rounds) == 1
    np.testing.assert_array_equal(calibration.best.duals, wide.policy.dual_vector())


def test_cells_of_a_few_examples_are_reported_not_hidden(world_of: Callable[..., World]) -> None:
    """With 300 examples and a tolerance of a thousandth no cell holds one copy within it."""
    small = world_of(300, eps_r=1e-3, eps_d=1e-3)
    for seed in range(5):
        sample = calibrated_copies(small.policy, small.patterns, small.inverse, small.draws(seed))
        totals = [each.realised.total_violation for each in sample.calibration.rounds]
        best = sample.calibration.best.realised
        assert best.total_violation == min(totals) <= totals[0]
        assert best.unresolved == len(small.policy.problem.constraints())


@pytest.mark.parametrize("slack", ["l1", "l2"])
def test_violations_that_are_paid_for_are_kept_to_what_was_planned(
    biased: Make, problem_for: MakeProblem, slack: str
) -> None:
    """Targets that cannot be met at this rate: the sample misses them as far as the weights do."""
    examples = biased(5, ROWS)
    problem = problem_for(
        examples, eta=0.9, eps_r=2e-3, eps_d=2e-3, targets=(0.3, 0.6), penalty=5.0, slack=slack
    )
    patterns, inverse = examples.distinct()
    solution = solve(problem, patterns)
    planned = solution.totals.violation(problem.layout).sum()
    assert planned > 0.01
    scattered = []
    for seed in range(6):
        draws = np.random.default_rng([seed, 3]).random(ROWS)
        sample = calibrated_copies(solution.policy, patterns, inverse, draws)
        first, best = sample.calibration.rounds[0].realised, sample.calibration.best.realised
        assert best.total_violation <= min(first.total_violation, planned + 3e-3)
        scattered.append(first.total_violation - planned)
    assert max(scattered) > 3e-3


def test_patterns_of_other_examples_are_refused(world: World) -> None:
    other = world.patterns.rows(slice(1, None))

    def realise(duals: np.ndarray, rate_dual: float) -> Totals:
        return realised_totals(world.policy.problem, world.patterns, np.ones(ROWS), world.inverse)

    with pytest.raises(InputError, match="drawn from 20000 examples, but the patterns count"):
        calibrate_thresholds(world.policy, other, realise)
