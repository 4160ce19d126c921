"""A parquet table beside the shards whose rows belong to samples, by uid."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m4.errors import InputError
from pipelines import storage


class JoinedTable:
    """Rows of a table by uid: one file for all shards, or a folder with a file for each.

    A file is `<folder>/<stem>.parquet`, as DataComp and img2dataset lay their metadata beside the
    shards; it has a column `uid`. A single file is read once and kept.
    """

    def __init__(self, path: str):
        self._path = path
        self._single = path.endswith(".parquet")
        self._rows: dict[str, int] = {}
        self._table: pa.Table | None = None

    def begin(self, stem: str, columns: Sequence[str]) -> None:
        """Read the rows of a shard.

        Raises `InputError` where the file is missing or damaged, lacks a column, or has two rows
        of one uid.
        """
        if self._single and self._table is not None:
            return
        path = self._path if self._single else storage.join(self._path, f"{stem}.parquet")
        try:
            with storage.open_input(path) as stream:
                file = pq.ParquetFile(stream)
                names = file.schema_arrow.names
                lacking = [name for name in ("uid", *columns) if name not in names]
                if lacking:
                    raise InputError(f"{path}: no column {lacking[0]!r}; it has {', '.join(names)}")
                self._table = file.read(columns=list(dict.fromkeys(["uid", *columns])))
        except (OSError, pa.ArrowInvalid) as error:
            self._table = None
            raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
        uids = self._table["uid"].to_pylist()
        self._rows = {uid: row for row, uid in enumerate(uids)}
        if len(self._rows) < len(uids):
            self._table = None
            raise InputError(
                f"{path}: {len(uids)} rows, but {len(self._rows)} different uids; keep one row each"
            )

    def records(self, uids: Sequence[str]) -> list[Mapping[str, Any] | None]:
        """The rows of samples, None where there is none."""
        assert self._table is not None  # `begin` has read it
        rows = [self._rows.get(uid) for uid in uids]
        found = self._table.take([row for row in rows if row is not None]).to_pylist()
        left = iter(found)
        return [None if row is None else next(left) for row in rows]
