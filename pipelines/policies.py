"""Solve: from a run's patterns to its policy."""

import hashlib

from pydantic import Field, ValidationError

from m4.catalogue import Model, explain, load_catalogue
from m4.errors import InputError
from m4.problem import Problem
from m4.solving import Method, Solution
from m4.solving import solve as solve_patterns
from pipelines import storage
from pipelines.beam import Progress
from pipelines.counting import read_patterns
from pipelines.record import Tally, digest_of


class SolveSettings(Model):
    """Settings of the stage that solves for a policy. Targets and tolerances: the catalogue's."""

    run: str = Field(description="run directory with patterns.parquet; policy.json is written")
    catalogue: str = Field(description="the YAML file that the patterns were made with")
    eta: float = Field(default=0.9, gt=0, description="rate that is kept, the mean weight")
    cap: float = Field(default=1.0, gt=0, description="largest weight; 1: keep probabilities")
    penalty: float | None = Field(
        default=None, gt=0, description="price of a violation; left out, tolerances are hard"
    )
    method: Method = Field(default="auto", description="auto and cvxpy: exact; streaming: paper's")
    solver: str | None = Field(default=None, description="the solver that cvxpy calls")
    passes: int | None = Field(default=None, ge=1, description="of the streaming method; 5")
    seed: int | None = Field(default=None, ge=0, description="of the streaming method; 0")


def solve(settings: SolveSettings, *, progress: Progress | None = None) -> Solution:
    """Solve a run's balancing problem and write `<run>/policy.json`.

    Raises `InfeasibleError` where the tolerances cannot be met at the rate, `InputError` where the
    patterns are missing or belong to another catalogue.
    """
    catalogue = load_catalogue(settings.catalogue)
    path = storage.join(settings.run, "patterns.parquet")
    patterns = read_patterns(path, catalogue)
    try:
        problem = Problem.of(
            catalogue, eta=settings.eta, cap=settings.cap, penalty=settings.penalty
        )
    except ValidationError as error:
        raise InputError(explain(error)) from None
    content = hashlib.sha256(storage.read_bytes(path)).hexdigest()
    tally = Tally("solve", settings.run, settings, digest_of(catalogue.digest, content))
    solution = solve_patterns(
        problem,
        patterns,
        method=settings.method,
        solver=settings.solver,
        passes=settings.passes,
        seed=settings.seed,
        catalogue=catalogue.digest,
    )
    storage.write_bytes(
        storage.join(settings.run, "policy.json"), solution.policy.to_json().encode()
    )
    tally.add_rows(round(patterns.examples))
    tally.finish()
    return solution
