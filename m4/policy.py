"""The policy: a few kilobytes that give the weight of any example from its annotations alone."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError, model_validator

from m4.catalogue import Model, explain
from m4.certificate import Certificate
from m4.errors import InputError
from m4.patterns import Patterns
from m4.problem import Problem
from m4.totals import weights


class BiasSummary(Model):
    """The two maxima of a bias table."""

    representation_bias: float
    association_bias: float


class Policy(Model):
    """A solved problem. The weight of an example is q = clip(eta u - slope(v) - mu, 0, cap).

    Attributes
    ----------
    problem : targets, tolerances, rate and cap
    duals : signed multiplier v by constraint name; a name that is missing has 0
    rate_dual : mu
    certificate : how good the weights are on the data they were solved for
    before, after : bias of that data, as it was and under the weights
    effective_sample_size, examples : of that data
    catalogue : digest of the catalogue, empty for plain arrays
    method, versions : what solved it
    """

    problem: Problem
    duals: Mapping[str, float]
    rate_dual: float
    certificate: Certificate
    before: BiasSummary
    after: BiasSummary
    effective_sample_size: float
    examples: float
    catalogue: str = ""
    method: str
    versions: Mapping[str, str] = {}

    @model_validator(mode="after")
    def _known_duals(self) -> "Policy":
        unknown = set(self.duals) - {str(name) for name in self.problem.constraints()}
        if unknown:
            raise ValueError(f"duals: the problem has no constraint {sorted(unknown)[0]!r}")
        return self

    def dual_vector(self) -> np.ndarray:
        """The multipliers in the order of the problem's constraints, (J,)."""
        return np.array([self.duals.get(str(name), 0.0) for name in self.problem.constraints()])

    def weights(self, patterns: Patterns) -> np.ndarray:
        """Weights of any examples with the problem's columns, (N,)."""
        self.problem.check(patterns)
        return weights(self.problem, self.dual_vector(), self.rate_dual, patterns)

    def to_json(self) -> str:
        """As JSON; `load` gives back the same policy, to the last bit of every number."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"

    @classmethod
    def load(cls, path: Path | str) -> "Policy":
        """Read a policy; raises `InputError` naming the file where it is not one."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except FileNotFoundError:
            raise InputError(f"{path}: no such policy; run solve first") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error}") from None
        except ValidationError as error:
            raise InputError(f"{path}: not a policy: {explain(error)}") from None
