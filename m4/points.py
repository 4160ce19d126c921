"""Points of the cost curve, what is asked of them, and the choice among them."""

import json
from collections.abc import Sequence
from typing import Any, Literal

import polars as pl
from pydantic import Field

from m4.catalogue import Model
from m4.errors import InputError
from m4.policy import BiasSummary
from m4.problem import Problem

ROUNDING = 1e-9  # by which an effective sample size may miss what is asked for

Status = Literal["solved", "infeasible", "unsolved"]


class Setting(Model):
    """Where on the curve: a common factor on all tolerances, the rate eta and the cap Q."""

    factor: float = Field(ge=0, allow_inf_nan=False)
    eta: float = Field(gt=0, allow_inf_nan=False)
    cap: float = Field(gt=0, allow_inf_nan=False)

    def __str__(self) -> str:
        return f"tolerances x {self.factor:g}, rate {self.eta:g}, cap {self.cap:g}"

    def of(self, problem: Problem) -> Problem:
        """The problem at this setting; its tolerances are those of `problem` times the factor."""
        widths = {
            name: self.factor * getattr(problem, name) for name in ("eps_r", "eps_d", "eps_x")
        }
        return problem.model_copy(update={**widths, "eta": self.eta, "cap": self.cap})


class Outcome(Model):
    """What the optimal weights of a setting achieve, and what they cost.

    Attributes
    ----------
    representation_bias, association_bias : RB and AB of the weighted data
    worst_gap : max_j |E[q z_j]| / E[q t_j], the largest gap between a share and its target among
        all constraints, in the units of the tolerances
    effective_sample_size : Kish's (sum q)^2 / sum q^2
    effective_share : the same over all N examples
    effective_per_kept : the same over the eta N examples that are kept
    design_effect : N / effective sample size, as `m4.diagnostics.design_effect`: 1 plus the
        relative variance of the weights. Not eta N over it, which is at most 1 for every
        keep-probability, since E[q^2] <= E[q]
    largest_weight : of any example
    top_share : share of all weight on the 1 % of examples with the largest weights
    lost_labels : labels that had examples and have no weight left
    relative_gap : of the certificate
    dearest : the tolerances that cost most: effective examples gained per .01 wider, to first
        order, by constraint (`m4.diagnostics.price_table`); constraints that say the same, like the
        two values of an exclusive pair, share one price. Empty where utilities differ or
        violations are paid for
    """

    representation_bias: float
    association_bias: float
    worst_gap: float
    effective_sample_size: float
    effective_share: float
    effective_per_kept: float
    design_effect: float
    largest_weight: float
    top_share: float
    lost_labels: tuple[str, ...]
    relative_gap: float
    dearest: dict[str, float]


class CurvePoint(Model):
    """One setting, solved or marked as one that cannot be met.

    Attributes
    ----------
    eps_r, eps_d, eps_x : tolerances at the setting
    status : "unsolved" where feasibility is so tight that the solver proved neither
    outcome : of a solved point
    largest_rate : largest feasible rate at these tolerances and cap, for a point that is not
        solved; None where finding it is not cheap
    passes : over the data, to solve or refute it; 0 where another point refuted it
    """

    setting: Setting
    eps_r: float
    eps_d: float
    eps_x: float
    status: Status
    outcome: Outcome | None = None
    largest_rate: float | None = None
    passes: int = 0

    @property
    def size(self) -> float:
        """The effective sample size, 0 where it is not solved."""
        return 0.0 if self.outcome is None else self.outcome.effective_sample_size


class Requirements(Model):
    """What a point has to satisfy.

    Attributes
    ----------
    min_ess : effective sample size at least; below 1 a share of the examples
    target_deff : design effect N / effective sample size at most
    max_weight : cap at most
    """

    min_ess: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    target_deff: float | None = Field(default=None, ge=1, allow_inf_nan=False)
    max_weight: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def asked(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.model_dump(exclude_none=True))

    def size(self, examples: float) -> float:
        """The effective sample size that is needed among so many examples; 0 for any."""
        least = self.min_ess or 0.0
        least = least * examples if least < 1.0 else least
        return max(least, examples / self.target_deff if self.target_deff else 0.0)

    def allows(self, cap: float) -> bool:
        return self.max_weight is None or cap <= self.max_weight

    def met_by(self, point: CurvePoint, examples: float) -> bool:
        """Whether a point is solved and satisfies all of them."""
        return (
            point.outcome is not None
            and self.allows(point.setting.cap)
            and point.size >= (1.0 - ROUNDING) * self.size(examples)
        )

    def __str__(self) -> str:
        given = self.model_dump(exclude_none=True)
        return ", ".join(f"{name} {value:g}" for name, value in given.items())


