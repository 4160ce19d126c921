"""Embeddings that somebody has already, instead of a model: of pictures, and of texts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from pydantic import Field

from m4.errors import InputError
from pipelines import storage
from pipelines.annotators.embedding_tables import FLOATS, IDENTITIES, read_array
from pipelines.encoded_sets import EncodedSet, Known, gather, in_words
from pipelines.image_sets import check_names, read_rows, read_strings
from pipelines.labelled import NO_DIRECTION, Labels, labelled
from pipelines.labelled_images import OTHER_LABELS, Labeller, Selection
from vision.directions import without_direction

SHOWN = 3  # texts that an error names


class PlainSettings(Selection):
    """Embeddings of pictures and what is known of these, without the pictures."""

    embeddings: str = Field(
        description="as embed writes them: .npz, .npy or .parquet, or a folder of them, with rows "
        "by uid or key; or one .npy with its rows in the order of the labels"
    )
    embedding_key: str | None = Field(
        default=None, description="array of an .npz, or column of a parquet, with the embeddings"
    )
    labels: str = Field(
        description="csv, tsv or parquet with a row for each picture; all columns are labels, but "
        "uid, key and caption"
    )


def read_plain(settings: PlainSettings) -> EncodedSet:
    """Embeddings of pictures with their labels, in the order of the labels.

    Rows without an embedding, or with one that is zero or not finite, are counted as left out.
    Raises `InputError` where the two do not belong together, or a setting has no effect.
    """
    path = settings.labels
    frame = read_strings(path)
    names = {name: frame[name].to_list() for name in IDENTITIES if name in frame.columns}
    for name in list(names)[:1]:  # keys of different shards may be the same
        check_names(path, frame, name)
    keys = next(iter(names.values()), [str(row) for row in range(len(frame))])
    rows = read_rows(path, frame.drop(list(names)), keys, Labeller(settings))
    wanted = [number for number, row in enumerate(rows) if row.used]
    if not wanted:
        asked = ", ".join(f"{name} {value}" for name, value in settings.where.items())
        raise InputError(f"{path}: where {asked} holds in none of {len(rows)} rows")
    left_out = {OTHER_LABELS: len(rows) - len(wanted)}
    if _goes_by_order(settings.embeddings):
        if settings.embedding_key is not None:
            raise InputError(f"{settings.embeddings}: embedding_key has no effect on one array")
        array = _in_order(settings.embeddings, len(rows), path)[wanted]
        usable = ~np.logical_or(*without_direction(array))
        array, numbers = array[usable], np.array(wanted)[usable]
        left_out[NO_DIRECTION] = int((~usable).sum())
    else:
        chosen = {name: [each[row] for row in wanted] for name, each in names.items()}
        answers = np.array(wanted, dtype=np.float64)[:, None]  # the row, to know it again
        found = labelled(
            Labels(path, chosen, answers, {}), settings.embeddings, settings.embedding_key
        )
        order = np.argsort(found.labels[:, 0])
        array, numbers = found.embeddings[order], found.labels[order, 0].astype(np.int64)
        left_out.update(found.left_out)
    if not len(array):
        raise InputError(f"{settings.embeddings}: no embedding can be used: {in_words(left_out)}")
    used = [rows[number] for number in numbers]
    return gather(
        PurePosixPath(path).stem,
        [Known(row.name, "", row.labels, row.captions) for row in used],
        array.astype(np.float32),
        left_out=left_out,
        renamed=settings.columns,
    )


def _goes_by_order(path: str) -> bool:
    """Whether embeddings are one array without a table that names its rows."""
    return path.endswith(".npy") and not storage.exists(path.removesuffix("npy") + "parquet")


def _in_order(path: str, rows: int, labels: str) -> np.ndarray:
    array = _array(path)
    if len(array) != rows:
        raise InputError(
            f"{path}: {len(array)} embeddings, but {labels} has {rows} rows; give one for each, in "
            "the same order"
        )
    return array


def _array(path: str) -> np.ndarray:
    """Embeddings (n, d). Raises `InputError` where a file holds something else."""
    array = read_array(path)
    if array.ndim != 2 or not array.shape[1] or array.dtype.type not in FLOATS:
        raise InputError(
            f"{path}: an array of {array.dtype} of shape {array.shape}; embeddings are float16, "
            "float32 or float64, (n, d)"
        )
    return array


@dataclass(frozen=True, eq=False)
class TextTable:
    """Embeddings of texts, (n, d) float32, in place of a model's text encoder.

    Attributes
    ----------
    path : of the file that lists the texts
    array : the embeddings
    rows : the row of each text
    """

    path: str
    array: np.ndarray
    rows: Mapping[str, int]

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Those of the texts that have no embedding here, each once."""
        return [text for text in dict.fromkeys(texts) if text not in self.rows]

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts, (n, d). Raises `InputError` that names the first missing ones."""
        missing = self.missing(texts)
        if missing:
            first = ", ".join(map(repr, missing[:SHOWN]))
            raise InputError(
                f"{self.path}: {len(missing)} of {len(set(texts))} texts that are asked for are "
                f"missing, the first: {first}; encode them with the model that encoded the "
                "pictures, and add them"
            )
        return self.array[[self.rows[text] for text in texts]]


def read_texts(embeddings: str, texts: str) -> TextTable:
    """Read a .npy (n, d), and the json list of the n texts that its rows are of.

    Raises `InputError` where one cannot be used, they differ in their lengths, or one text has two
    embeddings.
    """
    array = _array(embeddings).astype(np.float32)
    try:
        names = json.loads(storage.read_bytes(texts))
    except (OSError, ValueError) as error:
        raise InputError(f"{texts}: cannot be read: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{texts}: must be a list of strings, the texts in the order of the rows")
    if len(names) != len(array):
        raise InputError(
            f"{texts}: {len(names)} texts, but {embeddings} has {len(array)} rows; give one for "
            "each row"
        )
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        first = rows.setdefault(name, row)
        if not np.array_equal(array[first], array[row], equal_nan=True):
            raise InputError(
                f"{texts}: rows {first} and {row} are both of {name!r}, but {embeddings} has "
                "different embeddings there; keep one"
            )
    return TextTable(texts, array, rows)
