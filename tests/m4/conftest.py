"""What the tests of m4 share: biased examples, problems over them, and the constraints in full."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from m4.certificate import Certificate, certify, repair_rate
from m4.patterns import Patterns
from m4.problem import Intersection, Problem
from m4.totals import measure, weights


def make_biased(
    seed: int,
    rows: int,
    values: int = 2,
    labels: int = 3,
    *,
    soft_s: bool = False,
    soft_y: bool = False,
    masked: bool = False,
    utilities: bool = False,
) -> Patterns:
    """Biased examples, one row each: shares off one half, labels that lean on the attributes."""
    generator = np.random.default_rng(seed)
    s = (generator.random((rows, values)) < generator.uniform(0.35, 0.65, values)).astype(float)
    leaning = generator.uniform(-0.25, 0.25, (values, labels))
    rate = np.clip(0.45 + (s - 0.5) @ leaning, 0.05, 0.95)
    y = (generator.random((rows, labels)) < rate).astype(float)
    if soft_s:
        s = 0.8 * s + 0.2 * generator.random((rows, values))
    if soft_y:
        y = y * generator.uniform(0.3, 1.0, (rows, labels))
    observed = generator.random((rows, values)) < 0.7 if masked else np.ones((rows, values), bool)
    utility = generator.uniform(0.2, 1.0, rows) if utilities else np.ones(rows)
    return Patterns.from_arrays(s, y, observed=observed, utility=utility)


def make_problem(examples: Patterns, **settings: Any) -> Problem:
    """A problem over the columns s0.., y0.. of the examples; targets of one half if not given."""
    m, c = examples.s.shape[1], examples.y.shape[1]
    targets = settings.pop("targets", (0.5,) * m)
    return Problem(
        values=tuple(f"s{k}" for k in range(m)),
        labels=tuple(f"y{r}" for r in range(c)),
        targets=targets,
        label_targets=settings.pop("label_targets", tuple((pi,) * c for pi in targets)),
        **settings,
    )


@dataclass(frozen=True, eq=False)
class Case:
    """A problem and the data it is asked of."""

    problem: Problem
    examples: Patterns


def draw_case(seed: int, **settings: Any) -> Case:
    """Any problem on any data: what the methods allow, and the corners of it.

    One to 250 rows; overlapping, exclusive or repeated values; probabilities, masks, utilities and
    counts over nine orders of magnitude; rare labels; every setting of a problem. `settings`
    replaces what was drawn.
    """
    generator = np.random.default_rng(seed)
    examples = _draw_examples(generator)
    drawn = _draw_settings(generator, examples)
    return Case(make_problem(examples, **{**drawn, **settings}), examples)


def _draw_examples(generator: np.random.Generator) -> Patterns:
    rows = int(generator.choice([1, 2, 3, 12, 60, 250]))
    m, c = int(generator.integers(1, 4)), int(generator.choice([0, 1, 2, 3, 8]))
    s = (generator.random((rows, m)) < generator.uniform(0.1, 0.9, m)).astype(float)
    kind = generator.choice(["overlapping", "exclusive", "repeated"], p=[0.6, 0.3, 0.1])
    if kind == "exclusive":
        s = np.eye(m)[generator.integers(m, size=rows)]
    elif kind == "repeated":
        s[:, -1] = s[:, 0]
    if generator.random() < 0.3:
        s = 0.8 * s + 0.2 * generator.random((rows, m))
    rare = generator.choice([0.01, 0.1, 0.4], c)
    leaning = 1 + (s - 0.5) @ generator.uniform(-1, 1, (m, c))
    y = (generator.random((rows, c)) < rare * leaning).astype(float)
    if generator.random() < 0.3:
        y *= generator.uniform(0.1, 1.0, (rows, c))
    observed = np.ones((rows, m), bool)
    if generator.random() < 0.3:
        observed = generator.random((rows, m)) < 0.7
    utility = generator.random(rows) if generator.random() < 0.3 else np.ones(rows)
    orders = generator.choice([0, 1, 9], p=[0.6, 0.2, 0.2])
    counts = np.rint(10.0 ** generator.uniform(0, orders, rows))
    return Patterns.from_arrays(s, y, observed=observed, utility=utility, counts=counts)


def _draw_settings(generator: np.random.Generator, examples: Patterns) -> dict[str, Any]:
    m, c = examples.s.shape[1], examples.y.shape[1]
    values, labels = [f"s{k}" for k in range(m)], [f"y{r}" for r in range(c)]
    exclusive = m > 1 and bool((examples.s.sum(axis=1) == 1).all())
    targets = np.asarray(generator.uniform(0.2, 0.8, m))
    if exclusive:
        targets = generator.dirichlet(np.full(m, 5.0))
    tolerance = str(generator.choice(["relative", "absolute"]))
    label_targets = np.repeat(targets[:, None], c, axis=1)
    if tolerance == "relative" and generator.random() < 0.3:
        label_targets = np.clip(label_targets + generator.uniform(-0.2, 0.2, (m, c)), 0, 1)
    pairs = [(one, other) for one in range(m) for other in range(one)]
    penalty = [None, None, 0.01, 1.0, 10.0, 100.0][generator.integers(6)]
    cap = float(generator.choice([0.5, 1.0, 1.0, 2.0, 5.0]))
    eps = generator.choice([0.0, 1e-6, 0.01, 0.1], 3)
    return {
        "targets": tuple(targets.tolist()),
        "label_targets": tuple(map(tuple, label_targets.tolist())),
        "left_out": tuple(
            (value, label) for value in values for label in labels if generator.random() < 0.1
        ),
        "intersections": tuple(
            Intersection(
                first=values[one],
                second=values[other],
                target=float(targets[one] * targets[other]),
            )
            for one, other in pairs
            if generator.random() < 0.4
        ),
        "eps_r": float(eps[0]),
        "eps_d": float(eps[1]),
        "eps_x": float(eps[2]),
        "tolerance": tolerance,
        "eta": float(generator.choice([0.05, 0.3, 0.6, 0.9, 1.0])) * cap,
        "cap": cap,
        "penalty": penalty,
        "slack": "l2" if penalty is not None and generator.random() < 0.4 else "l1",
    }


def write_constraints(problem: Problem, examples: Patterns) -> tuple[np.ndarray, np.ndarray]:
    """z and eps * t of every constraint, both (J, N), one after the other from the formulas."""
    s, o, y = examples.s, examples.observed.astype(float), examples.y.toarray()
    pairs = [
        (k, r)
        for k, value in enumerate(problem.values)
        for r, label in enumerate(problem.labels)
        if (value, label) not in problem.left_out
    ]
    moments, allowed = [], []
    for k, pi in enumerate(problem.targets):
        moments.append(o[:, k] * (s[:, k] - pi))
        allowed.append(problem.eps_r * o[:, k])
    for k, r in pairs:
        if problem.tolerance == "relative":
            moments.append(o[:, k] * (s[:, k] - problem.label_targets[k][r]) * y[:, r])
            allowed.append(problem.eps_d * o[:, k] * y[:, r])
        else:
            moments.append(o[:, k] * (s[:, k] - problem.targets[k]) * y[:, r])
            allowed.append(problem.eps_d * o[:, k])
    for pair in problem.intersections:
        k, other = problem.values.index(pair.first), problem.values.index(pair.second)
        both = o[:, k] * o[:, other]
        moments.append(both * (s[:, k] * s[:, other] - pair.target))
        allowed.append(problem.eps_x * both)
    return np.array(moments), np.array(allowed)


def certify_duals(
    problem: Problem, examples: Patterns, duals: np.ndarray, rate_dual: float | None = None
) -> Certificate:
    """The certificate of multipliers, with the rate repaired where mu is left out."""
    mu = repair_rate(problem, duals, examples) if rate_dual is None else rate_dual
    chosen = weights(problem, duals, mu, examples)
    return certify(problem, duals, mu, measure(problem, examples, chosen))


@pytest.fixture(scope="session")
def biased() -> Callable[..., Patterns]:
    return make_biased


@pytest.fixture(scope="session")
def problem_for() -> Callable[..., Problem]:
    return make_problem


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Case]:
    return draw_case


@pytest.fixture(scope="session")
def written_out() -> Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]:
    return write_constraints


@pytest.fixture(scope="session")
def certified() -> Callable[..., Certificate]:
    return certify_duals
