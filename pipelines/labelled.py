"""Labelled examples: what somebody says of samples, beside the embeddings of those samples."""

import itertools
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from m4.errors import InputError
from pipelines import storage
from pipelines.annotators.embedding_tables import (
    IDENTITIES,
    EmbeddingTable,
    find_tables,
    open_table,
)
from vision.directions import without_direction

YES, NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
NO_EMBEDDING = "no embedding"
NO_DIRECTION = "embedding is zero or not finite"
NOT_ONE = "not exactly one value"


class Asked(Protocol):
    """An attribute and its values; `compete` where they are judged against each other."""

    @property
    def attribute(self) -> str: ...

    @property
    def values(self) -> tuple[str, ...]: ...

    @property
    def compete(self) -> bool: ...


@dataclass(frozen=True, eq=False)
class Labels:
    """What a file says of N samples.

    Attributes
    ----------
    path : the file
    names : by identity ("uid", "key"), those of the N samples, for the identities that it has
    answers : (N, k), 1 where a value is shown, 0 where it is not, NaN where nobody knows
    left_out : rows of which nothing can be learnt, by reason
    """

    path: str
    names: dict[str, list[str]]
    answers: np.ndarray
    left_out: dict[str, int]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Embeddings (n, d) float32 and labels (n, k) of the samples that have both, by their names."""

    embeddings: np.ndarray
    labels: np.ndarray
    left_out: dict[str, int]


def read_labels(path: str, asked: Asked) -> Labels:
    """Read what a csv or parquet says of the values of one attribute.

    It has a column `uid` or `key`, and either one column for each value (named "gender.woman" or
    "woman") of yes and no, 1 and 0, true and false; or, where values exclude each other, one
    column named after the attribute that holds the value's name. Empty is not known. A row with
    another number of values than one is left out where they exclude each other.

    Raises `InputError` where the file cannot be read, lacks a column, or holds something else.
    """
    frame = read_frame(path)
    identities = [name for name in IDENTITIES if name in frame.columns]
    if not identities:
        raise InputError(f"{path}: no column uid or key; it has {', '.join(frame.columns)}")
    columns = _columns(path, frame, asked)
    if columns is None:
        answers = _named(path, frame[asked.attribute], asked)
    else:
        answers = np.column_stack([_yes_or_no(path, frame[name]) for name in columns])
    known = ~np.isnan(answers).all(axis=1)
    usable, left_out = known, {}
    if asked.compete:
        usable = answers.sum(axis=1) == 1  # False where one is NaN
        left_out[NOT_ONE] = int((known & ~usable).sum())
    chosen = frame.select(identities).filter(pl.Series(usable))
    for name in identities:
        if chosen[name].null_count():
            raise InputError(f"{path}: column {name} is empty in a row that has a label; fill it")
    names = {name: chosen[name].cast(pl.String).to_list() for name in identities}
    return Labels(path, names, answers[usable], left_out)


def read_frame(path: str) -> pl.DataFrame:
    """A csv or tsv, all of strings, or a parquet. Raises `InputError` where it cannot be read."""
    try:
        content = storage.read_bytes(path)
        if path.endswith(".parquet"):
            return pl.read_parquet(content)
        separator = "\t" if path.endswith(".tsv") else ","
        return pl.read_csv(content, infer_schema=False, separator=separator)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read: {reason}") from None


def _columns(path: str, frame: pl.DataFrame, asked: Asked) -> list[str] | None:
    """The column of each value; None where one column names them."""
    if asked.compete and asked.attribute in frame.columns:
        return None
    found = []
    for value in asked.values:
        names = (f"{asked.attribute}.{value}", value)
        there = [name for name in names if name in frame.columns]
        if not there:
            one = f", or one column {asked.attribute!r} of their names" if asked.compete else ""
            raise InputError(
                f"{path}: no column {names[0]!r} or {value!r}; give one for each value{one}; it "
                f"has {', '.join(frame.columns)}"
            )
        found.append(there[0])
    return found


def _named(path: str, column: pl.Series, asked: Asked) -> np.ndarray:
    given = column.cast(pl.String).str.strip_chars()
    given = given.replace("", None)
    unknown = given.filter(given.is_not_null() & ~given.is_in(list(asked.values)))
    if len(unknown):
        raise InputError(
            f"{path}: column {column.name!r} holds {unknown[0]!r}; the values of "
            f"{asked.attribute} are {', '.join(asked.values)}; leave it empty where it is not known"
        )
    answers = np.column_stack([(given == value).to_numpy() for value in asked.values])
    return np.where(given.is_null().to_numpy()[:, None], np.nan, answers.astype(np.float64))


def _yes_or_no(path: str, column: pl.Series) -> np.ndarray:
    given = column.cast(pl.String).str.strip_chars().str.to_lowercase()
    given = given.replace("", None)
    unknown = given.filter(given.is_not_null() & ~given.is_in([*YES, *NO]))
    if len(unknown):
        raise InputError(
            f"{path}: column {column.name!r} holds {unknown[0]!r}; it is a question of yes and "
            "no: 1, 0, or empty where it is not known"
        )
    answers = given.is_in(list(YES)).to_numpy().astype(np.float64)
    return np.where(given.is_null().to_numpy(), np.nan, answers)


def labelled(labels: Labels, embeddings: str, key: str | None) -> Labelled:
    """The embeddings of labelled samples, from one table or all of a folder.

    Samples are put in the order of their names, so that the order of the files does not matter.
    Raises `InputError` where a table cannot be used, where tables go by different names or are of
    different dimensions, where a sample has two labels or two embeddings that differ, and where no
    sample has both.
    """
    tables = map(lambda path: open_table(path, key), find_tables(embeddings))
    first = next(tables)
    answers = _by_name(labels, first)
    rows: dict[str, np.ndarray] = {}
    for table in itertools.chain([first], tables):
        _check_alike(table, first)
        for name in answers.keys() & table.rows.keys():
            row = table.array[table.rows[name]]
            if rows.setdefault(name, np.array(row)).tobytes() != row.tobytes():
                raise InputError(
                    f"{table.path}: {table.identity} {name} has another embedding than in a table "
                    "before; keep one"
                )
    if not rows:
        raise InputError(
            f"{embeddings}: has an embedding of none of the {len(answers)} samples that "
            f"{labels.path} labels{f', such as {min(answers)}' if answers else ''}; do the two "
            "belong together?"
        )
    names = sorted(rows)
    array = np.stack([rows[name] for name in names]).astype(np.float32)
    usable = ~np.logical_or(*without_direction(array))
    left_out = {
        **labels.left_out,
        NO_EMBEDDING: len(answers) - len(rows),
        NO_DIRECTION: int((~usable).sum()),
    }
    return Labelled(
        array[usable],
        np.stack([answers[name] for name in names])[usable],
        {reason: count for reason, count in left_out.items() if count},
    )


def _by_name(labels: Labels, table: EmbeddingTable) -> dict[str, np.ndarray]:
    """The answers of each sample, by what the rows of tables go by."""
    if table.identity not in labels.names:
        raise InputError(
            f"{table.path}: its rows go by {table.identity}, but {labels.path} has no such "
            "column; add it"
        )
    answers: dict[str, np.ndarray] = {}
    for name, answer in zip(labels.names[table.identity], labels.answers, strict=True):
        if not np.array_equal(answers.setdefault(name, answer), answer, equal_nan=True):
            raise InputError(
                f"{labels.path}: two rows of {table.identity} {name} have different labels; keep "
                "one"
            )
    return answers


def _check_alike(table: EmbeddingTable, first: EmbeddingTable) -> None:
    mine, its = table.array.shape[1], first.array.shape[1]
    if mine != its:
        raise InputError(
            f"{table.path}: embeddings of {mine} numbers, but {first.path} has {its}; give those "
            "of one model"
        )
    if table.identity != first.identity:
        raise InputError(
            f"{table.path}: its rows go by {table.identity}, those of {first.path} by "
            f"{first.identity}; give both the same"
        )
