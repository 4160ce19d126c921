"""Drift: chance raises no alarm, a share that moved does, and the bounds are what they say."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from m4.certificate import Certificate
from m4.drift import FALSE_ALARMS, Drift, drift_of
from m4.patterns import Patterns
from m4.policy import Policy
from m4.problem import Problem
from m4.solving import make_policy, solve
from m4.totals import measure
from m4.totals import weights as weights_of

LABELS = ("nurse", "chef", "pilot", "teacher")
WOMEN = (0.8, 0.3, 0.2, 0.6)  # among those of each label
PEOPLE = {"woman": 0.25, "man": 0.45, "not known": 0.3}


def population(women: tuple[float, ...] = WOMEN) -> Patterns:
    """Every pattern of a gender and four labels, with its probability as its count."""
    s, y, shares = [], [], []
    for who, share in PEOPLE.items():
        for labels in itertools.product((0.0, 1.0), repeat=len(LABELS)):
            lean = {"woman": np.array(women), "man": 1 - np.array(women), "not known": 0.5}[who]
            rate = np.array([0.25, 0.15, 0.1, 0.06]) * 2 * lean
            s.append({"woman": (1, 0), "man": (0, 1), "not known": (np.nan, np.nan)}[who])
            y.append(labels)
            shares.append(share * np.where(labels, rate, 1 - rate).prod())
    return Patterns.from_arrays(np.array(s), np.array(y), counts=np.array(shares))


def draw(source: Patterns, examples: int, generator: np.random.Generator) -> Patterns:
    counts = generator.multinomial(examples, source.share)
    return replace(source, counts=counts.astype(float))


def expected(source: Patterns, examples: float) -> Patterns:
    """What so many examples hold on average."""
    return replace(source, counts=source.share * examples)


def make_problem(**changes: Any) -> Problem:
    targets = {"targets": (0.5, 0.5), "label_targets": ((0.5,) * len(LABELS),) * 2}
    given = {"eps_r": 0.01, "eps_d": 0.03, "eta": 0.4, **targets, **changes}
    return Problem(values=("woman", "man"), labels=LABELS, **given)


def look(policy: Policy, examples: Patterns, **options: float) -> Drift:
    """The drift of examples that are in memory."""
    problem = policy.problem
    weighted = measure(problem, examples, policy.weights(examples))
    return drift_of(policy, measure(problem, examples), weighted, **options)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Solved on 20,000 examples of the population."""
    drawn = draw(population(), 20_000, np.random.default_rng(7))
    return solve(make_problem(), drawn).policy


# No drift, no alarm.


@pytest.mark.parametrize("seed", range(40))
def test_a_policy_holds_on_the_examples_it_was_solved_on(
    drawn: Callable[..., Any], seed: int
) -> None:
    """Also where a price left violations, by any kind of slack and tolerance."""
    case = drawn(seed, penalty=[0.05, 1.0, 20.0][seed % 3])
    policy = solve(case.problem, case.examples).policy
    found = look(policy, case.examples)
    assert found.verdict == "holds" and found.exceeded == ()
    assert found.effective_share == pytest.approx(found.stated_effective_share)
    assert found.gain < 1e-5


@pytest.mark.parametrize("penalty", [None, 0.2])
def test_what_an_inexact_solver_missed_is_no_drift(penalty: float | None) -> None:
    """The streaming method ends with violations, which its certificate bounds."""
    examples = draw(population(), 3000, np.random.default_rng(5))
    policy = solve(make_problem(penalty=penalty), examples, method="streaming").policy
    assert policy.certificate.gap > 1e-6
    assert look(policy, examples).verdict == "holds"


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (600, 500, {}),
        pytest.param(600, 30_000, {}, marks=pytest.mark.slow),
        pytest.param(30_000, 500, {}, marks=pytest.mark.slow),
        pytest.param(600, 500, {"cap": 3.0, "penalty": 1.0}, marks=pytest.mark.slow),
        pytest.param(600, 500, {"tolerance": "absolute"}, marks=pytest.mark.slow),
    ],
)
def test_chance_raises_no_alarm(old: int, new: int, kind: dict[str, Any]) -> None:
    """Both samples drawn and the policy solved anew, 200 times: at most one in 100 alarms."""
    source, alarms, scores = population(), 0, []
    problem = make_problem(eta=0.3, eps_d=0.06).model_copy(update=kind)
    for seed in range(200):
        generator = np.random.default_rng(seed)
        policy = solve(problem, draw(source, old, generator)).policy
        found = look(policy, draw(source, new, generator))
        alarms += found.verdict == "solve again"
        scores.append(max((each.score for each in found.exceeded), default=0.0))
    assert alarms <= 2
    assert np.quantile(scores, 0.95) > 0.5  # the bounds are above the noise, not out of sight
    assert np.quantile(scores, 0.95) < 2.5


