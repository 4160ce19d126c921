"""Marks from embeddings: what calibrated heads say of the rows of a table."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from m4.catalogue import Catalogue
from m4.errors import InputError
from pipelines.annotators.embedding_tables import EmbeddingTable, EmbeddingTables
from pipelines.annotators.marks import Batch, Marks, unmarked
from vision.directions import without_direction
from vision.heads import PERSON, Head, HeadSet

__all__ = ["EmbeddingAnnotator", "EmbeddingTables", "check_heads", "marks_of_heads"]

NOT_FINITE = "embedding is not finite"
ZERO = "embedding is zero"
MISSING = "embeddings: no row of this uid"


class EmbeddingAnnotator:
    """Marks what heads say of embeddings that are in tables already; looks at no picture.

    With `decide` the marks are 1, 0 and not known, by the heads' thresholds; else probabilities.
    Samples that the table lacks are not known, and counted in the notes. Raises `InputError` where
    the heads do not fit together, or not the catalogue.
    """

    name = "embeddings"
    size = 0
    fields = ()

    def __init__(
        self, catalogue: Catalogue, heads: Sequence[Head], tables: EmbeddingTables, decide: bool
    ):
        self._catalogue = catalogue
        self._heads = HeadSet(heads)
        check_heads(self._heads, catalogue)
        self._tables = tables
        self._decide = decide
        self._table: EmbeddingTable | None = None

    def begin(self, stem: str) -> None:
        """Open the table of a shard.

        Raises `InputError` where there is none, it cannot be used, or its embeddings are of
        another length than the heads want.
        """
        self._table = None
        table = self._tables.open(stem)
        if table.array.shape[1] != self._heads.dimension:
            raise InputError(
                f"{table.path}: embeddings of {table.array.shape[1]} numbers, but the heads are "
                f"for {self._heads.model}, which has {self._heads.dimension}; name another array, "
                "or fit heads on these"
            )
        self._table = table

    def annotate(self, batch: Batch) -> Marks:
        """What the heads say of a batch of the shard that was begun last."""
        if self._table is None:
            raise RuntimeError("annotate was called before begin, or after it failed")
        samples = batch.samples
        found = self._table.read([each.uid for each in samples], [each.key for each in samples])
        return marks_of_heads(
            found.array, self._heads, self._catalogue, self._decide, missing=found.missing
        )


def check_heads(heads: HeadSet, catalogue: Catalogue) -> None:
    """Raise `InputError` where a head's attribute or values are not those of the catalogue."""
    for head in heads.heads:
        head.check(catalogue)


def marks_of_heads(
    embeddings: np.ndarray,
    heads: HeadSet,
    catalogue: Catalogue,
    decide: bool,
    *,
    missing: np.ndarray | None = None,
) -> Marks:
    """What heads say of embeddings, as marks with the catalogue's columns.

    Parameters
    ----------
    embeddings : (n, d) of any length
    heads : which `check_heads` has found to fit the catalogue
    decide : by the heads' thresholds; else probabilities
    missing : (n,) bool, rows that stand for no embedding, of which nothing is known

    Where a head decides that there is no person, the attributes are not known, also where
    probabilities were asked for. Other rows without a direction are unusable.
    """
    values, person = unmarked(len(embeddings), catalogue)
    nobody: np.ndarray | None = None
    column = {name: k for k, name in enumerate(catalogue.value_names)}
    found = heads.probabilities(embeddings)
    for head, probabilities in zip(heads.heads, found, strict=True):
        said = head.decide(probabilities) if decide else probabilities
        if head.attribute == PERSON:
            person[:] = said[:, 0]
            nobody = head.thresholds[0].no(probabilities[:, 0])
            continue
        for value, marks in zip(head.values, said.T, strict=True):
            values[:, column[f"{head.attribute}.{value}"]] = marks
    if nobody is not None:
        values[nobody] = np.nan
    nothing = np.zeros(0, dtype=np.int64)
    count = 0 if missing is None else int(missing.sum())
    return Marks(
        values=values,
        person=person,
        label_rows=nothing,
        label_ids=nothing,
        unusable=_unusable(embeddings, missing, found[0]),
        notes=Counter({MISSING: count} if count else {}),
    )


def _unusable(
    embeddings: np.ndarray, missing: np.ndarray | None, probabilities: np.ndarray
) -> dict[int, str]:
    """Why rows have no direction, by row; those are among the rows without a probability."""
    rows = np.flatnonzero(np.isnan(probabilities[:, 0]))
    if missing is not None:
        rows = rows[~missing[rows]]
    if not len(rows):
        return {}
    not_finite, zero = without_direction(embeddings[rows])
    return {
        **dict.fromkeys(rows[not_finite].tolist(), NOT_FINITE),
        **dict.fromkeys(rows[zero].tolist(), ZERO),
    }