class Curve(Model):
    """Points ordered by cap, rate and factor, over data of `examples` examples and its bias.

    `chosen` is a point that was asked for; it may lie between those of the grid.
    """

    examples: float
    before: BiasSummary
    points: tuple[CurvePoint, ...]
    chosen: CurvePoint | None = None

    def choosing(self, chosen: CurvePoint) -> "Curve":
        """The same curve with a point chosen."""
        return self.model_copy(update={"chosen": chosen})

    def to_json(self) -> str:
        """As JSON, which `Curve.model_validate_json` reads back."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"

    def frame(self) -> pl.DataFrame:
        """A row per point: the setting, status and all numbers; null where it is not solved."""
        rows = [
            {
                **point.setting.model_dump(),
                **point.model_dump(exclude={"setting", "outcome"}),
                **(point.outcome.model_dump(exclude={"dearest"}) if point.outcome else {}),
            }
            for point in self.points
        ]
        columns = [*Setting.model_fields, *CurvePoint.model_fields, *Outcome.model_fields]
        kinds: dict[str, Any] = dict.fromkeys(columns, pl.Float64)
        kinds |= {"status": pl.String, "passes": pl.Int64, "lost_labels": pl.List(pl.String)}
        for nested in ("setting", "outcome", "dearest"):
            del kinds[nested]
        return pl.DataFrame(rows, schema=kinds)


def choose(curve: Curve, wanted: Requirements) -> CurvePoint:
    """The least biased point that satisfies what is wanted.

    Least biased: the smallest tolerances, among those the largest rate, then the largest effective
    sample size, then the smallest cap. Raises `InputError` where no point satisfies it, naming
    the nearest: of the caps that are allowed, the point with the largest effective sample size.
    """
    if not wanted.asked:
        raise InputError("nothing is asked for; give min_ess, target_deff or max_weight")
    meeting = [point for point in curve.points if wanted.met_by(point, curve.examples)]
    if meeting:
        return min(
            meeting,
            key=lambda point: (
                point.setting.factor,
                -point.setting.eta,
                -point.size,
                point.setting.cap,
            ),
        )
    caps = sorted(point.setting.cap for point in curve.points)
    if not wanted.allows(caps[0]):
        raise InputError(
            f"max_weight {wanted.max_weight:g} is below the smallest cap of the curve, "
            f"{caps[0]:g}; add a cap of {wanted.max_weight:g}"
        )
    allowed = [point for point in curve.points if wanted.allows(point.setting.cap)]
    raise nothing_meets(wanted, allowed, curve.examples)


def nothing_meets(
    wanted: Requirements, points: Sequence[CurvePoint], examples: float
) -> InputError:
    """The error that names the nearest of some points, none of which is enough."""
    needed = wanted.size(examples)
    nearest = max(points, key=lambda point: point.size)
    if nearest.outcome is None:
        rates = [point.largest_rate for point in points if point.largest_rate is not None]
        largest = f" (the largest feasible rate is {max(rates):.4f})" if rates else ""
        return InputError(
            f"{wanted}: no point of the curve is feasible{largest}; lower the rate, raise the cap "
            "or widen the tolerances"
        )
    return InputError(
        f"{wanted} asks for an effective sample size of {needed:,.1f} of {examples:,.0f} (design "
        f"effect {examples / needed:.3f}); the nearest point, {nearest.setting}, has "
        f"{nearest.size:,.1f} ({nearest.outcome.design_effect:.3f}); ask for less, lower the "
        "rate, raise the cap or widen the tolerances"
    )
