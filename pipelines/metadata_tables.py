"""Tables of metadata as shards: the parquets of DataComp and img2dataset, a sample in each row.

A team can balance from them before a picture is downloaded, or without reading the tars. Two
layouts are known by their columns:

DataComp      uid, text; and url, face_bboxes, scores. Embeddings lie in an .npz beside it.
img2dataset   key, status, caption; and uid, where it was kept. It lies beside the tar, whose
              samples are the rows with status "success", and have the same uids.

Any other parquet is read like the first, with a column text, caption or txt, and uid or key.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m4.errors import InputError, UnusableSample
from pipelines import storage
from pipelines.shards import (
    BAD_UID,
    CAPTION_NOT_UTF8,
    EMPTY_SHARD,
    KEY_NOT_UTF8,
    NO_CAPTION,
    REPEATED,
    TAR,
    Failure,
    Sample,
    SampleSpan,
    ShardRef,
    derived_uid,
    usable_caption,
    usable_uid,
)

ROWS = 8192  # in memory at a time
BUFFER = 1 << 20  # bytes of a column that are read at a time
CAPTIONS = ("text", "caption", "txt")
SUCCESS = "success"
NO_KEY = "no key"
NO_UID = "no uid"
NO_METADATA = "metadata cannot be read"

Text = str | bytes | None  # bytes: it is not UTF-8


@dataclass(frozen=True)
class Dropped:
    """A row that stands for no sample, and why: its picture was not downloaded."""

    reason: str


@dataclass(frozen=True)
class Layout:
    """The columns of a table that say what a sample is; None where it has no such column."""

    caption: str
    uid: str | None
    key: str | None
    status: str | None

    @classmethod
    def of(cls, schema: pa.Schema, path: str) -> "Layout":
        """Recognise the layout of a table.

        Raises `InputError` where a column is missing, or holds no strings.
        """
        names = schema.names
        uid, key = (name if name in names else None for name in ("uid", "key"))
        status = "status" if key and "status" in names else None
        captions = [name for name in CAPTIONS if name in names]
        if status:
            captions = [name for name in captions if name == "caption"]
        if len(captions) != 1 or not (uid or key):
            raise InputError(
                f"{path}: not a table of metadata: it needs uid or key, and one of "
                f"{', '.join(CAPTIONS)} (img2dataset: caption); it has {', '.join(names)}"
            )
        layout = cls(captions[0], uid, key, status)
        for name in layout.columns:
            if not _holds_strings(schema.field(name).type):
                raise InputError(
                    f"{path}: column {name} holds {schema.field(name).type}; it must hold strings"
                )
        return layout

    @property
    def columns(self) -> list[str]:
        return [name for name in (self.caption, self.uid, self.key, self.status) if name]


def check_pictures(shards: Sequence[ShardRef], asker: str) -> None:
    """Raise `InputError` where shards are tables of metadata and somebody wants their pictures."""
    for shard in shards:
        if shard.is_table:
            raise InputError(
                f"{shard.path}: a table of metadata has no pictures, and {asker} looks at them; "
                "name the tars instead"
            )


def read_rows(shard: ShardRef, fields: Sequence[str]) -> Iterator[Sample | Failure | Dropped]:
    """Read a table's rows in order, a few thousand at a time, as samples without pictures.

    A row that cannot be used is yielded as a `Failure`, by the rules of `read_samples`; one that
    img2dataset could not download as `Dropped`. The key of a row without one is its uid.

    Parameters
    ----------
    fields : columns that `Sample.metadata` holds, as JSON would have them; others are not read,
        and those that the table lacks are left out

    Raises `InputError` where the table is damaged anywhere, or has not the columns it needs.
    """
    try:
        with storage.open_input(shard.path) as stream:
            file = pq.ParquetFile(
                stream, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True
            )
            schema = file.schema_arrow
            for name, count in Counter(schema.names).items():
                if count > 1:
                    raise InputError(f"{shard.path}: {count} columns are named {name}; keep one")
            layout = Layout.of(schema, shard.path)
            wanted = [name for name in dict.fromkeys(fields) if name in schema.names]
            rows = _Rows(shard, layout, wanted)
            columns = list(dict.fromkeys([*layout.columns, *wanted]))
            for batch in file.iter_batches(ROWS, columns=columns, use_threads=False):
                yield from rows.read(batch)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:  # of names of columns, too
        reason = " ".join(str(error).split())
        raise InputError(f"{shard.path}: cannot be read: {reason}") from None
    if not rows.seen:
        yield Failure(shard.name, None, EMPTY_SHARD, rest=True)


class _Rows:
    """Makes samples of the rows of one table, batch by batch."""

    def __init__(self, shard: ShardRef, layout: Layout, fields: Sequence[str]):
        self._shard = shard
        self._layout = layout
        self._fields = fields
        self._keys: set[str] = set()
        self.seen = 0

    def read(self, batch: pa.RecordBatch) -> Iterator[Sample | Failure | Dropped]:
        layout = self._layout
        columns = [
            [None] * len(batch) if name is None else _texts(batch[name])
            for name in (layout.caption, layout.uid, layout.key, layout.status)
        ]
        for caption, uid, key, status, metadata in zip(
            *columns, _records(batch, self._fields), strict=True
        ):
            row = self.seen
            self.seen += 1
            if layout.status and status != SUCCESS:
                yield Dropped(f"not downloaded ({_shown(status) or 'no status'})")
                continue
            try:
                yield self._sample(row, caption, uid, key, metadata)
            except UnusableSample as error:
                yield Failure(self._shard.name, _shown(key) or f"(row {row})", str(error))

    def _sample(
        self, row: int, caption: Text, uid: Text, key: Text, metadata: dict[str, Any] | None
    ) -> Sample:
        name = None
        if self._layout.key:
            name = _text(key, NO_KEY, KEY_NOT_UTF8)
            if name in self._keys:
                raise UnusableSample(REPEATED)
            self._keys.add(name)
            uid = uid or derived_uid(f"{self._shard.stem}{TAR}", name)
        if metadata is None:
            raise UnusableSample(NO_METADATA)
        caption = usable_caption(_text(caption, NO_CAPTION, CAPTION_NOT_UTF8))
        uid = usable_uid(_text(uid, NO_UID, BAD_UID))
        return Sample(uid, name or uid, SampleSpan(row, 0), caption, metadata)


def _text(text: Text, missing: str, broken: str) -> str:
    if text is None:
        raise UnusableSample(missing)
    if isinstance(text, bytes):
        raise UnusableSample(broken)
    return text


def _shown(text: Text) -> str | None:
    return text.decode(errors="backslashreplace") if isinstance(text, bytes) else text


def _holds_strings(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(kind) for is_kind in (*kinds, pa.types.is_null))


def _texts(column: pa.Array) -> list[Text]:
    """The strings of a column; one that is not UTF-8 as bytes. Nothing checks a parquet's."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_decoded(each) for each in column.cast(pa.binary()).to_pylist()]


