"""The balancing problem: targets, tolerances, rate and cap, and the constraints they make.

Alabdulmohsin et al., "CLIP the Bias" (ICLR 2024), with a mask for what is not observed, a tolerance
relative to each label's own mass, and intersections of values as a third kind of moment.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from m4.catalogue import Catalogue, Model, Share
from m4.errors import InputError
from m4.patterns import Patterns

Tolerance = Literal["relative", "absolute"]
Slack = Literal["l1", "l2"]


class Constraint(Model):
    """One two-sided moment constraint.

    A value's share, overall or among the examples of `label`; or the share of the examples that
    show both `value` and `other`, an intersection.
    """

    value: str
    label: str | None = None
    other: str | None = None

    def __str__(self) -> str:
        if self.other is not None:
            return f"{self.value} x {self.other}"
        return self.value if self.label is None else f"{self.value} & {self.label}"


class Intersection(Model):
    """Two sensitive values whose joint share has a target of its own."""

    first: str
    second: str
    target: Share

    def __str__(self) -> str:
        return f"{self.first} x {self.second}"


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each constraint j finds its moment and mass in the totals of some data.

    Totals are matrices held[f, r] = E[q o_f s_f y_r] and known[f, r] = E[q o_f y_r], with y_0 = 1.
    A feature f is a sensitive value, or after the m values an intersection.

    Attributes
    ----------
    feature, column : (J,) int, f and r of the moment held[f, r] - goal * known[f, r]
    goal : (J,) its target share
    eps : (J,) tolerance, of the mass known[f, mass_column]
    mass_column : (J,) int, r for relative tolerances, 0 where all examples count
    shape : (features, 1 + labels)
    """

    feature: np.ndarray
    column: np.ndarray
    goal: np.ndarray
    eps: np.ndarray
    mass_column: np.ndarray
    shape: tuple[int, int]

    def moment(self, held: np.ndarray, known: np.ndarray) -> np.ndarray:
        """E[q z_j] from totals, (J,)."""
        cell = (self.feature, self.column)
        return held[cell] - self.goal * known[cell]

    def mass(self, known: np.ndarray) -> np.ndarray:
        """E[q t_j] from totals, (J,)."""
        return known[self.feature, self.mass_column]

    def factors(self, duals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Matrices A and B, both of `shape`, that make the slope of an example

        sum_j v_j z_j - eps_j t_j |v_j|  =  sum_fr o_f y_r (s_f A_fr - B_fr).
        """
        held, known = np.zeros(self.shape), np.zeros(self.shape)
        np.add.at(held, (self.feature, self.column), duals)
        np.add.at(known, (self.feature, self.column), self.goal * duals)
        np.add.at(known, (self.feature, self.mass_column), self.eps * np.abs(duals))
        return held, known


class Problem(Model):
    """What is asked for, without the data.

        minimise    1/2 E[(eta u - q)^2] + price of the slacks           over 0 <= q <= cap
        subject to  E[q] = eta
                    |E[q o_k (s_k - pi_k)]|      <= eps_r E[q o_k]     + slack
                    |E[q o_k (s_k - pi_kr) y_r]| <= eps_d E[q o_k y_r] + slack     "relative"
                    |E[q o_k (s_k - pi_k) y_r]|  <= eps_d E[q o_k]     + slack     "absolute"
                    |E[q o_k o_l (s_k s_l - pi_kl)]| <= eps_x E[q o_k o_l] + slack

    Attributes
    ----------
    values, labels : names of the m sensitive values and of the c labels and proxies
    targets : pi_k, m shares
    label_targets : pi_kr, m rows of c shares; other than pi_k for the relative tolerance only
    left_out : pairs (value, label) without a constraint
    intersections : pairs of values with a target for their joint share
    eps_r, eps_d, eps_x : tolerances of representation, association and intersections
    eta : rate E[q] that is kept
    cap : largest weight Q; 1 makes q a probability of keeping
    penalty : price V of a violation; None, or infinity, for hard constraints
    slack : "l1" prices slacks at V * sum(slack), which leaves few violations; "l2" at
        V/2 * sum(slack^2), which spreads what cannot be avoided
    """

    values: tuple[str, ...]
    labels: tuple[str, ...]
    targets: tuple[Share, ...]
    label_targets: tuple[tuple[Share, ...], ...]
    left_out: tuple[tuple[str, str], ...] = ()
    intersections: tuple[Intersection, ...] = ()
    eps_r: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    eps_d: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    eps_x: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    tolerance: Tolerance = "relative"
    eta: float = Field(default=0.9, gt=0)
    cap: float = Field(default=1.0, gt=0)
    penalty: float | None = Field(default=None, gt=0)
    slack: Slack = "l1"

    @field_validator("penalty")
    @classmethod
    def _hard(cls, penalty: float | None) -> float | None:
        return None if penalty == math.inf else penalty  # JSON has no infinity

    @model_validator(mode="after")
    def _consistent(self) -> "Problem":
        m, c = len(self.values), len(self.labels)
        if len(self.targets) != m or [len(row) for row in self.label_targets] != [c] * m:
            raise ValueError(f"targets do not match {m} values and {c} labels")
        joint = tuple(str(pair) for pair in self.intersections)
        for names in (self.values, self.labels, joint):
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{twice!r} is there twice; give each column its own name")
        for value, label in self.left_out:
            if value not in self.values or label not in self.labels:
                raise ValueError(f"left_out: the problem has no pair {value!r}, {label!r}")
        for pair in self.intersections:
            if pair.first == pair.second or not {pair.first, pair.second} <= set(self.values):
                raise ValueError(f"intersections: {str(pair)!r} is not a pair of two values")
        same = all(
            set(row) <= {share} for share, row in zip(self.targets, self.label_targets, strict=True)
        )
        if self.tolerance == "absolute" and not same:
            raise ValueError(
                "targets of single labels have no effect on an absolute tolerance; leave them out, "
                "or make the tolerance relative"
            )
        if self.slack == "l2" and self.penalty is None:
            raise ValueError("slack l2 has no effect on hard constraints; give a finite penalty")
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
        slack: Slack = "l1",
    ) -> "Problem":
        """The problem that a catalogue states, at a rate, a cap and a price of violations."""
        return cls(
            values=catalogue.value_names,
            labels=catalogue.label_names,
            targets=tuple(catalogue.targets.tolist()),
            label_targets=tuple(map(tuple, catalogue.label_targets.tolist())),
            left_out=catalogue.leave_out,
            intersections=tuple(
                Intersection(first=first, second=second, target=share)
                for first, second, share in catalogue.joint_targets()
            ),
            eps_r=catalogue.tolerances.representation,
            eps_d=catalogue.tolerances.association,
            eps_x=catalogue.tolerances.intersection,
            tolerance=catalogue.tolerances.mode,
            eta=eta,
            cap=cap,
            penalty=penalty,
            slack=slack,
        )

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> "Problem":
        """A changed copy: validated like any other, with constraints compiled anew."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(fields | dict(update or {}))

    @property
    def price(self) -> float:
        """The penalty V, infinite for hard constraints."""
        return math.inf if self.penalty is None else self.penalty

    def constraints(self) -> tuple[Constraint, ...]:
        """All J constraints: values, then values with labels, then intersections."""
        first = [Constraint(value=value) for value in self.values]
        second = [
            Constraint(value=value, label=label)
            for value in self.values
            for label in self.labels
            if not self.leaves_out(value, label)
        ]
        third = [Constraint(value=pair.first, other=pair.second) for pair in self.intersections]
        return (*first, *second, *third)

    @cached_property
    def layout(self) -> Layout:
        """The constraints as positions in totals, in the order of `constraints`."""
        m, c, crossed = len(self.values), len(self.labels), len(self.intersections)
        pairs = [
            (k, 1 + r)
            for k, value in enumerate(self.values)
            for r, label in enumerate(self.labels)
            if not self.leaves_out(value, label)
        ]
        cells = np.array(
            [*((k, 0) for k in range(m)), *pairs, *((m + x, 0) for x in range(crossed))]
        )
        feature, column = cells[:, 0], cells[:, 1]
        relative = self.tolerance == "relative"
        goals = [self.label_targets[k][r - 1] if relative else self.targets[k] for k, r in pairs]
        return Layout(
            feature,
            column,
            np.array([*self.targets, *goals, *(pair.target for pair in self.intersections)]),
            np.repeat([self.eps_r, self.eps_d, self.eps_x], [m, len(pairs), crossed]),
            column if relative else np.zeros_like(column),
            (m + crossed, 1 + c),
        )

    def joint(self, s: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """s_k s_l and o_k o_l of the intersections, both (N, intersections)."""
        first = [self.values.index(pair.first) for pair in self.intersections]
        second = [self.values.index(pair.second) for pair in self.intersections]
        return s[:, first] * s[:, second], observed[:, first] & observed[:, second]

    def features(self, s: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """o_f s_f and o_f of all features (values, then intersections), as float64."""
        joint_s, joint_known = self.joint(s, observed)
        known = np.hstack([observed, joint_known]).astype(np.float64)
        return known * np.hstack([s, joint_s]), known

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
