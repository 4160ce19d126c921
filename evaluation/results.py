"""What a protocol found of a model: kept as JSON, as a table, and with its resamples."""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import Field, ValidationError

from evaluation.draws import Difference, Draws, Measurement, differences
from evaluation.resampling import Resampling
from m4.catalogue import Model, explain
from m4.errors import InputError
from m4.files import write_whole

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
    "smallest_group": pl.Int64,
}
NAMED = 8  # of what has no images, in words


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


class Conditions(Model):
    """Of which model a protocol was taken, on what, and how.

    Attributes
    ----------
    protocol, title, source : its name, and where it was published
    digest : of what it measures, prompts included
    model : name of the embedding space
    sets : by role in the protocol
    resampling : how intervals and nulls were made
    compat : whose quirks were reproduced; None: nobody's
    left_out : by task and reason, how many images of its set took no part
    empty : by task, groups, classes and cells that were asked for and have no image
    undefined : by task, why it has no figures for this model
    """

    protocol: str
    title: str
    source: str
    digest: str
    model: str
    sets: dict[str, SetUsed]
    resampling: Resampling
    compat: str | None
    left_out: dict[str, dict[str, int]] = Field(default_factory=dict)
    empty: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    undefined: dict[str, str] = Field(default_factory=dict)

    @property
    def losses(self) -> tuple[str, ...]:
        """What did not take part, in words: a line for each task that lost something."""
        found = []
        for task in dict.fromkeys([*self.left_out, *self.empty]):
            lost = self.left_out.get(task, {})
            said = [f"{count:,} left out ({reason})" for reason, count in lost.items()]
            without = self.empty.get(task, ())
            if without:
                more = f" and {len(without) - NAMED:,} more" if len(without) > NAMED else ""
                said.append(f"no images of {'; '.join(without[:NAMED])}{more}")
            if said:
                found.append(f"{task}: {', '.join(said)}.")
        found += [f"{task}: undefined ({why})." for task, why in self.undefined.items()]
        return tuple(found)


class ProtocolResult(Conditions):
    """What one protocol found of one model.

    Attributes
    ----------
    headlines : figures of their own
    details : tables of figures, by subject
    draws_digest : SHA-256 of the file of draws that it was saved with; None: not saved yet
    """

    headlines: tuple[Measurement, ...]
    details: tuple[Measurement, ...]
    draws_digest: str | None = None

    def table(self) -> pl.DataFrame:
        """A row for each figure, the headlines first."""
        rows = [figure_row(each) for each in (*self.headlines, *self.details)]
        return pl.DataFrame(rows, schema=COLUMNS)

    def value(self, measure: str, subject: str) -> float:
        """One figure. Raises `InputError` naming the figures there are."""
        for each in (*self.headlines, *self.details):
            if (each.measure, each.subject) == (measure, subject):
                return each.value
        there = ", ".join(f"{each.measure} of {each.subject}" for each in self.headlines)
        raise InputError(f"{self.protocol}: no {measure} of {subject}; there are {there}")


def figure_row(found: Measurement) -> dict[str, object]:
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
        "smallest_group": found.smallest_group,
    }


