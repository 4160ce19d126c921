"""Sample pictures: what balancing uses less and more often. Shown only where they are asked for."""

import base64
import io
import tarfile
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from PIL import Image

from m4.catalogue import Catalogue
from m4.policy import Policy
from pipelines import storage
from pipelines.groups import IMAGE_EXTENSIONS, split_member
from pipelines.tables import committed, read_table, to_frame, to_patterns

SIZE = 96
QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """A small picture as a data URL, with its caption and its weight."""

    url: str
    caption: str
    weight: float


def sample_pictures(
    annotations: str, catalogue: Catalogue, policy: Policy, *, count: int
) -> tuple[list[Picture], list[Picture]]:
    """Pictures with the smallest and with the largest weights, at most one of each pattern.

    They are taken from the first annotated shard, which is enough of a sample of most data.
    """
    stem, commit = next((stem, commit) for stem, commit in committed(annotations) if commit.rows)
    table = read_table(annotations, stem)
    weights = policy.weights(to_patterns(table, catalogue))
    spans = _one_per_pattern(table, catalogue, weights).sort("weight", maintain_order=True)
    lowest, highest = spans.head(count), spans.tail(count).reverse()
    with storage.open_input(commit.shard) as stream:

        def pictures(rows: pl.DataFrame) -> list[Picture]:
            found = []
            for row in rows.iter_rows(named=True):
                stream.seek(row["offset"])
                found.append(_picture(stream.read(row["length"]), row["weight"]))
            return found

        return pictures(lowest), pictures(highest)


def _one_per_pattern(table: pa.Table, catalogue: Catalogue, weights: np.ndarray) -> pl.DataFrame:
    known = pl.any_horizontal(pl.col(name).is_not_null() for name in catalogue.value_names)
    return (
        to_frame(table)
        .with_columns(weight=pl.Series(weights))
        .filter(known)
        .unique([*catalogue.value_names, "labels"], keep="first", maintain_order=True)
        .select("offset", "length", "weight")
    )


def _picture(span: bytes, weight: float) -> Picture:
    caption, url = "", ""
    with tarfile.open(fileobj=io.BytesIO(span + bytes(2 * tarfile.BLOCKSIZE))) as tar:
        for member in tar:
            extension = split_member(member.name)[1]
            stream = tar.extractfile(member)
            if stream is None:
                continue
            if extension in IMAGE_EXTENSIONS:
                url = _thumbnail(stream.read())
            elif extension == "txt":
                caption = stream.read().decode(errors="replace").strip()
    return Picture(url, caption, weight)


def _thumbnail(content: bytes) -> str:
    image: Image.Image = Image.open(io.BytesIO(content))
    if image.mode != "RGB":
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    image.thumbnail((SIZE, SIZE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
