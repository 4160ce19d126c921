"""Opt-out lists: samples that are never drawn, named by their uids or by the URLs they came from.

A URL is compared by the first 16 bytes of the SHA-256 of its UTF-8 bytes, exactly as it is written:
nothing is normalised, so `http://a.org` and `http://a.org/` are two. Those 128 bits have the form
of a uid, and are looked up as uids are.

Text has an entry on each line; blank lines and those that begin with # say nothing.
"""

import hashlib
import io
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage
from pipelines.balance import ManifestBalance
from pipelines.tables import Commit
from pipelines.uids import PAIR, counts_in, distinct, read_pairs, sort_pairs, to_pairs

Kind = Literal["uids", "urls"]
COLUMNS: dict[Kind, tuple[str, ...]] = {"uids": ("uid",), "urls": ("url", "url_sha256")}
FEWEST = 20  # samples whose weights are told, all added up
KEY = 16  # bytes of a uid, and of the hash of a URL that are kept
UID = re.compile(r"[0-9a-fA-F]{32}")
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
OTHER_HASH = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{40}")

_reading = threading.Lock()


def url_key(url: str) -> bytes:
    """What a URL is compared by: the first 16 bytes of SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(url.encode()).digest()[:KEY]


@dataclass(frozen=True)
class OptOutFile:
    """A list of uids or URLs; `content` is the SHA-256 of the file."""

    path: str
    kind: Kind
    content: str

    @property
    def count_name(self) -> str:
        """Under which a manifest's commit counts the samples that this list names."""
        return f"opted_out by {self.content[:16]}"


class OptOutList(Model):
    """What became of a list: its distinct entries, and how many samples of the run they name."""

    path: str
    kind: Kind
    content: str
    entries: int
    matched: int


class OptOutReport(Model):
    """What opting out did to a manifest.

    Attributes
    ----------
    samples : that are named by any list, and are never drawn
    copies_lost : share of the expected copies that they would have had; None where so few opted out
        that it would tell their weights
    without_url : samples whose metadata states no URL, so that no list of URLs can name them; None
        where no such list was given
    lists : the files, in the order given
    """

    samples: int
    copies_lost: float | None
    without_url: int | None
    lists: tuple[OptOutList, ...]


@dataclass(frozen=True)
class OptOuts:
    """The lists of a manifest; they travel by path, and each process reads them once."""

    files: tuple[OptOutFile, ...] = ()

    @classmethod
    def of(cls, uids: Sequence[str], urls: Sequence[str]) -> "OptOuts":
        """Lists of these files. Raises `InputError` where one cannot be read or used."""
        given: list[tuple[Kind, str]] = [("uids", path) for path in uids]
        given += [("urls", path) for path in urls]
        opt_outs = cls(tuple(OptOutFile(path, kind, _content_of(path)) for kind, path in given))
        opt_outs.listed()
        return opt_outs

    @property
    def by_url(self) -> bool:
        return any(file.kind == "urls" for file in self.files)

    @property
    def content(self) -> str:
        """What the lists hold, wherever they lie and in whatever order they were given."""
        return " ".join(sorted({f"{file.kind} {file.content}" for file in self.files}))

    def listed(self) -> tuple[np.ndarray, ...]:
        """The distinct entries of each file, (n,) of dtype `PAIR`, sorted."""
        with _reading:
            return _read_files(self.files)

    def match(self, table: pa.Table) -> np.ndarray:
        """Which annotated samples each file names, (files, N) bool."""
        named = np.zeros((len(self.files), len(table)), dtype=bool)
        for row, (file, keys) in enumerate(zip(self.files, self.listed(), strict=True)):
            if file.kind == "uids":
                named[row] = counts_in(keys, to_pairs(table["uid"].to_pylist())) > 0
            else:
                urls = table["url_sha256"].to_pylist()
                known = np.array([url is not None for url in urls], dtype=bool)
                named[row] = known & (
                    counts_in(keys, _pairs(url or bytes(KEY) for url in urls)) > 0
                )
        return named

    def names(self, table: pa.Table) -> np.ndarray:
        """Which annotated samples any file names, (N,) bool."""
        return np.logical_or.reduce(self.match(table))

    def check_given(self, manifest: str, standing: OptOutReport) -> None:
        """Raise `InputError` where a manifest was drawn with a list that is not among these.

        A list is the same if its path is, or its content.
        """
        given = {(file.kind, each) for file in self.files for each in (file.path, file.content)}
        for each in standing.lists:
            if given.isdisjoint({(each.kind, each.path), (each.kind, each.content)}):
                raise InputError(
                    f"{manifest} was drawn without {each.matched:,} samples that opted out by "
                    f"{each.path}, which is not given now; give the list again, or choose another "
                    "manifest"
                )

    def report(
        self,
        annotated: Sequence[Commit],
        drawn: Sequence[Commit],
        balance: ManifestBalance | None,
    ) -> OptOutReport:
        """What became of these lists, from the commits of annotations and of their manifests.

        Parameters
        ----------
        balance : of the manifest; None where every sample is used once
        """

        def total(name: str) -> int:
            return sum(int(commit.counts[name]) for commit in drawn)

        without_url = None
        if self.by_url:
            without_url = sum(commit.rows - int(commit.counts["urls"]) for commit in annotated)
        samples, rows = total("opted_out"), sum(commit.rows for commit in drawn)
        equal_share = samples / rows if rows else 0.0
        return OptOutReport(
            samples=samples,
            copies_lost=equal_share if balance is None else balance.copies_lost,
            without_url=without_url,
            lists=tuple(
                OptOutList(
                    path=file.path,
                    kind=file.kind,
                    content=file.content,
                    entries=len(keys),
                    matched=total(file.count_name),
                )
                for file, keys in zip(self.files, self.listed(), strict=True)
            ),
        )


