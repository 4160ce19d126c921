"""Compiled passes against loops over single rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from m4 import kernels
from m4.buckets import Buckets
from m4.patterns import Patterns

ALIKE, MU, CAP = 0.6, 0.07, 0.9
LABELS = 9


@pytest.fixture(params=["plain", "soft labels", "utilities", "both", "no labels"])
def buckets(request: pytest.FixtureRequest, biased: Callable[..., Patterns]) -> Buckets:
    soft = request.param in ("soft labels", "both")
    utilities = request.param in ("utilities", "both")
    labels = 0 if request.param == "no labels" else LABELS
    examples = biased(81, 300, labels=labels, masked=True, soft_y=soft, utilities=utilities)
    counts = np.random.default_rng(1).integers(1, 9, 300).astype(float)
    layout = Buckets.of(
        Patterns(examples.s, examples.observed, examples.y, examples.utility, counts)
    )
    assert (layout.strengths is None) != soft
    assert (layout.utility is None) != utilities
    assert labels == 0 or set(layout.length) >= set(range(7))  # unrolled widths and others
    return layout


def table_for(buckets: Buckets) -> np.ndarray:
    """Slopes that put some weights at 0, some at the cap and most between."""
    generator = np.random.default_rng(2)
    return generator.normal(scale=0.2, size=(len(buckets.s), 1 + buckets.width))


def preferred(buckets: Buckets) -> np.ndarray | None:
    return None if buckets.utility is None else 0.3 * buckets.utility


def run(kernel: Any, buckets: Buckets, chunk: tuple[int, int], *rest: Any) -> None:
    kernel(
        *chunk,
        buckets.group,
        buckets.length,
        buckets.rows,
        buckets.entries,
        buckets.labels,
        buckets.strengths,
        buckets.counts,
        preferred(buckets),
        ALIKE,
        *rest,
    )


def whole(buckets: Buckets) -> tuple[int, int]:
    return 0, len(buckets.group)


def row_by_row(buckets: Buckets) -> list[tuple[int, float, float, np.ndarray]]:
    """(attribute pattern, count, preferred, labels behind a 1) of each row."""
    (patterns,) = buckets.patterns()
    group = np.repeat(buckets.group, np.diff(buckets.rows))
    y = np.column_stack([np.ones(len(group)), patterns.y.toarray()])
    own = preferred(buckets)
    liked = np.zeros(len(group)) if own is None else own
    return list(zip(group.tolist(), patterns.counts.tolist(), liked.tolist(), y, strict=True))


def level(p: int, liked: float, columns: np.ndarray, table: np.ndarray) -> float:
    """x = preferred - slope - mu of one row."""
    return float(ALIKE + liked - columns @ table[p] - MU)


def test_evaluate_adds_up_weights(buckets: Buckets) -> None:
    table = table_for(buckets)
    gathered, sums = np.zeros_like(table), np.zeros(4)
    run(kernels.evaluate, buckets, whole(buckets), table, MU, CAP, gathered, sums)
    wanted, wanted_sums, bounds = np.zeros_like(table), np.zeros(4), {"0": 0, "cap": 0}
    for p, count, liked, columns in row_by_row(buckets):
        x = level(p, liked, columns, table)
        q = min(max(x, 0.0), CAP)
        wanted[p] += count * q * columns
        wanted_sums += count * q * np.array([1.0, q, liked, x])
        bounds["0"] += x < 0
        bounds["cap"] += x > CAP
    np.testing.assert_allclose(gathered, wanted, atol=1e-12)
    np.testing.assert_allclose(sums, wanted_sums, atol=1e-12)
    assert buckets.width == 0 or min(bounds.values()) > 0
    order = (kernels.WEIGHT, kernels.SQUARES, kernels.PREFERRED, kernels.RAISED)
    assert order == (0, 1, 2, 3)


def test_curvature_counts_what_can_move(buckets: Buckets) -> None:
    table = table_for(buckets)
    gathered = np.zeros_like(table)
    run(kernels.curvature, buckets, whole(buckets), table, MU, CAP, gathered)
    wanted, still = np.zeros_like(table), 0
    for p, count, liked, columns in row_by_row(buckets):
        if 0.0 <= level(p, liked, columns, table) <= CAP:
            wanted[p] += count * columns**2
        else:
            still += 1
    np.testing.assert_allclose(gathered, wanted, atol=1e-12)
    assert 0 < still < len(buckets.counts)


@pytest.mark.parametrize("columns", [list(range(1 + LABELS)), [0, 2, 4, 9], [0]])
def test_cooccurrence_is_the_upper_triangle(columns: list[int], buckets: Buckets) -> None:
    columns = [column for column in columns if column <= buckets.width]
    table = table_for(buckets)
    place = np.full(1 + buckets.width, -1, dtype=np.int64)
    place[columns] = np.arange(len(columns))
    gathered = np.zeros((len(table), len(columns), len(columns)))
    run(kernels.cooccurrence, buckets, whole(buckets), table, MU, CAP, place, gathered)
    wanted = np.zeros_like(gathered)
    for p, count, liked, labels in row_by_row(buckets):
        if 0.0 <= level(p, liked, labels, table) <= CAP:
            chosen = labels[columns]
            wanted[p] += count * np.triu(np.outer(chosen, chosen))
    np.testing.assert_allclose(gathered, wanted, atol=1e-12)


def test_chunks_add_up_to_the_whole(buckets: Buckets) -> None:
    table = table_for(buckets)
    gathered, sums = np.zeros_like(table), np.zeros(4)
    run(kernels.evaluate, buckets, whole(buckets), table, MU, CAP, gathered, sums)
    parts, part_sums = np.zeros_like(table), np.zeros(4)
    for chunk in buckets.chunks():
        run(kernels.evaluate, buckets, chunk, table, MU, CAP, parts, part_sums)
    np.testing.assert_allclose(parts, gathered, rtol=1e-14)
    np.testing.assert_allclose(part_sums, sums, rtol=1e-13)


def test_what_is_left_out_is_as_good_as_written_out(
    biased: Callable[..., Patterns],
) -> None:
    """To the last bit: what is stored compactly is the same data."""
    buckets = Buckets.of(biased(82, 60, masked=True))
    table = table_for(buckets)
    results = []
    for strengths, liked in (
        (None, None),
        (np.ones(len(buckets.labels)), np.zeros(len(buckets.counts))),
    ):
        gathered, sums = np.zeros_like(table), np.zeros(4)
        kernels.evaluate(
            *whole(buckets),
            buckets.group,
            buckets.length,
            buckets.rows,
            buckets.entries,
            buckets.labels,
            strengths,
            buckets.counts,
            liked,
            ALIKE,
            table,
            MU,
            CAP,
            gathered,
            sums,
        )
        results.append((gathered, sums))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_weights_at_a_bound_can_still_move() -> None:
    """x = 0 and x = cap count as between: the one-sided curvature is taken."""
    buckets = Buckets.of(Patterns.from_arrays([[0.0], [1.0]], np.zeros((2, 0)), counts=[2, 3]))
    table = np.array([[0.25], [-0.25]])
    for mu, cap, wanted in ((0.25, 0.5, [2, 3]), (0.0, 0.75, [2, 3]), (0.6, 0.1, [0, 0])):
        gathered = np.zeros((2, 1))
        kernels.curvature(
            0,
            len(buckets.group),
            buckets.group,
            buckets.length,
            buckets.rows,
            buckets.entries,
            buckets.labels,
            None,
            buckets.counts,
            None,
            0.5,
            table,
            mu,
            cap,
            gathered,
        )
        assert gathered.ravel().tolist() == wanted
