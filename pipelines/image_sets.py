"""Labelled pictures that somebody has: a folder with a table, tars, a set of clip_benchmark."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl
from pydantic import Field, model_validator

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.clip_benchmark_sets import TEST, open_clip_benchmark_set, splits_of
from pipelines.labelled import read_frame
from pipelines.labelled_images import (
    CAPTION,
    OTHER_LABELS,
    ImageSource,
    LabelledImage,
    Selection,
    TarImages,
)
from pipelines.metadata_tables import Dropped, check_pictures
from pipelines.shards import Failure, find_shards

FILE = "file"
ROWS = 256  # of a table, that are read together
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
NO_FILE = "no such file"
UNREADABLE = "file cannot be read"
NO_ROW = "pictures that no row names"


class ImageSetSettings(Model):
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
    columns: dict[str, str] = Field(
        default_factory=dict, description="names that a protocol wants, and yours: gender Male"
    )
    where: dict[str, str] = Field(
        default_factory=dict,
        description="pictures to use: labels by their new names, and the values they must have",
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
        """What the data set is called: the last part of its path."""
        return PurePosixPath(self.images).name or self.images


def open_images(settings: ImageSetSettings) -> ImageSource:
    """Find the pictures; they are read when the source is iterated over.

    With `labels` it is a folder of pictures; without, a folder in which a split has `nshards.txt`
    is a data set of clip_benchmark, and all else are tars.

    Raises `InputError` where something is not there, or a setting has no effect.
    """
    selection = Selection(settings.columns, settings.where)
    if settings.labels is not None:
        return _folder(settings, settings.labels, selection)
    if splits_of(settings.images):
        return open_clip_benchmark_set(settings.images, settings.split or TEST, selection)
    if settings.split is not None:
        raise InputError(
            f"{settings.images}: no data set of clip_benchmark (no {settings.split}/nshards.txt), "
            f"so that split {settings.split} has no effect; leave it out"
        )
    shards = find_shards(settings.images)
    check_pictures(shards, "evaluation")
    return ImageSource(settings.name, tuple(TarImages(shard, selection) for shard in shards))


@dataclass(frozen=True, eq=False)
class FolderImages:
    """Pictures in a folder, one for each row of a table."""

    folder: str
    rows: pl.DataFrame
    file_column: str
    selection: Selection

    @property
    def name(self) -> str:
        return self.folder

    def __iter__(self) -> Iterator[LabelledImage | Dropped | Failure]:
        for row in self.rows.iter_rows(named=True):
            file = row.pop(self.file_column)
            labels, captions = known(row, self.selection, self.folder)
            if not self.selection.keeps(labels):
                yield Dropped(OTHER_LABELS)
                continue
            try:
                image = storage.read_bytes(storage.join(self.folder, file))
            except FileNotFoundError:
                yield Failure(self.folder, file, NO_FILE)
            except OSError as error:
                yield Failure(self.folder, file, f"{UNREADABLE}: {error.strerror or error}")
            else:
                yield LabelledImage(file, image, labels, captions)


def known(
    row: dict[str, str | None], selection: Selection, what: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The labels of a table's row, under their new names, and its captions."""
    given = {name: value for name, value in row.items() if value}
    labels = selection.names(given, what)
    caption = labels.pop(CAPTION, "").strip()
    return labels, (caption,) if caption else ()


def read_strings(path: str) -> pl.DataFrame:
    """A table of labels: all columns that are no lists or records, as strings.

    Raises `InputError` where it cannot be read.
    """
    frame = read_frame(path)
    flat = [name for name, kind in frame.schema.items() if not kind.is_nested()]
    return frame.select(pl.col(flat).cast(pl.String))


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


def _folder(settings: ImageSetSettings, path: str, selection: Selection) -> ImageSource:
    frame = read_strings(path)
    check_names(path, frame, settings.file_column)
    selection.check([name for name in frame.columns if name != settings.file_column], path)
    named = set(frame[settings.file_column])
    unnamed = sum(name not in named for name in _pictures_below(settings.images))
    shards = tuple(
        FolderImages(settings.images, rows, settings.file_column, selection)
        for rows in frame.iter_slices(ROWS)
    )
    return ImageSource(settings.name, shards, left_out={NO_ROW: unnamed} if unnamed else {})


def _pictures_below(folder: str) -> list[str]:
    """Names of the pictures of a folder and of those below it. Raises `InputError`."""
    above = folder.rstrip("/") + "/"
    names = [path.removeprefix(above) for path in storage.sizes_below(above.removesuffix("/"))]
    pictures = [name for name in names if name.lower().endswith(PICTURES)]
    if not pictures:
        raise InputError(f"{folder}: no pictures ({', '.join(PICTURES)}) found; check the path")
    return pictures
