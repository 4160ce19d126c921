"""Whether what was read of each weight is what chance makes of the uses expected: chi-square."""

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from pipelines.receipts import weight_order

LEAST_EXPECTED = 5  # uses of a cell, below which chi-square is no good approximation

Uses = Counter[float | None]
"""Uses by weight; each has at least one."""
Expected = Mapping[float | None, float]
"""Uses by weight, as expected: fractions above 0, with the sum of the uses found."""


def p_value_of_shares(found: Uses, expected: Expected) -> float:
    """Of the test that what was read of each weight is what was expected of it.

    Samples are read without replacement, and of most shards all or none: the true variance is
    smaller than that of the test, which therefore does not reject too often.
    """
    from scipy.stats import chisquare  # takes half a second to import

    observed, wanted = cells_of_shares(found, expected)
    return float(chisquare(observed, wanted).pvalue) if len(wanted) > 1 else 1.0


def cells_of_shares(found: Uses, expected: Expected) -> tuple[np.ndarray, np.ndarray]:
    """Uses found and expected by weight, the rarest weights together in the last cell.

    In each cell at least `LEAST_EXPECTED` uses are expected, unless there is one cell only.
    """
    weights = sorted({*expected, *found}, key=lambda weight: expected.get(weight, 0.0))
    observed = np.array([found[weight] for weight in weights], dtype=np.float64)
    wanted = np.array([expected.get(weight, 0.0) for weight in weights])
    below = int(np.searchsorted(wanted, LEAST_EXPECTED))
    enough = int(np.searchsorted(np.cumsum(wanted), LEAST_EXPECTED)) + 1
    rare = max(below, enough)
    first, second = (np.append(cells[rare:], cells[:rare].sum()) for cells in (observed, wanted))
    return first, second


def furthest_share(found: Uses, expected: Expected) -> float | None:
    """The weight that adds most to chi-square; one of which nothing was expected before others."""

    def distance(weight: float | None) -> float:
        wanted = expected.get(weight, 0.0)
        return (found[weight] - wanted) ** 2 / wanted if wanted else math.inf

    return max(sorted({*expected, *found}, key=weight_order), key=distance)
