"""Fusion: one mark from what several annotators say of a sample.

Rules, for each attribute and for the presence of a person:

first    the first annotator that knows it decides
agree    it is known where at least one annotator knows it, and all that do say the same: the same
         values above 1/2. The first one's probabilities are taken. Else it is not known

The presence of a person is fused alike. Where its probability is then below 1/2, attributes do not
apply: they are not known, whoever knew them. Labels are joined: one that any annotator found holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from m4.catalogue import Catalogue
from pipelines.annotators.marks import Marks, attribute_columns

FusionRule = Literal["first", "agree"]

NOBODY = -1  # source of what is not known


@dataclass(frozen=True, eq=False)
class Fused:
    """Marks of n samples and where each comes from, as the position of an annotator.

    Attributes
    ----------
    values, person, label_rows, label_ids, unusable : as of `Marks`
    sources : (n, attributes) int8; `NOBODY` where not known
    person_source : (n,) int8
    label_sources : (l,) int8
    languages : n codes, or None where it was not asked for or could not be told
    """

    values: np.ndarray
    person: np.ndarray
    label_rows: np.ndarray
    label_ids: np.ndarray
    sources: np.ndarray
    person_source: np.ndarray
    label_sources: np.ndarray
    languages: Sequence[str | None]
    unusable: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.values)


def fuse(said: Sequence[Marks], catalogue: Catalogue, rule: FusionRule) -> Fused:
    """Fuse what annotators, in their order, say of the same samples."""
    assert said  # there is at least one annotator
    columns = list(attribute_columns(catalogue))
    values = np.full_like(said[0].values, np.nan)
    sources = np.full((len(values), len(columns)), NOBODY, dtype=np.int8)
    for a, (_, own) in enumerate(columns):
        values[:, own], sources[:, a] = _fuse([each.values[:, own] for each in said], rule)
    person, person_source = _fuse([each.person[:, None] for each in said], rule)
    nobody = person[:, 0] < 0.5
    values[nobody] = np.nan
    sources[nobody] = NOBODY
    rows, ids, label_sources = _joined_labels(said, len(catalogue.label_names))
    unusable = {row: why for each in reversed(said) for row, why in each.unusable.items()}
    read = [each.languages for each in said if each.languages is not None]
    languages = read[0] if read else [None] * len(values)
    return Fused(
        values,
        person[:, 0],
        rows,
        ids,
        sources,
        person_source,
        label_sources,
        languages,
        unusable,
    )


def _fuse(given: Sequence[np.ndarray], rule: FusionRule) -> tuple[np.ndarray, np.ndarray]:
    """One attribute's columns (n, k), and the source of each row (n,)."""
    fused = np.full_like(given[0], np.nan)
    source = np.full(len(fused), NOBODY, dtype=np.int8)
    disputed = np.zeros(len(fused), dtype=bool)
    for position, each in enumerate(given):
        known = ~np.isnan(each).all(axis=1)
        new = known & (source == NOBODY)
        fused[new] = each[new]
        source[new] = position
        disputed |= known & ~new & ((each > 0.5) != (fused > 0.5)).any(axis=1)
    if rule == "agree":
        fused[disputed] = np.nan
        source[disputed] = NOBODY
    return fused, source


def _joined_labels(said: Sequence[Marks], labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, ids and sources of all pairs that any annotator found; the first one's source."""
    pairs = np.concatenate([each.label_rows * labels + each.label_ids for each in said])
    by = np.repeat(np.arange(len(said), dtype=np.int8), [len(each.label_ids) for each in said])
    kept, first = np.unique(pairs, return_index=True)
    return kept // max(labels, 1), kept % max(labels, 1), by[first]
