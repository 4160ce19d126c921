"""Embeddings of a data set with its labels: what pipelines hand to evaluation."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from m4.errors import InputError
from pipelines.record import digest_of
from pipelines.shards import Failure


class Known(NamedTuple):
    """Who an image is, and what is known of it.

    `identity` is equal only for equal images: the digest of its content, or what else there is.
    """

    key: str
    identity: str
    labels: Mapping[str, str]
    captions: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class EncodedSet:
    """n images, encoded.

    Attributes
    ----------
    name : of the data set
    digest : of the images' identities, labels and captions, in order
    keys : n names, each once
    embeddings : (n, d) float32
    labels : n rows of strings, a column for each label in the order of their names; null where it
        is not known
    captions : of each image; None where no image has one
    classes, templates : that the data set brings along; the label "cls" is then a class's number
    failures : images that could not be read
    left_out : by reason, how many more were not used
    """

    name: str
    digest: str
    keys: tuple[str, ...]
    embeddings: np.ndarray
    labels: pl.DataFrame
    captions: tuple[tuple[str, ...], ...] | None
    classes: tuple[str, ...] | None
    templates: tuple[str, ...] | None
    failures: tuple[Failure, ...]
    left_out: Mapping[str, int]


def gather(
    name: str,
    known: Sequence[Known],
    embeddings: np.ndarray,
    *,
    classes: tuple[str, ...] | None = None,
    templates: tuple[str, ...] | None = None,
    failures: Sequence[Failure] = (),
    left_out: Mapping[str, int],
    renamed: Mapping[str, str],
) -> EncodedSet:
    """Put the parts of an `EncodedSet` together.

    Parameters
    ----------
    known : of each row of `embeddings`
    renamed : names that labels were given, and those that they had

    Raises `InputError` where nothing has a label that was renamed.
    """
    names = sorted({label for each in known for label in each.labels})
    columns = {label: [each.labels.get(label) for each in known] for label in names}
    for new, old in renamed.items():
        if new not in columns:
            raise InputError(f"{name}: columns: no image has a label {old!r} to be {new!r}")
    schema = dict.fromkeys(names, pl.String)
    labels = pl.DataFrame(columns or None, schema=schema or None, height=len(known))
    captions = tuple(each.captions for each in known)
    digest = digest_of(
        *(part for each in known for part in (each.key, each.identity, *each.captions)),
        *(digest_of(label, *(value or "" for value in columns[label])) for label in names),
    )
    return EncodedSet(
        name,
        digest,
        tuple(each.key for each in known),
        embeddings,
        labels,
        captions if any(captions) else None,
        classes,
        templates,
        tuple(failures),
        dict(sorted((reason, count) for reason, count in left_out.items() if count)),
    )


def check_failures(
    name: str, used: int, failures: Sequence[Failure], shards: int, limit: float
) -> None:
    """Raise `InputError` where too much was set aside: samples, or shards not read to their end.

    Parameters
    ----------
    used : images that could be read
    limit : largest share that may be set aside
    """
    damaged = [each for each in failures if each.rest]
    hit = len({each.shard for each in damaged})
    if len(failures) > limit * (used + len(failures)):
        named = failures
        what = f"{len(failures)} of {used + len(failures)} images cannot be used"
    elif hit > limit * shards:
        named = damaged
        what = f"{hit} of {shards} shards cannot be read to their end"
    else:
        return
    said = in_words(Counter(each.reason for each in named))
    raise InputError(
        f"{name}: {what} ({said}; the first: {named[0].shard}: {named[0].key or 'all of it'}), "
        f"more than max_failures {limit:g} allows; repair them, or raise it"
    )


def in_words(counts: Mapping[str, int]) -> str:
    """How many there are of each reason, the most frequent first."""
    counted = Counter(counts).most_common()
    return "; ".join(f"{count} x {reason}" for reason, count in counted if count)
