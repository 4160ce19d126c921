"""The dual of bucketed rows, by look-ups in one small table."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from m4 import kernels
from m4.buckets import Buckets
from m4.dual import Anchor, Dual, Sums, Tilt
from m4.problem import Problem

SMALL = 50_000  # rows and labels below which threads cost more than they bring


class TableDual(Dual):
    """Bucketed rows, for data with few distinct attribute patterns."""

    def __init__(
        self,
        problem: Problem,
        buckets: Buckets,
        *,
        threads: int = 1,
        tilt: Tilt | None = None,
        anchor: Anchor | None = None,
    ):
        utility = buckets.utility
        self._examples = buckets.examples
        self._preferred = None if utility is None else problem.eta * utility
        liked = self._preferred
        alike = problem.eta**2
        squares = alike if liked is None else float(buckets.counts @ liked**2) / self._examples
        super().__init__(problem, squares, tilt, anchor)
        self._alike = problem.eta if liked is None else 0.0  # what all rows prefer
        self._buckets = buckets
        self._held, self._known = problem.features(buckets.s, buckets.observed)
        self._threads = threads
        small = len(buckets.counts) + len(buckets.labels) < SMALL
        self._chunks = [(0, len(buckets.group))] if small else buckets.chunks()

    @property
    def buckets(self) -> Buckets:
        return self._buckets

    def _run(self, kernel: Any, chunk: tuple[int, int], *rest: Any) -> None:
        """A kernel on the rows of a chunk; `rest` is what only this one takes."""
        each = self._buckets
        kernel(
            *chunk,
            *(each.group, each.length, each.rows, each.entries, each.labels, each.strengths),
            *(each.counts, self._preferred, self._alike),
            *rest,
        )

    def table(self, duals: np.ndarray) -> np.ndarray:
        """T[p, r], (P, 1 + c)."""
        held, known = self.problem.layout.factors(duals)
        return np.ascontiguousarray(self._held @ held - self._known @ known)

    def _each_chunk(self, kernel: Any, *extra: Any, outputs: Any) -> list[Any]:
        def work(chunk: tuple[int, int]) -> Any:
            into = outputs()
            self._run(kernel, chunk, *extra, *into)
            return into

        if len(self._chunks) == 1 or self._threads == 1:
            return [work(chunk) for chunk in self._chunks]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(work, self._chunks))

    def _table_shape(self) -> tuple[int, int]:
        return len(self._held), self.problem.layout.shape[1]

    def look(self, duals: np.ndarray, rate_dual: float) -> Sums:
        shape = self._table_shape()
        parts = self._each_chunk(
            kernels.evaluate,
            self.table(duals),
            rate_dual,
            self.cap,
            outputs=lambda: (np.zeros(shape), np.zeros(4)),
        )
        gathered = sum(part[0] for part in parts) / self._examples
        sums = sum(part[1] for part in parts) / self._examples
        layout = self.problem.layout
        held, known = self._held.T @ gathered, self._known.T @ gathered
        return Sums(
            layout.moment(held, known),
            layout.mass(known),
            float(sums[kernels.WEIGHT]),
            float(sums[kernels.SQUARES]),
            float(sums[kernels.PREFERRED] + self._alike * sums[kernels.WEIGHT]),
            float(sums[kernels.RAISED]),
        )

    def diagonal(self, duals: np.ndarray, rate_dual: float) -> np.ndarray:
        self.passes += 1
        shape = self._table_shape()
        parts = self._each_chunk(
            kernels.curvature,
            self.table(duals),
            rate_dual,
            self.cap,
            outputs=lambda: (np.zeros(shape),),
        )
        gathered = sum(part[0] for part in parts) / self._examples
        layout = self.problem.layout
        # z^2 = o (s^2 - 2 pi s + pi^2) y^2
        squares = self._held**2
        among = (squares.T @ gathered)[layout.feature, layout.column]
        crossed = (self._held.T @ gathered)[layout.feature, layout.column]
        alone = (self._known.T @ gathered)[layout.feature, layout.column]
        moments = among - 2.0 * layout.goal * crossed + layout.goal**2 * alone
        return np.append(np.maximum(moments, 0.0), gathered[:, 0].sum())

    def hessian_size(self, chosen: np.ndarray) -> float:
        columns = len(np.unique(np.append(self.problem.layout.column[chosen], 0)))
        return len(self._held) * columns**2 + (len(chosen) + 1) ** 2

    def hessian(
        self, duals: np.ndarray, rate_dual: float, chosen: np.ndarray, signs: np.ndarray
    ) -> np.ndarray:
        self.passes += 1
        layout = self.problem.layout
        columns = np.unique(np.append(layout.column[chosen], 0))
        place = np.full(layout.shape[1], -1, dtype=np.int64)
        place[columns] = np.arange(len(columns))
        shape = (len(self._held), len(columns), len(columns))
        gathered = np.zeros(shape)
        table = self.table(duals)
        # Into one array, not one for each thread: it may be large.
        everything = (0, len(self._buckets.group))
        self._run(kernels.cooccurrence, everything, table, rate_dual, self.cap, place, gathered)
        feature, goal = layout.feature[chosen], layout.goal[chosen]
        column = np.append(place[layout.column[chosen]], 0)
        aside = layout.mass_column[chosen] != layout.column[chosen]
        width = signs * layout.eps[chosen]
        result = np.zeros((len(column), len(column)))
        for p in range(len(self._held)):
            upper = gathered[p]
            both = upper + np.triu(upper, 1).T
            held, known = self._held[p, feature], self._known[p, feature]
            # a_j = main_j y_r(j) + rest_j: a tolerance of all examples has no label in it.
            main = np.append(held - goal * known - np.where(aside, 0.0, width * known), 1.0)
            rest = np.append(np.where(aside, -width * known, 0.0), 0.0)
            result += both[np.ix_(column, column)] * main[:, None] * main[None, :]
            if rest.any():
                alone = both[column, 0]
                cross = (main * alone)[:, None] * rest[None, :]
                result += cross + cross.T + both[0, 0] * rest[:, None] * rest[None, :]
        return result / self._examples