def test_without_the_noise_of_the_old_examples_chance_would_raise_alarms() -> None:
    source, alarms = population(), 0
    for seed in range(50):
        generator = np.random.default_rng(seed)
        policy = solve(make_problem(eta=0.3), draw(source, 1000, generator)).policy
        certain = policy.model_copy(update={"examples": 1e15})
        alarms += look(certain, draw(source, 200_000, generator)).verdict == "solve again"
    assert alarms > 25


@pytest.mark.parametrize("target", [0.02, 0.5, 0.9, 0.995])
@pytest.mark.parametrize("examples", [3, 20, 300, pytest.param(2000, marks=pytest.mark.slow)])
def test_the_noise_bound_holds_for_any_number_of_examples(target: float, examples: int) -> None:
    """Against binomial tails, with weights of 1: exact also where a cell has a few examples."""
    policy = plain_policy(target, old=1e18)
    alarm = np.zeros(examples + 1, dtype=bool)
    for women in range(examples + 1):
        s = Patterns.from_arrays(
            np.array([1.0, 0.0]), np.zeros((2, 0)), counts=np.array([women, examples - women])
        )
        alarm[women] = look(policy, s).verdict == "solve again"
    chance = stats.binom.pmf(np.arange(examples + 1), examples, target)[alarm].sum()
    assert chance <= FALSE_ALARMS
    assert alarm[[0, -1]].any() or examples * min(target, 1 - target) < 3


@pytest.mark.parametrize("target", [0.02, 0.5, 0.9, 0.995])
def test_the_noise_of_many_examples_is_near_that_of_a_normal_distribution(target: float) -> None:
    normal = stats.norm.ppf(1 - FALSE_ALARMS / 4) * math.sqrt(target * (1 - target) / 2000)
    examples = Patterns.from_arrays(np.ones(2000), np.zeros((2000, 0)))
    found = look(plain_policy(target, old=1e18), examples)
    assert normal < found.constraints[0].noise < 1.8 * normal


def plain_policy(target: float, *, old: float) -> Policy:
    """Weights of 1 for all, and one value with a target that is met without a tolerance."""
    problem = Problem(
        values=("woman",),
        labels=(),
        targets=(target,),
        label_targets=((),),
        eps_r=0.0,
        eta=1.0,
    )
    one = Patterns.from_arrays(np.ones(1), np.zeros((1, 0)))
    totals = measure(problem, one)
    policy = make_policy(problem, np.zeros(1), 0.0, totals, totals, method="by hand")
    return policy.model_copy(update={"examples": old, "certificate": PERFECT})


PERFECT = Certificate(primal=0.0, dual=0.0, gap=0.0, max_violation=0.0, price=1.0, rate_error=0.0)


# The variance.


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_variance_is_above_its_bound(
    drawn: Callable[..., Any], written_out: Callable[..., Any], seed: int
) -> None:
    """Probabilities, masks, intersections, relative and absolute: at the edge of what is allowed.

    The tolerance is set to what is found, so that the constraint is just kept.
    """
    case = drawn(seed, eps_r=0.0, eps_d=0.0, eps_x=0.0, penalty=None, slack="l1")
    check_variances(case.problem, case.examples, written_out, seed, whole=False)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("tolerance", ["relative", "absolute"])
def test_the_bound_is_the_variance_where_marks_are_certain_and_weights_whole(
    biased: Callable[..., Patterns],
    problem_for: Callable[..., Problem],
    written_out: Callable[..., Any],
    seed: int,
    tolerance: str,
) -> None:
    examples = biased(seed, 400, masked=True)
    changes = {"eps_r": 0.0, "eps_d": 0.0, "tolerance": tolerance, "eta": 0.5}
    check_variances(problem_for(examples, **changes), examples, written_out, seed, whole=True)