def _decoded(content: bytes | None) -> Text:
    try:
        return content and content.decode()
    except UnicodeDecodeError:
        return content


def _records(batch: pa.RecordBatch, fields: Sequence[str]) -> list[dict[str, Any] | None]:
    """Some columns of each row as JSON would have them; None where that cannot be."""
    if not fields:
        return [{} for _ in range(len(batch))]
    try:
        columns = [_plain(batch[name]) for name in fields]
        return pa.RecordBatch.from_arrays(columns, fields).to_pylist(maps_as_pydicts="lossy")
    except (UnicodeDecodeError, pa.ArrowInvalid):
        if len(batch) == 1:
            return [None]
        middle = len(batch) // 2  # few rows are broken; the others are found by halving
        return _records(batch.slice(0, middle), fields) + _records(batch.slice(middle), fields)


def _plain(column: pa.Array) -> pa.Array:
    kind = _plain_type(column.type)
    return column if kind == column.type else column.cast(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that stands for one in JSON: strings for bytes and times, floats for decimals."""
    types = pa.types
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([field.with_type(_plain_type(field.type)) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    if types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if types.is_temporal(kind) or _holds_bytes(kind):
        return pa.string()
    if types.is_decimal(kind):
        return pa.float64()
    return pa.float32() if types.is_float16(kind) else kind


def _holds_bytes(kind: pa.DataType) -> bool:
    types = pa.types
    kinds = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    return any(is_kind(kind) for is_kind in (*kinds, types.is_binary_view))
