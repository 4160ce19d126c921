"""Totals of a run's annotations, shard by shard: the same to the last bit in any order of adding.

Sums of floats depend on their order, and with it on the runner and the number of workers. Each
shard's sums are therefore put into fixed point, and whole numbers are added up.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.problem import Problem
from m4.totals import Totals, measure, weights
from pipelines import storage
from pipelines.tables import read_table, to_patterns

LARGEST = 2.0**53  # of one shard; above it floats are no longer exact counts
BITS = 60  # behind the point: finer than a float64 from 2**-7 up


@dataclass(frozen=True, eq=False)
class Measured:
    """Totals of some data as it is, and under a policy's weights."""

    plain: Totals
    weighted: Totals

    def numbers(self) -> np.ndarray:
        """All of its numbers in a row, which `of` takes apart."""
        return pack(self.plain, self.weighted)

    @classmethod
    def of(cls, numbers: np.ndarray, problem: Problem) -> "Measured":
        return cls(*unpack(numbers, problem))


@dataclass(frozen=True, eq=False)
class ExactSums:
    """Some numbers in fixed point; adding is exact, so it commutes and associates.

    Attributes
    ----------
    whole, part : (n,) int64, each number as whole + part / 2^BITS with 0 <= part < 2^BITS
    """

    whole: np.ndarray
    part: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray) -> "ExactSums":
        """Round the sums of one shard, each to the nearest multiple of 2^-BITS.

        Raises `InputError` where one is not a number, or too large to be added up.
        """
        if not (np.abs(numbers) < LARGEST).all():
            raise InputError(f"the weights add up to {numbers[np.argmax(np.abs(numbers))]:g}")
        whole = np.floor(numbers)
        part = np.rint(np.ldexp(numbers - whole, BITS))
        return cls(whole.astype(np.int64), part.astype(np.int64))._carried()

    def __add__(self, other: "ExactSums") -> "ExactSums":
        return ExactSums(self.whole + other.whole, self.part + other.part)._carried()

    def _carried(self) -> "ExactSums":
        return ExactSums(self.whole + (self.part >> BITS), self.part & ((1 << BITS) - 1))

    def numbers(self) -> np.ndarray:
        """The sums, each as the nearest float."""
        return self.whole + np.ldexp(self.part.astype(np.float64), -BITS)

    def write(self, path: str) -> None:
        """Write to a file, atomically, which `read` reads."""
        content = io.BytesIO()
        np.save(content, np.stack([self.whole, self.part]))
        storage.write_bytes(path, content.getvalue())

    @classmethod
    def read(cls, path: str) -> "ExactSums":
        whole, part = np.load(io.BytesIO(storage.read_bytes(path)))
        return cls(whole, part)


def pack(*totals: Totals) -> np.ndarray:
    """All numbers of some totals of one problem in a row, which `unpack` takes apart."""
    return np.concatenate([_numbers(each) for each in totals])


def unpack(numbers: np.ndarray, problem: Problem) -> tuple[Totals, ...]:
    """The totals that were packed, in their order."""
    size = 2 * int(np.prod(problem.layout.shape)) + 4
    return tuple(_totals(problem, each) for each in numbers.reshape(-1, size))


def _numbers(totals: Totals) -> np.ndarray:
    scalars = (totals.examples, totals.weight, totals.squares, totals.distance)
    return np.concatenate([totals.held.ravel(), totals.known.ravel(), scalars])


def _totals(problem: Problem, numbers: np.ndarray) -> Totals:
    held, known = numbers[:-4].reshape(2, *problem.layout.shape)
    return Totals(held, known, *map(float, numbers[-4:]))


def add_up(sums: Iterable[ExactSums]) -> ExactSums:
    """The sum of at least one."""
    first, *others = sums
    for other in others:
        first = first + other
    return first


def shard_sums(
    annotations: str,
    stem: str,
    catalogue: Catalogue,
    problem: Problem,
    duals: np.ndarray,
    rate_dual: float,
) -> ExactSums:
    """Sums over the annotations of one shard that has any, as they are and as multipliers weigh.

    Raises `InputError` where the table cannot be read or used.
    """
    table = read_table(annotations, stem, [*catalogue.value_names, "labels", "utility"])
    try:
        patterns = to_patterns(table, catalogue)
        plain = measure(problem, patterns)
        weighted = measure(problem, patterns, weights(problem, duals, rate_dual, patterns))
        return ExactSums.of(Measured(plain, weighted).numbers())
    except InputError as error:
        raise InputError(f"{storage.join(annotations, stem)}.parquet: {error}") from None
