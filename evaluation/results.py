"""What a protocol found of a model: kept as JSON, as a table, and with its resamples."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field, ValidationError

from evaluation.draws import Difference, Draws, Measurement, differences
from evaluation.resampling import Resampling
from m4.catalogue import Model, explain
from m4.errors import InputError

COLUMNS = {
    "measure": pl.String,
    "subject": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "null_mean": pl.Float64,
    "null_low": pl.Float64,
    "null_high": pl.Float64,
    "excess": pl.Float64,
    "p_value": pl.Float64,
    "p_max": pl.Float64,
    "p_fdr": pl.Float64,
    "better": pl.String,
    "images": pl.Int64,
}


class SetUsed(Model):
    """A labelled set that a protocol was run on.

    Attributes
    ----------
    digest : tells sets apart by their images and labels
    images : that it has
    left_out : by reason, how many more could not be used
    """

    name: str
    digest: str
    images: int
    left_out: dict[str, int] = Field(default_factory=dict)


class ProtocolResult(Model):
    """What one protocol found of one model.

    Attributes
    ----------
    protocol, title, source : its name, and where it was published
    digest : of what it measures, prompts included
    model : name of the embedding space
    sets : by role in the protocol
    compat : whose quirks were reproduced; None: nobody's
    headlines : measures with one figure
    details : tables of figures, by subject
    """

    protocol: str
    title: str
    source: str
    digest: str
    model: str
    sets: dict[str, SetUsed]
    resampling: Resampling
    compat: str | None
    headlines: tuple[Measurement, ...]
    details: tuple[Measurement, ...]

    def table(self) -> pl.DataFrame:
        """A row for each figure, the headlines first."""
        rows = [_row(each) for each in (*self.headlines, *self.details)]
        return pl.DataFrame(rows, schema=COLUMNS)

    def value(self, measure: str, subject: str) -> float:
        """One figure. Raises `InputError` naming the figures there are."""
        for each in (*self.headlines, *self.details):
            if (each.measure, each.subject) == (measure, subject):
                return each.value
        there = ", ".join(f"{each.measure} of {each.subject}" for each in self.headlines)
        raise InputError(f"{self.protocol}: no {measure} of {subject}; there are {there}")


def _row(found: Measurement) -> dict[str, object]:
    interval, null = found.interval, found.null
    return {
        "measure": found.measure,
        "subject": found.subject,
        "value": found.value,
        "low": None if interval is None else interval.low,
        "high": None if interval is None else interval.high,
        "null_mean": None if null is None else null.mean,
        "null_low": None if null is None else null.low,
        "null_high": None if null is None else null.high,
        "excess": found.excess,
        "p_value": found.p_value,
        "p_max": found.p_max,
        "p_fdr": found.p_fdr,
        "better": found.better,
        "images": found.images,
    }


@dataclass(frozen=True, eq=False)
class ProtocolRun:
    """A result, and the draws that it was made from: what a comparison with another model needs."""

    result: ProtocolResult
    draws: tuple[Draws, ...]

    @classmethod
    def of(
        cls,
        *,
        draws: Sequence[Draws],
        resampling: Resampling,
        protocol: str,
        title: str,
        source: str,
        digest: str,
        model: str,
        sets: dict[str, SetUsed],
        compat: str | None,
    ) -> "ProtocolRun":
        """Sum up draws: those of one figure are headlines, the others details."""
        found = [(each, each.measurements(resampling.level)) for each in draws]
        result = ProtocolResult(
            protocol=protocol,
            title=title,
            source=source,
            digest=digest,
            model=model,
            sets=sets,
            resampling=resampling,
            compat=compat,
            headlines=tuple(m for each, ms in found for m in ms if len(each.names) == 1),
            details=tuple(m for each, ms in found for m in ms if len(each.names) > 1),
        )
        return cls(result, tuple(draws))

    def save(self, folder: Path, name: str) -> None:
        """Write `<name>.json`, `<name>.csv` and `<name>.draws.npz`; the JSON last."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {}
        for number, each in enumerate(self.draws):
            about = {"measure": each.measure, "names": each.names, "better": each.better,
                     "images": each.images}  # fmt: skip
            arrays[f"{number}.about"] = np.array(json.dumps(about))
            arrays[f"{number}.observed"] = each.observed
            arrays[f"{number}.bootstrap"] = each.bootstrap.astype(np.float32)
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **arrays)
        _write(folder / f"{name}.draws.npz", stream.getvalue())
        _write(folder / f"{name}.csv", self.result.table().write_csv().encode())
        _write(folder / f"{name}.json", self.result.model_dump_json(indent=1).encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> "ProtocolRun":
        """Read what `save` wrote, by the path of the JSON; nulls are not kept.

        Raises `InputError` naming the file and what is wrong.
        """
        result = load_result(path)
        beside = path.with_suffix(".draws.npz")
        try:
            with np.load(beside, allow_pickle=False) as arrays:
                draws = [_draws(arrays, number) for number in range(len(arrays.files) // 3)]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{beside}: cannot be read: {error}; run the protocol again") from None
        return cls(result, tuple(draws))


def _draws(arrays: np.lib.npyio.NpzFile, number: int) -> Draws:
    about = json.loads(str(arrays[f"{number}.about"]))
    return Draws(
        measure=about["measure"],
        names=tuple(about["names"]),
        observed=arrays[f"{number}.observed"],
        bootstrap=arrays[f"{number}.bootstrap"].astype(np.float64),
        null=None,
        images=about["images"],
        better=about["better"],
    )


def load_result(path: Path) -> ProtocolResult:
    """Read a result's JSON; raises `InputError` naming the file and what is wrong."""
    try:
        return ProtocolResult.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except ValidationError as error:
        raise InputError(f"{path}: not the result of a protocol: {explain(error)}") from None


class RunDifferences(Model):
    """How two models differ, on the same images and by the same protocol.

    Attributes
    ----------
    first, second : names of the models
    headlines, details : as of their results
    """

    first: str
    second: str
    headlines: tuple[Difference, ...]
    details: tuple[Difference, ...]


def compare_runs(first: ProtocolRun, second: ProtocolRun) -> RunDifferences:
    """Every figure of two models on the same items, resample by resample.

    Raises `InputError` where the two were not measured by the same protocol, on the same images,
    with the same resamples.
    """
    for what in ("protocol", "digest", "sets", "resampling", "compat"):
        one, other = getattr(first.result, what), getattr(second.result, what)
        if one != other:
            raise InputError(
                f"{first.result.model} and {second.result.model} were measured with different "
                f"{what}: {one} and {other}; measure both alike"
            )
    level = first.result.resampling.level
    found = [
        differences(one, other, level) for one, other in zip(first.draws, second.draws, strict=True)
    ]
    return RunDifferences(
        first=first.result.model,
        second=second.result.model,
        headlines=tuple(each for table in found for each in table if len(table) == 1),
        details=tuple(each for table in found for each in table if len(table) > 1),
    )


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
