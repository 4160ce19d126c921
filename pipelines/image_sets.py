"""Labelled pictures that somebody has: a folder with a table, tars, a set of clip_benchmark."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import polars as pl
from pydantic import Field, model_validator

from m4.errors import InputError
from pipelines import storage
from pipelines.clip_benchmark_sets import TEST, open_clip_benchmark_set, splits_of
from pipelines.labelled import read_frame
from pipelines.labelled_images import (
    CAPTION,
    OTHER_LABELS,
    ImageSource,
    LabelledImage,
    Labeller,
    Selection,
    TarImages,
)
from pipelines.metadata_tables import Dropped, check_pictures
from pipelines.shards import Failure, ShardRef, find_shards

FILE = "file"
PATTERN = re.compile(r"[*?[{]")
ROWS = 256  # of a table, that are read together
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NO_LABELS = (pl.Binary, pl.Object, pl.Duration)  # kinds of columns, beside lists and records
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
LONGEST_HEADER = 65_536  # bytes of a csv
NO_FILE = "no such file"
UNREADABLE = "file cannot be read"
NO_ROW = "pictures that no row names"


class ImageSetSettings(Selection):
    """Where labelled pictures are, and which of them are used."""

    images: str = Field(
        description="a folder of pictures, tars as for annotate, or a data set of clip_benchmark"
    )
    labels: str | None = Field(
        default=None,
        description="of a folder of pictures: csv, tsv or parquet with a row for each; all columns "
        "are labels, but `caption`",
    )
    file_column: str = Field(
        default=FILE, description="the column that names the file, relative to the folder"
    )
    split: str | None = Field(
        default=None, description=f"of a data set of clip_benchmark; {TEST} if left out"
    )

    @model_validator(mode="after")
    def _effective(self) -> "ImageSetSettings":
        if self.labels is None and self.file_column != FILE:
            raise ValueError("file_column has no effect without labels")
        if self.labels is not None and self.split is not None:
            raise ValueError("split has no effect with labels; name rows with where")
        return self

    @property
    def name(self) -> str:
        """What the data set is called: the last part of its path, patterns after their folder."""
        parts = PurePosixPath(self.images).parts
        patterns = [place for place, part in enumerate(parts) if PATTERN.search(part)]
        first = max(patterns[0] - 1, 0) if patterns else -1
        return str(PurePosixPath(*parts[first:]))


def open_images(settings: ImageSetSettings) -> ImageSource:
    """Find the pictures; they are read when the source is iterated over.

    With `labels` it is a folder of pictures; without, a folder in which a split has `nshards.txt`
    is a data set of clip_benchmark, and all else are tars.

    Raises `InputError` where something is not there, or a setting has no effect.
    """
    if settings.labels is not None:
        return _folder(settings, settings.labels)
    labeller = Labeller(settings)
    if splits_of(settings.images):
        return open_clip_benchmark_set(settings.images, settings.split or TEST, labeller)
    if settings.split is not None:
        raise InputError(
            f"{settings.images}: no data set of clip_benchmark (no {settings.split}/nshards.txt), "
            f"so that split {settings.split} has no effect; leave it out"
        )
    shards = _tars(settings.images)
    check_pictures(shards, "evaluation")
    tars = tuple(TarImages(shard, labeller) for shard in shards)
    return ImageSource(settings.name, tars, labeller)


class Row(NamedTuple):
    """What a table says of a picture; `used`: whether it is asked for."""

    name: str
    labels: Mapping[str, str]
    captions: tuple[str, ...]
    used: bool


@dataclass(frozen=True, eq=False)
class FolderImages:
    """Pictures in a folder, by their paths in it."""

    folder: str
    rows: Sequence[Row]

    @property
    def name(self) -> str:
        return self.folder

    def __iter__(self) -> Iterator[LabelledImage | Dropped | Failure]:
        for row in self.rows:
            if not row.used:
                yield Dropped(OTHER_LABELS)
                continue
            try:
                image = storage.read_bytes(storage.join(self.folder, row.name))
            except FileNotFoundError:
                yield Failure(self.folder, row.name, NO_FILE)
            except OSError as error:
                yield Failure(self.folder, row.name, f"{UNREADABLE}: {error.strerror or error}")
            else:
                yield LabelledImage(row.name, image, row.labels, row.captions)


def read_rows(
    path: str, frame: pl.DataFrame, names: Sequence[str], labeller: Labeller
) -> list[Row]:
    """What the rows of a table say of pictures.

    Parameters
    ----------
    path : of the table
    frame : its labels, and captions
    names : of the pictures

    Raises `InputError` where a part of the selection is about nothing that is there.
    """
    labeller.selection.check(frame.columns, path)
    rows = []
    for name, given in zip(names, frame.iter_rows(named=True), strict=True):
        labels = labeller.labels({key: value for key, value in given.items() if value}, path)
        used = labeller.keeps(labels)
        caption = labels.pop(CAPTION, None)
        rows.append(Row(name, labels, () if caption is None else (caption,), used))
    labeller.check_met(path)
    return rows


def read_strings(path: str) -> pl.DataFrame:
    """A table of labels: all columns that can be written as strings, which no list or record can.

    Raises `InputError` where it cannot be read.
    """
    if not path.endswith(".parquet"):
        _check_text(path)
    frame = read_frame(path)
    kinds = frame.schema.items()
    flat = [name for name, kind in kinds if not kind.is_nested() and kind not in NO_LABELS]
    return frame.select(pl.col(flat).cast(pl.String))


def _check_text(path: str) -> None:
    """Raise `InputError` where a csv or tsv is of another encoding, or separated otherwise."""
    try:
        with storage.open_input(path) as stream:
            header = stream.read(LONGEST_HEADER).partition(b"\n")[0]
    except OSError:
        return  # whoever reads all of it says so
    if header.startswith(UTF_16) or b"\0" in header:
        raise InputError(f"{path}: not in UTF-8 but in UTF-16, it seems; save it as UTF-8")
    name, separator = ("tsv", b"\t") if path.endswith(".tsv") else ("csv", b",")
    if separator not in header:
        for other, called in ((b";", "semicolons"), (b"\t", "tabs"), (b",", "commas")):
            if other in header:
                raise InputError(
                    f"{path}: its columns are separated by {called}, it seems; a {name} is "
                    f"separated by {'tabs' if name == 'tsv' else 'commas'}: save it so"
                )


def check_names(path: str, frame: pl.DataFrame, column: str) -> None:
    """Raise `InputError` unless each row has a name of its own in a column."""
    if column not in frame.columns:
        raise InputError(
            f"{path}: no column {column!r} that names the picture; it has "
            f"{', '.join(frame.columns)}"
        )
    names = frame[column]
    empty = (names.is_null() | (names == "")).fill_null(True)
    if empty.any():
        raise InputError(
            f"{path}: column {column} is empty in {empty.sum()} rows, the first is row "
            f"{empty.arg_max()}, counted from 0; name the picture or leave the row out"
        )
    repeated = names.filter(names.is_duplicated())
    if len(repeated):
        raise InputError(
            f"{path}: {column} {repeated[0]} stands in more than one row ({len(repeated)} such "
            "rows); keep one"
        )


def _folder(settings: ImageSetSettings, path: str) -> ImageSource:
    frame = read_strings(path)
    check_names(path, frame, settings.file_column)
    names = frame[settings.file_column].to_list()
    _check_inside(path, settings.file_column, names)
    unnamed = len(set(_pictures(settings.images)) - set(names))
    labeller = Labeller(settings)
    rows = read_rows(path, frame.drop(settings.file_column), names, labeller)
    shards = tuple(
        FolderImages(settings.images, rows[first : first + ROWS])
        for first in range(0, len(rows), ROWS)
    )
    left_out = {NO_ROW: unnamed} if unnamed else {}
    return ImageSource(settings.name, shards, labeller, left_out=left_out)


def _check_inside(path: str, column: str, names: Sequence[str]) -> None:
    """Raise `InputError` where a file's name leads out of the folder of pictures."""
    for row, name in enumerate(names):
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or storage.is_remote(name):
            raise InputError(
                f"{path}: row {row}, counted from 0: {column} {name} leads out of the folder of "
                "pictures; name files by their path in it"
            )


def _pictures(folder: str) -> list[str]:
    """Names of the pictures of a folder and of those below it. Raises `InputError`."""
    pictures = _pictures_below(folder)
    if not pictures:
        raise InputError(f"{folder}: no pictures ({', '.join(PICTURES)}) found; check the path")
    return pictures


def _pictures_below(folder: str) -> list[str]:
    above = folder.rstrip("/") + "/"
    names = [path.removeprefix(above) for path in storage.sizes_below(above.removesuffix("/"))]
    return [name for name in names if name.lower().endswith(PICTURES)]


def _tars(images: str) -> list[ShardRef]:
    """Raises `InputError` where there are none, which says so of a folder of pictures."""
    try:
        return find_shards(images)
    except InputError:
        if pictures := _pictures_below(images):
            raise InputError(
                f"{images}: a folder of {len(pictures)} pictures, and no tars; name the table of "
                "their labels with --labels"
            ) from None
        raise
