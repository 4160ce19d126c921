"""Weights in a few levels, so that a weight names no pattern."""

from dataclasses import dataclass

import numba
import numpy as np

from m4.errors import InputError

MOST = 32
LEAST = 20
PATTERNS = 2  # that a level covers at least: a weight of one pattern alone would name it


@dataclass(frozen=True, eq=False)
class Levels:
    """Ranges of weights, and the one number that stands for each; L of them.

    `values` and `examples` tell nothing of one pattern. An edge is the weight of one: keep edges
    with the policy, not with the manifest.

    Attributes
    ----------
    edges : (L - 1,) float64, ascending; a weight on an edge is in the level above it
    values : (L,) float64, ascending, the mean weight of each level's examples
    examples : (L,) float64, how many examples each level covers
    """

    edges: np.ndarray
    values: np.ndarray
    examples: np.ndarray

    def index(self, weights: np.ndarray) -> np.ndarray:
        """The level of each weight, (N,) int64; of weights not seen before, too."""
        weights = np.asarray(weights, dtype=np.float64)
        if np.isnan(weights).any():
            raise InputError("a weight is not a number, so it is in no level")
        return np.searchsorted(self.edges, weights, side="right")

    def quantise(self, weights: np.ndarray) -> np.ndarray:
        """The value of each weight's level, (N,) float64."""
        return self.values[self.index(weights)]


def make_levels(
    weights: np.ndarray, counts: np.ndarray, *, most: int = MOST, least: int = LEAST
) -> Levels:
    """The levels that change the weights least: sum_p counts_p (q_p - value_p)^2 is smallest.

    That holds among all divisions into at most `most` ranges, each with at least `least` examples
    and two distinct patterns. Equal weights are in the same level. A value is the mean weight of
    the level's examples, so the expected number of copies stays; where all its weights are equal,
    it is that weight to the last bit.

    Parameters
    ----------
    weights : (P,) weights of distinct patterns
    counts : (P,) examples of each, not negative; a pattern that has none counts for nothing

    Raises `InputError` where all examples together are too few, or have one pattern.
    """
    weights = np.asarray(weights, dtype=np.float64) + 0.0  # no negative zero
    counts = np.asarray(counts, dtype=np.float64)
    if weights.shape != counts.shape or weights.ndim != 1:
        raise InputError(f"weights are {weights.shape}, but counts {counts.shape}; give (P,) each")
    if not np.isfinite(weights).all():
        raise InputError("a weight is not finite")
    if not (np.isfinite(counts) & (counts >= 0) & (counts == np.floor(counts))).all():
        raise InputError("counts holds what is no number of examples: 0, 1, 2, ...")
    if most < 1:
        raise InputError(f"most is {most}, but at least one level is needed")
    weights, counts = weights[counts > 0], counts[counts > 0]
    if counts.sum() < least or len(counts) < PATTERNS:
        raise InputError(
            f"examples: {counts.sum():,.0f}, distinct patterns: {len(counts):,}, but a level of "
            f"weights covers at least {least:,} and {PATTERNS}; leave out the weights, or balance "
            "more data"
        )
    distinct, place = np.unique(weights, return_inverse=True)
    examples, patterns = np.bincount(place, weights=counts), np.bincount(place)
    firsts = best_division(distinct, examples, patterns, most, least)
    ends = np.append(firsts[1:], len(distinct))
    lows, highs = distinct[firsts], distinct[ends - 1]
    covered = np.add.reduceat(examples, firsts)
    above = examples * (distinct - np.repeat(lows, ends - firsts))
    means = lows + np.add.reduceat(above, firsts) / covered
    return Levels(lows[1:], np.clip(means, lows, highs), covered)


def best_division(
    weights: np.ndarray, examples: np.ndarray, patterns: np.ndarray, most: int, least: float
) -> np.ndarray:
    """Where the levels of the best division begin, (L,) int64 positions, the first is 0.

    A dynamic programme over the number of levels (Fisher 1958): the best division of the first j
    weights into k levels is one of the first i weights into k - 1 levels, and a last level [i, j).
    The sum of squares of a level is its share of a constant minus (sum n q)^2 / sum n.

    The best i does not fall as j rises, so that D weights take O(D log D) for each k instead of
    O(D^2). It needs c(a, c) + c(b, d) <= c(a, d) + c(b, c) for a <= b <= c <= d, which sums of
    squares obey. It still holds when the levels that are too small cost infinitely much: where one
    on the left is too small, [b, c) lies in it and is too small as well.

    Parameters
    ----------
    weights : (D,) ascending, distinct
    examples, patterns : (D,) of each weight; together they suffice for one level
    """
    centred = weights - np.average(weights, weights=examples)
    mass = np.concatenate([[0.0], np.cumsum(examples)])
    sums = np.concatenate([[0.0], np.cumsum(examples * centred)])
    known = np.concatenate([[0], np.cumsum(patterns)])
    # The last i from which a level that ends at j is large enough; -1 where there is none.
    latest = np.searchsorted(mass, mass - least, side="right")
    latest = np.minimum(latest, np.searchsorted(known, known - PATTERNS, side="right")) - 1
    best = np.full(len(mass), np.inf)
    best[0] = 0.0
    froms: list[np.ndarray] = []
    costs: list[float] = []
    while len(costs) < most:
        best, chosen = _one_more_level(best, latest, mass, sums)
        if not np.isfinite(best[-1]):
            break
        froms.append(chosen)
        costs.append(float(best[-1]))
    end, firsts = len(weights), []
    for chosen in reversed(froms[: int(np.argmin(costs)) + 1]):
        end = int(chosen[end])
        firsts.append(end)
    return np.array(firsts[::-1], dtype=np.int64)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _one_more_level(
    best: np.ndarray, latest: np.ndarray, mass: np.ndarray, sums: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The least costs with one more level for each end j, and where that level begins.

    Every other j is done first, at growing fineness; those between need only look between their
    neighbours' beginnings.
    """
    ends = len(best)
    costs = np.full(ends, np.inf)
    chosen = np.zeros(ends, dtype=np.int32)
    stride = 1
    while 2 * stride < ends:
        stride *= 2
    while stride:
        for j in range(stride, ends, 2 * stride):
            low = chosen[j - stride]
            high = min(latest[j], chosen[j + stride]) if j + stride < ends else latest[j]
            least, at = np.inf, low
            for i in range(low, high + 1):
                held = sums[j] - sums[i]
                cost = best[i] - held * held / (mass[j] - mass[i])
                if cost < least:
                    least, at = cost, i
            costs[j], chosen[j] = least, at
        stride //= 2
    return costs, chosen
