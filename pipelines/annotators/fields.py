"""Marks that somebody made already: fields of the sample's json, columns of a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from m4.catalogue import Catalogue, FieldRule
from m4.errors import UnusableSample
from pipelines.annotators.joined import JoinedTable
from pipelines.annotators.marks import Batch, Marks, share_out, unmarked

Record = Mapping[str, Any]


def read_field(record: Record, rule: FieldRule) -> float | None:
    """What a rule says of a record: a probability, or None where it says nothing.

    Raises `UnusableSample` where the field should be a probability and is not.
    """
    content: Any = record
    for part in rule.path.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    if content is None:
        return None
    if rule.filled:
        return 1.0 if isinstance(content, list) and content else None
    if rule.equals is not None:
        given = content if isinstance(content, list) else [content]
        return float(
            any(each in rule.equals for each in given if not isinstance(each, dict | list))
        )
    if isinstance(content, bool) or not isinstance(content, int | float) or not 0 <= content <= 1:
        raise UnusableSample(f"field {rule.path} is not a probability")
    return float(content)


@dataclass(frozen=True)
class Rules:
    """The field rules of a catalogue: by column of a value, by label, and for a person."""

    values: tuple[tuple[int, FieldRule], ...]
    labels: tuple[tuple[int, FieldRule], ...]
    person: FieldRule | None

    @classmethod
    def of(cls, catalogue: Catalogue) -> "Rules":
        values = ((k, value.field) for k, (_, _, value) in enumerate(catalogue.each_value()))
        labels = ((r, each.field) for r, each in enumerate(catalogue.concepts.values()))
        return cls(
            tuple((k, rule) for k, rule in values if rule is not None),
            tuple((r, rule) for r, rule in labels if rule is not None),
            None if catalogue.person is None else catalogue.person.field,
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The first parts of all paths: columns that a table needs."""
        rules = [rule for _, rule in (*self.values, *self.labels)]
        paths = [rule.path for rule in (*rules, *([self.person] if self.person else []))]
        return tuple(dict.fromkeys(path.partition(".")[0] for path in paths))

    def marks(self, records: Sequence[Record], catalogue: Catalogue) -> Marks:
        """What the records say; those whose fields cannot be used are unusable."""
        values, person = unmarked(len(records), catalogue)
        held = np.zeros(values.shape, dtype=bool)
        stated: list[tuple[int, int, float]] = []
        pairs: list[tuple[int, int]] = []
        unusable: dict[int, str] = {}
        for row, record in enumerate(records):
            try:
                for k, rule in self.values:
                    probability = read_field(record, rule)
                    if rule.equals is None and not rule.filled and probability is not None:
                        stated.append((row, k, probability))
                    elif probability:
                        held[row, k] = True
                for r, rule in self.labels:
                    if (read_field(record, rule) or 0.0) >= 0.5:
                        pairs.append((row, r))
                seen = None if self.person is None else read_field(record, self.person)
                person[row] = np.nan if seen is None else seen
            except UnusableSample as error:
                unusable[row] = str(error)
        share_out(values, held, catalogue)
        for row, k, probability in stated:
            values[row, k] = probability
        person[(values > 0).any(axis=1)] = 1  # whoever states a value speaks of somebody
        found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return Marks(values, person, found[:, 0], found[:, 1], unusable=unusable)


class FieldAnnotator:
    """Marks what the sample's json says, by the field rules of the catalogue."""

    name = "fields"
    size = 0

    def __init__(self, catalogue: Catalogue):
        self._catalogue = catalogue
        self._rules = Rules.of(catalogue)
        self.fields = self._rules.columns

    def begin(self, stem: str) -> None:
        """Nothing belongs to a shard as a whole."""

    def annotate(self, batch: Batch) -> Marks:
        return self._rules.marks([each.metadata for each in batch.samples], self._catalogue)


class TableAnnotator:
    """Marks what a table says that is joined by uid, by the field rules of the catalogue."""

    name = "tables"
    size = 0
    fields = ()

    def __init__(self, catalogue: Catalogue, table: JoinedTable):
        self._catalogue = catalogue
        self._rules = Rules.of(catalogue)
        self._table = table

    def begin(self, stem: str) -> None:
        self._table.begin(stem, self._rules.columns)

    def annotate(self, batch: Batch) -> Marks:
        records = self._table.records([each.uid for each in batch.samples])
        marks = self._rules.marks([record or {} for record in records], self._catalogue)
        missing = sum(record is None for record in records)
        return replace(marks, notes=+Counter({"tables: no row of this uid": missing}))
