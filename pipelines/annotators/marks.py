"""What annotators are given, and what they say: a batch of samples, and columns of marks."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

from m4.catalogue import Catalogue
from pipelines.shards import Sample


@dataclass(frozen=True, eq=False)
class Batch:
    """n samples of a shard, in its order.

    `pictures` are their images as RGB, decoded once for all annotators; empty where none looks.
    """

    samples: Sequence[Sample]
    pictures: Sequence[Image.Image] = ()

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, eq=False)
class Marks:
    """What one annotator says of n samples, with m sensitive values.

    Attributes
    ----------
    values : (n, m) float32, probability of each value; NaN where the attribute is not known
    person : (n,) float32, probability that a person is in the picture; NaN where not known
    label_rows, label_ids : (l,) int64, samples and the labels that hold, by row, then id; no pair
        stands twice
    languages : n ISO 639-1 codes, where the annotator reads languages; None where it cannot tell
    unusable : samples that have to be set aside, by row, with the reason
    found : how often which term marked what, by (name of the mark, term)
    notes : what else is worth counting, such as samples that a table does not hold, in few words
    """

    values: np.ndarray
    person: np.ndarray
    label_rows: np.ndarray
    label_ids: np.ndarray
    languages: Sequence[str | None] | None = None
    unusable: Mapping[int, str] = field(default_factory=dict)
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.values)


class Annotator(Protocol):
    """Marks the samples of one shard after the other.

    `size` is how many pixels it wants to see along a picture's shorter side; 0: it does not look.
    `fields` names what it reads of `Sample.metadata`.
    `begin` is told the shard's stem before its first batch; it raises `InputError` where what
    belongs to the shard (a table) cannot be used, and the shard is then set aside.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def fields(self) -> Sequence[str]: ...

    def begin(self, stem: str) -> None: ...

    def annotate(self, batch: Batch) -> Marks: ...


def unmarked(samples: int, catalogue: Catalogue) -> tuple[np.ndarray, np.ndarray]:
    """Values (n, m) and person (n,) of samples of which nothing is known yet."""
    values = np.full((samples, len(catalogue.value_names)), np.nan, dtype=np.float32)
    return values, np.full(samples, np.nan, dtype=np.float32)


def attribute_columns(catalogue: Catalogue) -> Iterator[tuple[str, slice]]:
    """Yield each attribute's name and its columns."""
    first = 0
    for name, attribute in catalogue.sensitive.items():
        yield name, slice(first, first + len(attribute.values))
        first += len(attribute.values)


def share_out(values: np.ndarray, held: np.ndarray, catalogue: Catalogue) -> None:
    """Fill in, in place, the probabilities of the attributes of which some value was found.

    Parameters
    ----------
    values : (n, m) float32, to be filled
    held : (n, m) bool, which values were found

    Several values of an exclusive attribute get equal parts of the probability. An attribute of
    which no value was found stays as it is.
    """
    for name, columns in attribute_columns(catalogue):
        found = held[:, columns].sum(axis=1)
        rows = np.flatnonzero(found)
        part = found[rows, None] if catalogue.sensitive[name].exclusive else 1
        values[rows, columns] = held[rows, columns] / part
