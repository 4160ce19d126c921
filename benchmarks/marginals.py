"""Shares of values alone, met exactly: ours against raking, which caps no weight."""

import itertools
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from benchmarks.machine import Clock
from benchmarks.report import Table, exact, power, progress, seconds
from benchmarks.web import ATTRIBUTES, Web
from m4.patterns import Patterns
from m4.problem import Problem
from m4.solving import solve

SHAPE = (10, 1000)  # the web with the most attributes: of 2, 3 and 5 values
LOOSE = 1000.0  # a cap that holds no weight
TIGHTER = 0.9  # of the largest weight without a cap

COLUMNS = (
    "rows",
    "method",
    "seconds",
    "largest error of a share",
    "effective sample size",
    "largest weight over the mean",
)


@dataclass(frozen=True, eq=False)
class Weighted:
    """Weights of mean 1 and the seconds that they took."""

    weights: np.ndarray
    seconds: float

    @property
    def effective_sample_size(self) -> float:
        """Kish's, as a share of the rows."""
        return float(self.weights.sum() ** 2 / (self.weights @ self.weights) / len(self.weights))

    def largest_error(self, s: np.ndarray, targets: np.ndarray) -> float:
        return float(np.abs(self.weights @ s / self.weights.sum() - targets).max())


def known_people(rows: int) -> np.ndarray:
    """s of that many rows on which every attribute is known, (rows, m): raking knows no mask."""
    web = Web.shaped(SHAPE)
    drawn: list[np.ndarray] = []
    first = 0
    while sum(len(each) for each in drawn) < rows:
        group, _, _ = web.rows(first, first + 1_000_000)
        first += 1_000_000
        drawn.append(group[web.observed[group].all(axis=1)])
    return web.s[np.concatenate(drawn)[:rows]]


def targets() -> np.ndarray:
    """Equal shares within each attribute, (m,)."""
    return np.concatenate([np.full(size, 1.0 / size) for size in ATTRIBUTES[SHAPE[0]]])


def balance(s: np.ndarray, cap: float) -> Weighted:
    """Our weights, from rows to rows: joined, solved, certified. No weight is above `cap`."""
    shares = tuple(targets().tolist())
    problem = Problem(
        values=tuple(f"value {k}" for k in range(len(shares))),
        labels=(),
        targets=shares,
        label_targets=((),) * len(shares),
        eps_r=0.0,
        eta=1.0,
        cap=cap,
    )
    clock = Clock()
    patterns = Patterns.from_arrays(s, sparse.csr_array((len(s), 0)))
    weights = solve(problem, patterns).weights
    return Weighted(weights, clock.lap())


def rake(s: np.ndarray, python: str) -> Weighted:
    """Weights by raking, from the interpreter that has `balance`."""
    ends = np.cumsum((0, *ATTRIBUTES[s.shape[1]]))
    with tempfile.TemporaryDirectory() as folder:
        rows, raked = Path(folder, "rows.npz"), Path(folder, "weights.npz")
        arrays = {}
        for attribute, (low, high) in enumerate(itertools.pairwise(ends)):
            arrays[f"category_{attribute}"] = s[:, low:high].argmax(axis=1)
            arrays[f"share_{attribute}"] = targets()[low:high]
        np.savez(rows, **arrays)
        script = Path(__file__).with_name("raking.py")
        subprocess.run([python, script, rows, raked], check=True, capture_output=True)
        with np.load(raked) as found:
            weights = found["weights"]
            return Weighted(weights / weights.mean(), float(found["seconds"]))


def has_raking(python: str) -> bool:
    """Whether an interpreter can import `balance`."""
    if shutil.which(python) is None:
        return False
    asked = [python, "-c", "import balance"]
    return subprocess.run(asked, check=False, capture_output=True).returncode == 0


def table(sizes: tuple[int, ...], python: str) -> Table:
    """Raking and ours, without and with a cap, at equal shares."""
    lines = []
    for rows in sizes:
        progress(f"shares alone, {power(rows)} rows")
        s = known_people(rows)
        balance(s[:1000], LOOSE)  # loads compiled code
        free = balance(s, LOOSE)
        cap = TIGHTER * float(free.weights.max())
        methods = {
            "m4": free,
            f"m4, no weight above {cap:.3g}": balance(s, cap),
        }
        if has_raking(python):
            methods = {"balance, raking": rake(s, python), **methods}
        else:
            lines.append((power(rows), "balance, raking: missing", *["-"] * 4))
        for name, weighted in methods.items():
            lines.append(
                (
                    power(rows),
                    name,
                    seconds(weighted.seconds),
                    exact(weighted.largest_error(s, targets())),
                    f"{weighted.effective_sample_size:.4f}",
                    f"{weighted.weights.max():.3f}",
                )
            )
    caption = (
        "Shares of the values of three attributes (2, 3 and 5 values) met exactly, nothing asked "
        "of labels, on rows where all are known. Seconds from rows to weights of rows."
    )
    return Table(caption, COLUMNS, tuple(lines))