def check_variances(
    problem: Problem,
    examples: Patterns,
    written_out: Callable[..., Any],
    seed: int,
    *,
    whole: bool,
) -> None:
    generator = np.random.default_rng(seed)
    size = len(problem.layout.goal)
    duals = generator.normal(0.0, 1e9 if whole else 0.5, size)
    q = weights_of(problem, duals, 0.0, examples)
    plain, weighted = measure(problem, examples), measure(problem, examples, q)
    policy = make_policy(problem, duals, 0.0, plain, weighted, method="by hand")
    policy = policy.model_copy(update={"certificate": PERFECT})
    moments, _ = written_out(problem, examples)
    widest = problem.model_copy(update={"eps_r": 1.0, "eps_d": 1.0, "eps_x": 1.0})
    masses = written_out(widest, examples)[1]
    names = [str(name) for name in problem.constraints()]
    scale = 1.0 / policy.examples + 1.0 / examples.examples
    for finding in drift_of(policy, plain, weighted).constraints:
        z, t = moments[names.index(finding.name)], masses[names.index(finding.name)]
        mass = examples.share @ (q * t)
        assert finding.found == pytest.approx(examples.share @ (q * z) / mass, abs=1e-9)
        kept = drift_of(policy, plain, weighted, margin=abs(finding.found)).constraints
        bound = next(each for each in kept if each.name == finding.name)
        term = q * (np.sign(finding.found) * z - abs(finding.found) * t)
        variance = examples.share @ term**2
        found = (bound.deviation * mass) ** 2 / scale
        assert found >= variance * (1 - 1e-9) - 1e-15
        if whole:
            assert found == pytest.approx(variance, rel=1e-6, abs=1e-12)


# Drift, and alarm.


def test_a_planted_drift_is_found_where_the_bound_says_so(policy: Policy) -> None:
    """Chefs become women more often: .3 to .5. Found from the sample size on that the noise gives.

    At N examples the excess scatters by less than `deviation` around what N hold on average; where
    that is above the noise by 2.5 deviations, 99 of 100 samples show it.
    """
    moved = population((0.8, 0.5, 0.2, 0.6))
    sizes = np.geomspace(500, 1e6, 60)
    sure = next(size for size in sizes if excess(policy, moved, size, deviations=2.5) > 0)
    none = max(size for size in sizes if excess(policy, moved, size, deviations=-2.5) < 0)
    assert 10 * none < 10 * sure < 1e6
    alarms = {size: 0 for size in (none, sure)}
    for size in alarms:
        for seed in range(100):
            found = look(policy, draw(moved, int(size), np.random.default_rng(seed)))
            alarms[size] += found.verdict == "solve again"
            names = {each.name for each in found.drifted}
            assert names <= {"woman & chef", "man & chef", "rate", "woman", "man"}
    assert alarms[sure] >= 95
    assert alarms[none] <= 10


def excess(policy: Policy, source: Patterns, size: float, *, deviations: float) -> float:
    """By how much the mean excess of chefs is above the noise and some deviations, at a size."""
    found = look(policy, expected(source, size))
    chef = next(each for each in found.exceeded if each.name == "woman & chef")
    return chef.excess - chef.noise - deviations * chef.deviation


def test_the_worst_comes_first_with_its_figures(policy: Policy) -> None:
    moved = expected(population((0.8, 0.6, 0.2, 0.6)), 1e6)
    found = look(policy, moved)
    assert found.verdict == "solve again" and found.examples == pytest.approx(1e6)
    assert found.solved_on == 20_000
    worst = found.drifted[0]
    assert worst.name in ("woman & chef", "man & chef") and worst.allowed == pytest.approx(0.03)
    weights = policy.weights(moved)
    chefs = moved.y.toarray()[:, 1] * moved.observed[:, 0] * weights * moved.counts
    share = chefs @ moved.s[:, 0] / chefs.sum()
    chef = next(each for each in found.drifted if each.name == "woman & chef")
    assert chef.found == pytest.approx(share - 0.5)
    assert chef.excess == pytest.approx(share - 0.5 - 0.03)
    assert chef.examples == pytest.approx((moved.y.toarray()[:, 1] * moved.counts)[:32].sum())
    scores = [each.score for each in found.exceeded]
    assert scores == sorted(scores, reverse=True)


