"""Count: distinct patterns of the annotations, all that a solver needs."""

from collections.abc import Iterable, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from m4.catalogue import Catalogue
from m4.errors import InputError
from m4.patterns import Patterns
from pipelines import storage
from pipelines.tables import check_digest, read_table, to_frame, to_patterns


def pattern_columns(catalogue: Catalogue) -> list[str]:
    """The columns that make a pattern."""
    return [*catalogue.value_names, "labels", "utility"]


def shard_patterns(
    annotations: str, stem: str, columns: Sequence[str], manifest: str | None = None
) -> pl.DataFrame:
    """Distinct patterns of one shard with their counts; examples, or copies that a manifest drew.

    Raises `InputError` where the manifest lists other samples than the annotations.
    """
    table = read_table(annotations, stem, ["uid", *columns])
    frame = to_frame(table)
    if manifest is None:
        frame = frame.with_columns(count=pl.lit(1, pl.Int64))
    else:
        drawn = read_table(manifest, stem, ["uid", "copies"])
        if drawn["uid"] != table["uid"]:
            raise InputError(
                f"{manifest}/{stem}.parquet lists other samples than the annotations of the same "
                "shard; run apply again"
            )
        copies = pl.from_arrow(drawn["copies"])
        assert isinstance(copies, pl.Series)
        frame = frame.with_columns(count=copies.cast(pl.Int64)).filter(pl.col("count") > 0)
    return merge_patterns([frame.select([*columns, "count"])])


def merge_patterns(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Join tables of patterns, adding counts; the order of rows depends on content alone."""
    joined = pl.concat(list(frames))
    keys = [name for name in joined.columns if name != "count"]
    order = [pl.col(name) for name in keys if name != "labels"]
    labels = pl.col("labels").cast(pl.List(pl.String)).list.join(" ")
    return joined.group_by(keys).agg(pl.col("count").sum()).sort([*order, labels])


def write_patterns(path: str, frame: pl.DataFrame, catalogue: str) -> None:
    """Write a table of patterns, with the digest of its catalogue."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    table = table.replace_schema_metadata({"catalogue": catalogue})
    with storage.atomic_output(path) as stream:
        pq.write_table(table, stream, compression="zstd")


def read_patterns(path: str, catalogue: Catalogue) -> Patterns:
    """Read a table of patterns.

    Raises `InputError` where it is missing or was counted with another catalogue.
    """
    if not storage.exists(path):
        raise InputError(f"{path}: no such table; run count first")
    with storage.open_input(path) as stream:
        table: pa.Table = pq.read_table(stream)
    metadata = table.schema.metadata or {}
    check_digest(path, metadata.get(b"catalogue", b"").decode(), catalogue.digest)
    return to_patterns(table, catalogue)
