"""A certificate from buckets that shares no code with the kernels of the solver.

The rows are unpacked block by block into patterns, and `m4.totals` adds them up in plain numpy and
scipy. Blocks are looked at by threads, and added in their order.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from m4.buckets import Buckets
from m4.certificate import Certificate, certify, rate_multiplier
from m4.patterns import Patterns
from m4.problem import Problem
from m4.totals import Totals, measure, nothing, slope, weights

Result = TypeVar("Result")


def certify_buckets(
    problem: Problem, buckets: Buckets, duals: np.ndarray, *, threads: int = 1
) -> Certificate:
    """Certify multipliers v, (J,), with the rate repaired over all rows first.

    Holds two numbers for each row beside the buckets: its level eta u - slope, and its share.
    """

    def level(block: Patterns) -> np.ndarray:
        return problem.eta * block.utility - slope(problem, duals, block)

    levels = np.concatenate(list(_each_block(buckets, level, threads)))
    share = buckets.counts / buckets.examples
    rate_dual = rate_multiplier(levels, share, problem.eta, problem.cap)

    def totals(block: Patterns) -> Totals:
        return measure(problem, block, weights(problem, duals, rate_dual, block))

    whole = sum(_each_block(buckets, totals, threads), nothing(problem))
    return certify(problem, duals, rate_dual, whole)


def _each_block(
    buckets: Buckets, look: Callable[[Patterns], Result], threads: int
) -> Iterator[Result]:
    """What `look` finds in each block, in order; no more blocks unpacked than there are threads."""
    blocks = buckets.patterns()
    with ThreadPoolExecutor(threads) as pool:
        while some := list(islice(blocks, threads)):
            yield from pool.map(look, some)
