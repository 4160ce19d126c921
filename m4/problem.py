"""The balancing problem: targets, tolerances, rate and cap; its constraints on given data.

Alabdulmohsin et al., "CLIP the Bias" (ICLR 2024), with a mask for what is not observed and a
tolerance relative to each label's own mass.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator
from scipy import sparse

from m4.catalogue import Catalogue, Model, Share
from m4.errors import InputError
from m4.patterns import Patterns

Tolerance = Literal["relative", "absolute"]


class Constraint(Model):
    """One two-sided moment constraint: a value's share, overall or among a label's examples."""

    value: str
    label: str | None = None

    def __str__(self) -> str:
        return self.value if self.label is None else f"{self.value} & {self.label}"


class Problem(Model):
    """What is asked for, without the data.

        minimise    1/2 E[(eta u - q)^2] + penalty * (sum of slacks)     over 0 <= q <= cap
        subject to  E[q] = eta
                    |E[q o_k (s_k - pi_k)]|      <= eps_r E[q o_k]     + slack
                    |E[q o_k (s_k - pi_kr) y_r]| <= eps_d E[q o_k y_r] + slack     "relative"
                    |E[q o_k (s_k - pi_k) y_r]|  <= eps_d E[q o_k]     + slack     "absolute"

    Attributes
    ----------
    values, labels : names of the m sensitive values and of the c labels and proxies
    targets : pi_k, m shares
    label_targets : pi_kr, m rows of c shares; other than pi_k for the relative tolerance only
    left_out : pairs (value, label) without a constraint
    eta : rate E[q] that is kept
    cap : largest weight Q; 1 makes q a probability of keeping
    penalty : price V of a violation; None, or infinity, for hard constraints
    """

    values: tuple[str, ...]
    labels: tuple[str, ...]
    targets: tuple[Share, ...]
    label_targets: tuple[tuple[Share, ...], ...]
    left_out: tuple[tuple[str, str], ...] = ()
    eps_r: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    eps_d: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    tolerance: Tolerance = "relative"
    eta: float = Field(default=0.9, gt=0)
    cap: float = Field(default=1.0, gt=0)
    penalty: float | None = Field(default=None, gt=0)

    @field_validator("penalty")
    @classmethod
    def _hard(cls, penalty: float | None) -> float | None:
        return None if penalty == math.inf else penalty  # JSON has no infinity

    @model_validator(mode="after")
    def _consistent(self) -> "Problem":
        m, c = len(self.values), len(self.labels)
        if len(self.targets) != m or [len(row) for row in self.label_targets] != [c] * m:
            raise ValueError(f"targets do not match {m} values and {c} labels")
        for names in (self.values, self.labels):
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{twice!r} is there twice; give each column its own name")
        for value, label in self.left_out:
            if value not in self.values or label not in self.labels:
                raise ValueError(f"left_out: the problem has no pair {value!r}, {label!r}")
        same = all(
            set(row) <= {share} for share, row in zip(self.targets, self.label_targets, strict=True)
        )
        if self.tolerance == "absolute" and not same:
            raise ValueError(
                "targets of single labels have no effect on an absolute tolerance; leave them out, "
                "or make the tolerance relative"
            )
        if self.eta > self.cap:
            raise ValueError(
                f"the rate eta {self.eta:g} is above the cap {self.cap:g}; lower eta or raise cap"
            )
        if not (math.isfinite(self.eta) and math.isfinite(self.cap)):
            raise ValueError("eta and cap must be finite")
        return self

    @classmethod
    def of(
        cls,
        catalogue: Catalogue,
        *,
        eta: float,
        cap: float = 1.0,
        penalty: float | None = None,
    ) -> "Problem":
        """The problem that a catalogue states, at a rate, a cap and a price of violations."""
        return cls(
            values=catalogue.value_names,
            labels=catalogue.label_names,
            targets=tuple(catalogue.targets.tolist()),
            label_targets=tuple(map(tuple, catalogue.label_targets.tolist())),
            left_out=catalogue.leave_out,
            eps_r=catalogue.tolerances.representation,
            eps_d=catalogue.tolerances.association,
            tolerance=catalogue.tolerances.mode,
            eta=eta,
            cap=cap,
            penalty=penalty,
        )

    def constraints(self) -> tuple[Constraint, ...]:
        """All J constraints: first order by value, then second order by value and label."""
        first = [Constraint(value=value) for value in self.values]
        second = [
            Constraint(value=value, label=label)
            for value in self.values
            for label in self.labels
            if not self.leaves_out(value, label)
        ]
        return (*first, *second)

    def leaves_out(self, value: str, label: str) -> bool:
        """Whether the pair has no constraint, on purpose."""
        return (value, label) in self._left_out

    @cached_property
    def _left_out(self) -> frozenset[tuple[str, str]]:
        return frozenset(self.left_out)

    def check(self, patterns: Patterns) -> None:
        """Raise `InputError` where the data has other columns than the problem."""
        given = (patterns.s.shape[1], patterns.y.shape[1])
        wanted = (len(self.values), len(self.labels))
        if given != wanted:
            raise InputError(
                f"the data has {given[0]} sensitive values and {given[1]} labels, the problem "
                f"{wanted[0]} and {wanted[1]}; use the annotations of the same catalogue"
            )


@dataclass(frozen=True, eq=False)
class Moments:
    """The constraints of a problem on given data: E[q z_j] within +-eps_j E[q t_j].

    Attributes
    ----------
    z : (N, J) CSR, the moments
    mass : (N, L) CSR, the distinct tolerance masses t
    mass_of : (J,) int, the column of `mass` that belongs to constraint j
    eps : (J,) tolerances
    share : (N,) each row's share of all examples
    preferred : (N,) eta u, the weight a row would have without constraints
    eta, cap, penalty : as in the problem; penalty is infinite for hard constraints
    """

    z: sparse.csr_array
    mass: sparse.csr_array
    mass_of: np.ndarray
    eps: np.ndarray
    share: np.ndarray
    preferred: np.ndarray
    eta: float
    cap: float
    penalty: float

    @classmethod
    def of(cls, problem: Problem, patterns: Patterns) -> "Moments":
        """Compile the constraints of a problem for some data. Only non-zeros are stored."""
        problem.check(patterns)
        m = len(problem.values)
        known = patterns.observed.astype(np.float64)
        targets = np.asarray(problem.targets)
        z = [sparse.csr_array(known * (patterns.s - targets))]
        mass = [sparse.csr_array(known)]
        owners = []  # the value of each second-order constraint
        for k, value in enumerate(problem.values):
            kept = [
                r for r, label in enumerate(problem.labels) if not problem.leaves_out(value, label)
            ]
            if not kept:
                continue
            among = sparse.csr_array(patterns.y[:, kept].multiply(known[:, [k]]))
            if problem.tolerance == "relative":
                goals = np.asarray(problem.label_targets[k])[kept]
                mass.append(among)
            else:
                goals = np.full(len(kept), targets[k])
            owners += [k] * len(kept)
            z.append(among.multiply(patterns.s[:, [k]]) - among @ sparse.diags_array(goals))
        moments = sparse.csr_array(sparse.hstack(z, format="csr"))
        eps = np.full(moments.shape[1], problem.eps_d)
        eps[:m] = problem.eps_r
        # A relative tolerance has a mass of its own per constraint, an absolute one its value's.
        relative = problem.tolerance == "relative"
        mass_of = np.arange(len(eps)) if relative else np.array([*range(m), *owners])
        return cls(
            moments,
            sparse.csr_array(sparse.hstack(mass, format="csr")),
            mass_of,
            eps,
            patterns.share,
            problem.eta * patterns.utility,
            problem.eta,
            problem.cap,
            math.inf if problem.penalty is None else problem.penalty,
        )

    def slope(self, duals: np.ndarray) -> np.ndarray:
        """v . z - sum_j eps_j t_j |v_j| for signed multipliers v of shape (J,); (N,)."""
        widths = np.bincount(self.mass_of, self.eps * np.abs(duals), self.mass.shape[1])
        return self.z @ duals - self.mass @ widths

    def allowed(self) -> sparse.csr_array:
        """The tolerances eps_j t_j of every row, (N, J) CSR."""
        belongs = sparse.csr_array(
            (self.eps, (self.mass_of, np.arange(len(self.eps)))),
            shape=(self.mass.shape[1], len(self.eps)),
        )
        return sparse.csr_array(self.mass @ belongs)

    def expected(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(E[q z_j], E[q t_j]) for weights q of shape (N,); both (J,)."""
        weighted = self.share * weights
        return self.z.T @ weighted, (self.mass.T @ weighted)[self.mass_of]

    def violation(self, weights: np.ndarray) -> np.ndarray:
        """How far each constraint is exceeded, max(|E[q z_j]| - eps_j E[q t_j], 0); (J,)."""
        moment, mass = self.expected(weights)
        return np.maximum(np.abs(moment) - self.eps * mass, 0.0)

    def weights(self, duals: np.ndarray, rate_dual: float) -> np.ndarray:
        """q*(v, mu) = clip(eta u - slope(v) - mu, 0, cap), (N,)."""
        return np.clip(self.preferred - self.slope(duals) - rate_dual, 0.0, self.cap)

    def objective(self, weights: np.ndarray) -> float:
        """1/2 E[(eta u - q)^2]."""
        return float(0.5 * self.share @ (self.preferred - weights) ** 2)

    def dual_value(self, duals: np.ndarray, rate_dual: float) -> float:
        """g(v, mu), a lower bound of the optimum for any |v| <= penalty and any mu."""
        slope = self.slope(duals)
        best = np.clip(self.preferred - slope - rate_dual, 0.0, self.cap)
        inner = 0.5 * (self.preferred - best) ** 2 + (slope + rate_dual) * best
        return float(self.share @ inner) - rate_dual * self.eta