def test_a_margin_says_what_does_not_matter(policy: Policy) -> None:
    moved = expected(population((0.8, 0.6, 0.2, 0.6)), 1e6)
    worst = look(policy, moved).drifted[0]
    beyond = worst.excess - worst.noise
    narrow, wide = (look(policy, moved, margin=part * beyond) for part in (0.8, 1.2))
    assert narrow.verdict == "solve again" and narrow.drifted[0].name == worst.name
    assert wide.verdict == "within noise" and wide.exceeded[0].name == worst.name
    assert narrow.drifted[0].allowed == pytest.approx(0.03 + 0.8 * beyond)
    assert narrow.rate.allowed == pytest.approx(0.8 * beyond * 0.4, abs=1e-12)


def test_a_rate_that_drifted_is_found(policy: Policy) -> None:
    """Among nobody but women, few are dropped: weights have another mean."""
    women = population()
    only = replace(women, counts=women.counts * women.s[:, 0])
    found = look(policy, expected(only, 1e5))
    weights = policy.weights(only)
    rate = only.share @ weights
    assert found.rate.found == pytest.approx(rate - policy.problem.eta)
    assert abs(found.rate.found) > 0.05 and found.rate in found.drifted
    variance = only.share @ weights**2 - rate**2
    assert found.rate.deviation == pytest.approx(math.sqrt(variance * (1e-5 + 1 / 20_000)))


def test_within_noise_is_neither(policy: Policy) -> None:
    found = look(policy, draw(population(), 400, np.random.default_rng(3)))
    assert found.verdict == "within noise" and found.exceeded and not found.drifted
    for each in found.exceeded:
        assert 0 < each.excess <= each.noise and each.score > 0


# What is not there.


def test_a_label_that_does_not_occur_is_listed(policy: Policy) -> None:
    source = population()
    without = replace(source, counts=source.counts * (source.y.toarray()[:, 2] == 0))
    found = look(policy, draw(without, 2000, np.random.default_rng(1)))
    assert found.unseen == ("woman & pilot", "man & pilot") and found.lost == ()
    assert "woman & pilot" not in {each.name for each in found.constraints}
    assert len(found.constraints) + len(found.unseen) == len(policy.problem.constraints())


def test_a_label_of_people_nobody_knows_is_not_seen_either(policy: Policy) -> None:
    source = population()
    known = (source.y.toarray()[:, 2] == 1) & source.observed[:, 0]
    found = look(policy, expected(replace(source, counts=source.counts * ~known), 2000))
    assert found.unseen == ("woman & pilot", "man & pilot")


def test_a_label_whose_examples_all_weigh_nothing_is_lost(policy: Policy) -> None:
    source = population()
    men = replace(source, counts=source.counts * source.y.toarray()[:, 2] * source.s[:, 1])
    harsh = policy.model_copy(update={"rate_dual": 10.0})
    found = look(harsh, expected(men, 1e5))
    assert {"woman & pilot", "man & pilot"} <= set(found.lost) and not found.unseen
    assert not found.constraints and found.effective_share == 0.0
    assert found.drifted == (found.rate,)


# What solving again could gain.


@pytest.mark.parametrize("size", [300, 5000])
def test_the_optimum_is_between_the_two_values_of_the_certificate(size: int) -> None:
    """Solved again on the new examples, at the rate that the old weights have there.

    Where all utilities are 1, another rate in the objective adds a constant.
    """
    problem = make_problem(penalty=0.3)
    source = draw(population(), 5000, np.random.default_rng(11))
    policy = solve(problem, source).policy
    new = draw(population((0.7, 0.6, 0.2, 0.6)), size, np.random.default_rng(12))
    found = look(policy, new)
    rate = problem.eta + found.rate.found
    again = solve(problem.model_copy(update={"eta": rate}), new)
    optimum = again.certificate.primal + 0.5 * (problem.eta - rate) ** 2
    assert found.certificate.dual <= optimum + 1e-9 <= found.certificate.primal + 2e-9
    gain = (found.certificate.primal - optimum) / found.certificate.primal
    assert 0 < gain <= found.gain < 1


def test_as_json_it_says_the_verdict(policy: Policy) -> None:
    content = look(policy, expected(population(), 1e4)).model_dump(mode="json")
    assert content["verdict"] in ("holds", "within noise")
    assert {"rate", "constraints", "unseen", "gain", "certificate"} <= set(content)
