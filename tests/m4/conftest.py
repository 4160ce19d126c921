"""What the tests of m4 share: biased examples, problems over them, and the constraints in full."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from m4.patterns import Patterns
from m4.problem import Problem


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
    return np.array(moments), np.array(allowed)


@pytest.fixture(scope="session")
def biased() -> Callable[..., Patterns]:
    return make_biased


@pytest.fixture(scope="session")
def problem_for() -> Callable[..., Problem]:
    return make_problem


@pytest.fixture(scope="session")
def written_out() -> Callable[[Problem, Patterns], tuple[np.ndarray, np.ndarray]]:
    return write_constraints
