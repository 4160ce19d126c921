"""Signatures: the same for ever, by their definition."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.signatures import signatures


def table_of(rows: list[tuple[float | None, list[int], float]]) -> pa.Table:
    values, labels, utility = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "gender.woman": pa.array(values, pa.float32()),
            "labels": pa.array(labels, pa.list_(pa.int32())),
            "utility": pa.array(utility, pa.float32()),
            "count": pa.array(range(len(rows)), pa.int64()),
        }
    )


def scramble(word: int) -> int:
    """SplitMix64's finaliser on Python's integers."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31


def words_of(value: float | None, labels: list[int], utility: float) -> list[int]:
    """Both words of a row, one number at a time."""
    bits = {None: 1 << 32, 0.0: 0, 0.5: 0x3F000000, 1.0: 0x3F800000}
    key = [scramble(i * 0x9E3779B97F4A7C15 % 2**64) for i in range(1, 7)]
    words = []
    for half in range(2):
        total = sum(scramble(label ^ key[half]) for label in labels)
        total += scramble(bits[value] ^ key[2 + half])
        total += scramble(bits[utility] ^ key[4 + half])
        words.append(scramble(total % 2**64))
    return words


ROWS = st.tuples(
    st.sampled_from([None, 0.0, 0.5, 1.0]),
    st.lists(st.integers(0, 200), unique=True, max_size=6),
    st.sampled_from([0.0, 0.5, 1.0]),
)


@given(st.lists(ROWS, max_size=8))
def test_signatures_are_as_defined(rows: list[tuple[float | None, list[int], float]]) -> None:
    found = signatures(table_of(rows))
    assert found.dtype == np.uint64
    assert found.shape == (2, len(rows))
    assert found.T.tolist() == [words_of(*row) for row in rows]


def test_signatures_are_the_same_for_ever() -> None:
    """Other numbers here would be other bytes in every table of patterns."""
    assert signatures(table_of([(None, [], 1.0)]))[0, 0] == 0x95EC17EC725041EF


def test_a_row_has_its_signature_in_any_table() -> None:
    table = table_of([(None, [], 1.0), (0.0, [], 1.0), (1.0, [0, 7], 0.5), (1.0, [7], 0.5)])
    words = signatures(table)
    assert np.array_equal(signatures(table[1:3]), words[:, 1:3])
    parts = pa.concat_tables([table[2:], table[:2]])
    assert np.array_equal(signatures(parts), np.roll(words, 2, axis=1))
    assert len(set(words.ravel().tolist())) == 8


def test_neither_count_nor_the_order_of_ids_is_part_of_a_signature() -> None:
    words = signatures(table_of([(1.0, [3, 5], 1.0), (1.0, [5, 3], 1.0)]))
    assert np.array_equal(words[:, 0], words[:, 1])