@dataclass(frozen=True, eq=False)
class ProtocolRun:
    """A result, and the draws that it was made from: what a comparison with another model needs.

    `headlines` and `tables` are the draws of the result's headlines and details.
    """

    result: ProtocolResult
    headlines: tuple[Draws, ...]
    tables: tuple[Draws, ...]

    @classmethod
    def of(
        cls, conditions: Conditions, headlines: Sequence[Draws], tables: Sequence[Draws]
    ) -> "ProtocolRun":
        """Sum up draws."""
        level = conditions.resampling.level
        result = ProtocolResult(
            **dict(conditions),
            headlines=tuple(found for each in headlines for found in each.measurements(level)),
            details=tuple(found for each in tables for found in each.measurements(level)),
        )
        return cls(result, tuple(headlines), tuple(tables))

    def save(self, folder: Path, name: str) -> None:
        """Write `<name>.json`, `<name>.csv` and `<name>.draws.npz`; the JSON last."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {**_arrays("headlines", self.headlines), **_arrays("tables", self.tables)}
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **arrays)
        write_whole(folder / f"{name}.draws.npz", stream.getvalue())
        write_whole(folder / f"{name}.csv", self.result.table().write_csv().encode())
        digest = hashlib.sha256(stream.getvalue()).hexdigest()
        kept = self.result.model_copy(update={"draws_digest": digest})
        content = kept.model_dump_json(indent=1) + "\n"
        write_whole(folder / f"{name}.json", content.encode())

    @classmethod
    def load(cls, path: Path) -> "ProtocolRun":
        """Read what `save` wrote, by the path of the JSON; nulls are not kept.

        Raises `InputError` naming the file and what is wrong.
        """
        result = load_result(path)
        beside = path.with_suffix(".draws.npz")
        try:
            content = beside.read_bytes()
        except OSError as error:
            raise InputError(f"{beside}: cannot be read: {error}; run the protocol again") from None
        if hashlib.sha256(content).hexdigest() != result.draws_digest:
            raise InputError(
                f"{beside}: is damaged, or was not saved with {path.name}; run the protocol again"
            )
        arrays = np.load(io.BytesIO(content), allow_pickle=False)
        return cls(result, _draws(arrays, "headlines"), _draws(arrays, "tables"))


def _arrays(kind: str, draws: Sequence[Draws]) -> dict[str, np.ndarray]:
    """What is kept of draws, by name."""
    arrays = {f"{kind}.number": np.array(len(draws))}
    for number, each in enumerate(draws):
        about = {"measure": each.measure, "names": each.names, "better": each.better,
                 "images": each.images}  # fmt: skip
        arrays[f"{kind}.{number}.about"] = np.array(json.dumps(about))
        arrays[f"{kind}.{number}.observed"] = each.observed
        arrays[f"{kind}.{number}.bootstrap"] = each.bootstrap
    return arrays


def _draws(arrays: np.lib.npyio.NpzFile, kind: str) -> tuple[Draws, ...]:
    found = []
    for number in range(int(arrays[f"{kind}.number"])):
        about = json.loads(str(arrays[f"{kind}.{number}.about"]))
        found.append(
            Draws(
                measure=about["measure"],
                names=tuple(about["names"]),
                observed=arrays[f"{kind}.{number}.observed"],
                bootstrap=arrays[f"{kind}.{number}.bootstrap"],
                null=None,
                images=about["images"],
                better=about["better"],
            )
        )
    return tuple(found)


def load_result(path: Path) -> ProtocolResult:
    """Read a result's JSON; raises `InputError` naming the file and what is wrong."""
    try:
        return ProtocolResult.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except ValidationError as error:
        raise InputError(f"{path}: not the result of a protocol: {explain(error)}") from None


def check_alike(first: Conditions, second: Conditions) -> None:
    """Raise `InputError` unless two models were measured alike, on the same images."""
    for what, differs in _differing(first, second):
        raise InputError(
            f"{first.model} and {second.model} were measured with different {what}: {differs}; "
            "measure both alike"
        )


def _differing(first: Conditions, second: Conditions) -> Iterator[tuple[str, str]]:
    """What differs in the conditions, and how, in words."""
    if first.protocol != second.protocol:
        yield "protocol", f"{first.protocol} and {second.protocol}"
    if first.digest != second.digest:
        yield "digest", f"the tasks or prompts of {first.protocol} are not the same"
    for field in Resampling.model_fields:
        one, other = getattr(first.resampling, field), getattr(second.resampling, field)
        if one != other:
            yield "resampling", f"{field} {one} and {other}"
    if first.compat != second.compat:
        yield "compat", f"{first.compat or 'none'} and {second.compat or 'none'}"
    for role, used in first.sets.items():
        theirs = second.sets[role]
        if used.digest != theirs.digest:
            yield (
                "sets",
                f"{role} are {used.images:,} of {used.name} and {theirs.images:,} of "
                f"{theirs.name}, and other images or labels",
            )


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

    Tasks that are undefined for one of them are passed over. Raises `InputError` where the two
    were not measured by the same protocol, on the same images, with the same resamples.
    """
    check_alike(first.result, second.result)
    level = first.result.resampling.level
    undefined = first.result.undefined.keys() | second.result.undefined.keys()
    return RunDifferences(
        first=first.result.model,
        second=second.result.model,
        headlines=_differences(first.headlines, second.headlines, undefined, level),
        details=_differences(first.tables, second.tables, undefined, level),
    )


def _differences(
    first: Sequence[Draws], second: Sequence[Draws], undefined: Set[str], level: float
) -> tuple[Difference, ...]:
    pairs = zip(_others(first, undefined), _others(second, undefined), strict=True)
    return tuple(found for one, other in pairs for found in differences(one, other, level))


def _others(draws: Sequence[Draws], tasks: Set[str]) -> list[Draws]:
    """Those of other tasks; a subject is written "task: name"."""
    return [each for each in draws if each.names[0].partition(": ")[0] not in tasks]