NO_OPT_OUTS = OptOuts()


def check_urls(annotations: str, tables: Sequence[tuple[str, Commit]]) -> None:
    """Raise `InputError` where annotations know no URL that a list could name."""
    for stem, commit in tables:
        if "urls" not in commit.counts:
            path = storage.join(annotations, f"{stem}.parquet")
            raise InputError(f"{path}: no column url_sha256, by which URLs opt out; annotate again")
    if not any(commit.counts["urls"] for _, commit in tables):
        raise InputError(
            f"{annotations}: no sample's metadata states a url, so opt_out_urls has no effect; opt "
            "out by uids, or leave it out"
        )


@lru_cache(maxsize=1)  # a process draws with one set of lists at a time
def _read_files(files: tuple[OptOutFile, ...]) -> tuple[np.ndarray, ...]:
    keys = []
    for file in files:
        if _content_of(file.path) != file.content:
            raise InputError(f"{file.path}: changed while it was used; run apply again")
        keys.append(distinct(sort_pairs(_read_keys(file.path, file.kind))))
    return tuple(keys)


def _content_of(path: str) -> str:
    return hashlib.sha256(_read_bytes(path)).hexdigest()


def _read_bytes(path: str) -> bytes:
    try:
        return storage.read_bytes(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_keys(path: str, kind: Kind) -> np.ndarray:
    if kind == "uids" and path.endswith(".npy"):
        return read_pairs(path)
    entries = _rows(path, kind) if path.endswith(".parquet") else _lines(path)
    key_of = _uid_key if kind == "uids" else _url_entry_key
    return _pairs(_keys(path, entries, key_of))


def _keys(
    path: str, entries: Iterator[tuple[str, str]], key_of: Callable[[str], bytes]
) -> Iterator[bytes]:
    for place, entry in entries:
        try:
            yield key_of(entry)
        except ValueError as error:
            raise InputError(f"{path}, {place}: {entry[:80]!r} {error}") from None


def _lines(path: str) -> Iterator[tuple[str, str]]:
    try:
        text = _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: neither text in UTF-8 nor .npy or .parquet by its name"
        ) from None
    for number, line in enumerate(io.StringIO(text), start=1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield f"line {number}", entry


def _rows(path: str, kind: Kind) -> Iterator[tuple[str, str]]:
    try:
        file = pq.ParquetFile(io.BytesIO(_read_bytes(path)))
        present = [name for name in COLUMNS[kind] if name in file.schema_arrow.names]
        entries = file.read(present[:1])[present[0]].to_pylist() if present else None
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as parquet: {error}") from None
    if entries is None:
        raise InputError(f"{path}: no column {' or '.join(COLUMNS[kind])}; name one so")
    for number, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise InputError(
                f"{path}, row {number}: {present[0]} holds {entry!r}, which is no text"
            )
        yield f"row {number}", entry


def _uid_key(entry: str) -> bytes:
    if not UID.fullmatch(entry):
        raise ValueError("is no uid; a uid has 32 hexadecimal digits")
    return bytes.fromhex(entry)


def _url_entry_key(entry: str) -> bytes:
    if "://" in entry:
        return url_key(entry)
    if SHA256.fullmatch(entry):
        return bytes.fromhex(entry)[:KEY]
    if OTHER_HASH.fullmatch(entry):
        raise ValueError(
            f"is a hash of {len(entry)} digits; only SHA-256 of a URL can be compared, 64 digits"
        )
    raise ValueError("is neither a URL with :// nor the 64 hexadecimal digits of SHA-256 of one")


def _pairs(keys: Iterator[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(keys), dtype=">u8").astype("u8").view(PAIR)
