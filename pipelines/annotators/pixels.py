"""Marks from pictures: heads on the embeddings of a model, and whole models in ONNX."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from m4.catalogue import Attribute, Catalogue
from m4.errors import InputError
from pipelines.annotators.embeddings import check_heads, marks_of_heads
from pipelines.annotators.marks import Batch, Marks, attribute_columns, unmarked
from vision.heads import PERSON, Head, HeadSet

if TYPE_CHECKING:
    from vision.embedder import Embedder
    from vision.onnx_model import OnnxModel, Scored


class PixelAnnotator:
    """Embeds pictures and marks what heads say of the embeddings.

    Parameters
    ----------
    embedder, heads : that belong together
    decide : whether heads decide by their thresholds, or give probabilities

    Raises `InputError` where heads are of other embeddings, or not of this catalogue.
    """

    name = "pixels"
    fields = ()

    def __init__(
        self, catalogue: Catalogue, embedder: "Embedder", heads: Sequence[Head], decide: bool
    ):
        self._heads = HeadSet(heads)
        check_heads(self._heads, catalogue)
        wanted = (self._heads.model, self._heads.dimension)
        if wanted != (embedder.name, embedder.dim):
            raise InputError(
                f"the heads are for embeddings of {wanted[0]} ({wanted[1]} numbers), but the model "
                f"gives those of {embedder.name} ({embedder.dim}); fit heads on these, or take "
                "that model"
            )
        self._catalogue = catalogue
        self._embedder = embedder
        self._decide = decide

    @property
    def size(self) -> int:
        return self._embedder.size

    def begin(self, stem: str) -> None:
        pass

    def annotate(self, batch: Batch) -> Marks:
        _check_pictures(batch)
        embeddings = self._embedder.embed(batch.pictures)
        return marks_of_heads(embeddings, self._heads, self._catalogue, self._decide)


class OnnxAnnotator:
    """Marks what an ONNX model says of pictures, as its declaration reads it.

    Where values exclude each other, their probabilities are divided by their sum; by thresholds
    exactly one of them is a yes and the others are no, or nothing is known. Each of other values,
    and a person, is a yes, a no or not known by itself. Where the model says that there is no
    person, the attributes are not known.

    Raises `InputError` where the declaration does not fit the catalogue.
    """

    fields = ()

    def __init__(self, catalogue: Catalogue, model: "OnnxModel"):
        self.name = f"onnx:{model.name}"
        self._catalogue = catalogue
        self._model = model
        _check_marks(catalogue, model)

    @property
    def size(self) -> int:
        return self._model.size

    def begin(self, stem: str) -> None:
        pass

    def annotate(self, batch: Batch) -> Marks:
        _check_pictures(batch)
        scored = {each.mark: each for each in self._model.score(batch.pictures)}
        values, person = unmarked(len(batch), self._catalogue)
        if PERSON in scored:
            person = _decided(scored[PERSON])
        for name, columns in attribute_columns(self._catalogue):
            found = [scored.get(value) for value in self._catalogue.value_names[columns]]
            if _compete(self._catalogue.sensitive[name]):
                if found[0] is not None:  # and so all of them, as was checked
                    values[:, columns] = _competing([each for each in found if each])
                continue
            for k, each in enumerate(found, start=columns.start):
                if each is not None:
                    values[:, k] = _decided(each)
        values[person < 0.5] = np.nan
        rows, ids = self._labels(scored)
        return Marks(values, person, rows, ids, unusable=self._unusable(scored))

    def _labels(self, scored: "Mapping[str, Scored]") -> tuple[np.ndarray, np.ndarray]:
        """Rows and ids of the labels that hold, by row, then id."""
        pairs = [np.zeros((0, 2), dtype=np.int64)]
        for label, name in enumerate(self._catalogue.label_names):
            each = scored.get(name)
            if each is not None and each.thresholds is not None:
                holds = np.flatnonzero(each.thresholds.yes(each.probabilities))
                pairs.append(np.stack([holds, np.full_like(holds, label)], axis=1))
        rows, ids = np.concatenate(pairs).T
        order = np.lexsort((ids, rows))
        return rows[order], ids[order]

    def _unusable(self, scored: "Mapping[str, Scored]") -> dict[int, str]:
        return {
            int(row): f"{self.name} gives NaN for {each.mark}"
            for each in scored.values()
            for row in np.flatnonzero(np.isnan(each.probabilities))
        }


def _check_pictures(batch: Batch) -> None:
    assert len(batch.pictures) == len(batch), "an annotator that looks needs every picture"


def _compete(attribute: Attribute) -> bool:
    return attribute.exclusive and len(attribute.values) > 1


def _decided(scored: "Scored") -> np.ndarray:
    """1 for yes, 0 for no, NaN where not known; or the probability itself; (n,) float32."""
    if scored.thresholds is None:
        return scored.probabilities
    yes, no = (says(scored.probabilities) for says in (scored.thresholds.yes, scored.thresholds.no))
    return np.where(yes, 1, np.where(no, 0, np.nan)).astype(np.float32)


def _competing(scored: "Sequence[Scored]") -> np.ndarray:
    """Probabilities of values that exclude each other, or decisions; (n, k) float32."""
    found = np.stack([each.probabilities for each in scored], axis=1)
    if scored[0].thresholds is None:
        total = found.sum(axis=1, keepdims=True)
        return np.divide(found, total, out=np.full_like(found, np.nan), where=total > 0)
    yes = np.stack(
        [each.thresholds.yes(each.probabilities) for each in scored if each.thresholds], axis=1
    )
    one = yes.sum(axis=1, keepdims=True) == 1
    return np.where(one, yes, np.nan).astype(np.float32)


def _check_marks(catalogue: Catalogue, model: "OnnxModel") -> None:
    """Raise `InputError` where a declaration marks what the catalogue lacks, or half of it."""
    known = [*catalogue.value_names, *catalogue.label_names, PERSON]
    reading = {
        mark: output.thresholds for output in model.declaration.outputs for mark in output.marks
    }
    for mark, thresholds in reading.items():
        if mark not in known:
            raise InputError(
                f"{model.path}: marks {mark!r}, which catalogue {catalogue.name!r} lacks; it has "
                f"{', '.join(known)}"
            )
        if mark in catalogue.concepts and mark == PERSON:
            raise InputError(
                f"{model.path}: marks `person`, which is also a label of catalogue "
                f"{catalogue.name!r}; rename the label"
            )
        if mark in catalogue.concepts and (thresholds is None or thresholds.upper is None):
            raise InputError(
                f"{model.path}: {mark!r} is a label, which holds or does not; give its output "
                "`thresholds` with `upper`"
            )
    for name, columns in attribute_columns(catalogue):
        if not _compete(catalogue.sensitive[name]):
            continue
        values = catalogue.value_names[columns]
        there = [value for value in values if value in reading]
        if there and len(there) < len(values):
            missing = next(value for value in values if value not in reading)
            raise InputError(
                f"{model.path}: marks {there[0]} but not {missing}, though the values of {name!r} "
                "exclude each other; mark all of them, if need be by `{not: column}`"
            )
        if len({reading[value] is None for value in there}) > 1:
            raise InputError(
                f"{model.path}: some values of {name!r} have thresholds and some have not; give "
                "them to all or to none"
            )
