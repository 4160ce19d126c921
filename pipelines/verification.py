"""Verify: whether what a policy states of itself is true of the annotations.

Nothing of the solver is used, nor what it left on the way (patterns, totals): the multipliers are
applied to every annotated example, and all figures follow from what that adds up to.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError, computed_field

from m4.bias import bias_of
from m4.catalogue import Catalogue, Model, explain
from m4.certificate import certify
from m4.errors import InputError
from m4.policy import Policy
from m4.problem import Problem
from pipelines import storage
from pipelines.beam import BeamSettings, Progress
from pipelines.passes import measure_weights
from pipelines.tables import annotated_tables, check_digest
from pipelines.totals import Measured

CHOSEN = ("eps_r", "eps_d", "eps_x")  # a policy may be solved at other tolerances, and says so
TOLERANCE = 1e-9  # of a figure's scale: far above rounding, far below what matters


class Claim(Model):
    """One figure that a policy states, beside the same figure found again.

    Attributes
    ----------
    allowed : largest difference at which the two agree: `TOLERANCE` times the figure's scale,
        which is 1 or the price of violations, if that is more, for what is in units of the
        objective and for the price; the cap for means of weights; 1 for bias; the number of
        examples for sizes
    """

    name: str
    stated: float
    recomputed: float
    allowed: float

    @computed_field  # type: ignore[prop-decorator]
    @property
    def agrees(self) -> bool:
        """Whether the two figures agree; one that is not a number agrees with none."""
        return abs(self.stated - self.recomputed) <= self.allowed


class Verification(Model):
    """What became of a policy's claims.

    Attributes
    ----------
    catalogue : digest of the catalogue that policy and annotations share
    shards, examples : that were looked at
    claims : every figure that the policy states
    faults : why figures that agree would prove nothing, a sentence each
    """

    catalogue: str
    shards: int
    examples: int
    claims: tuple[Claim, ...]
    faults: tuple[str, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def holds(self) -> bool:
        """Whether all claims agree and there is no fault."""
        return not self.faults and all(claim.agrees for claim in self.claims)


def check_multipliers(path: str, policy: Policy) -> None:
    """Raise `InputError` where a multiplier is not a finite number: there are no weights then."""
    for name, value in {**policy.duals, "the rate": policy.rate_dual}.items():
        if not np.isfinite(value):
            raise InputError(f"{path}: the multiplier of {name} is {value}; run solve again")


@dataclass(frozen=True, eq=False)
class MeasuredPolicy:
    """A policy, and what a run's annotations come to, as they are and under its weights.

    Attributes
    ----------
    shards : tables that were looked at
    """

    policy: Policy
    measured: Measured
    shards: int


def measure_policy(
    path: str,
    catalogue: Catalogue,
    run: str,
    beam: BeamSettings,
    purpose: str,
    progress: Progress | None = None,
) -> MeasuredPolicy:
    """Apply a policy's multipliers to all annotations of a run: one pass over the tables.

    Parameters
    ----------
    purpose : what the samples are wanted for, as the sentence says that misses them

    Raises `InputError` where there are no annotations, where policy, annotations and catalogue do
    not belong together, and where a multiplier is no number.
    """
    policy = Policy.load(path)
    check_digest(path, policy.catalogue, catalogue.digest)
    check_multipliers(path, policy)
    annotations = storage.join(run, "annotations")
    stems = tuple(stem for stem, commit in annotated_tables(annotations, catalogue) if commit.rows)
    if not stems:
        raise InputError(f"{annotations}: no annotated samples to {purpose}")
    duals, rate_dual = policy.dual_vector(), policy.rate_dual
    measured = measure_weights(
        policy.problem, duals, rate_dual, catalogue, annotations, stems, run, beam
    )
    if progress is not None:
        progress(len(stems), len(stems))
    return MeasuredPolicy(policy, measured, len(stems))


def verify(policy: Policy, catalogue: Catalogue, measured: Measured, shards: int) -> Verification:
    """Compare what a policy states with what its weights do to all annotated examples.

    Parameters
    ----------
    measured : totals of the annotations, as they are and under the policy's weights
    shards : tables that they come from
    """
    return Verification(
        catalogue=catalogue.digest,
        shards=shards,
        examples=round(measured.plain.examples),
        claims=tuple(_claims(policy, measured)),
        faults=tuple(_faults(policy, catalogue, measured)),
    )


def _claims(policy: Policy, measured: Measured) -> Iterator[Claim]:
    problem, plain, weighted = policy.problem, measured.plain, measured.weighted
    found = certify(problem, policy.dual_vector(), policy.rate_dual, weighted)
    objective = max(1.0, found.price)
    for name, scale in {
        "primal": objective,
        "dual": objective,
        "gap": objective,
        "max_violation": problem.cap,
        "price": objective,
        "rate_error": problem.cap,
    }.items():
        yield _claim(name, getattr(policy.certificate, name), getattr(found, name), scale)
    for when, stated, bias in (
        ("before", policy.before, bias_of(problem, plain, plain)),
        ("after", policy.after, bias_of(problem, plain, weighted)),
    ):
        for name in ("representation_bias", "association_bias"):
            yield _claim(f"{name} {when}", getattr(stated, name), getattr(bias, name), 1.0)
    size, count = weighted.effective_sample_size, plain.examples
    yield _claim("effective_sample_size", policy.effective_sample_size, size, count)
    yield _claim("examples", policy.examples, count, count)


def _claim(name: str, stated: float, recomputed: float, scale: float) -> Claim:
    return Claim(name=name, stated=stated, recomputed=recomputed, allowed=TOLERANCE * scale)


def _faults(policy: Policy, catalogue: Catalogue, measured: Measured) -> Iterator[str]:
    problem, weighted = policy.problem, measured.weighted
    for name in _departures(problem, catalogue):
        yield f"`{name}` of the policy's problem is not what the catalogue states"
    largest = float(np.abs(policy.dual_vector()).max(initial=0.0))
    if problem.slack == "l1" and largest > problem.price * (1.0 + TOLERANCE):
        yield (
            f"the largest multiplier, {largest:g}, is above the penalty {problem.price:g}: the "
            "dual value is no lower bound"
        )
    rate = weighted.weight / weighted.examples
    if abs(rate - problem.eta) > TOLERANCE * problem.cap:
        yield (
            f"the mean weight is {rate:.9g}, but the rate {problem.eta:.9g}: the primal value is "
            "no upper bound"
        )


def _departures(problem: Problem, catalogue: Catalogue) -> list[str]:
    """Fields of a problem, of those that a catalogue decides, that are not as it says."""
    try:
        stated = Problem.of(
            catalogue,
            eta=problem.eta,
            cap=problem.cap,
            penalty=problem.penalty,
            slack=problem.slack,
        )
    except ValidationError as error:
        raise InputError(f"the catalogue states no problem: {explain(error)}") from None
    return [
        name
        for name in Problem.model_fields
        if name not in CHOSEN and getattr(problem, name) != getattr(stated, name)
    ]
