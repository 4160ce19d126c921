"""Heads: whatever is linear on embeddings of unit length, with calibrated probabilities."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from m4.catalogue import Attribute, Catalogue, Model, explain
from m4.errors import InputError
from m4.files import write_whole
from vision.calibrated import Calibration, Finite, Platt, logistic
from vision.directions import normalised, without_direction
from vision.thresholds import Probability, Side, Thresholds

PERSON = "person"
BLOCK = 2**17  # numbers of embeddings worked on at a time: they stay in a core's cache
SMALLEST, LARGEST = 1e-30, 1e30  # squared lengths that single precision holds well
HALF_LIMIT = 2.0**32  # squared length from which on a row of half precision may not be finite


class ValueFit(Model):
    """What is known of one value of a head, from examples it was not fitted on.

    Attributes
    ----------
    positives, negatives : labelled examples that show the value, and that do not
    log_loss : mean of -log of the probability of what is true, in nats
    calibration_error : `calibrated.calibration_error`
    yes, no : of the three-way decision; `no` is None where a no only follows from another's yes
    """

    positives: int
    negatives: int
    log_loss: float
    calibration_error: float
    yes: Side
    no: Side | None


class Fit(Model):
    """How a head came about.

    Attributes
    ----------
    method : "linear" weights fitted on labelled examples, or "prompts"
    samples : labelled examples
    left_out : how many more there were that were of no use, by reason
    folds, seed : of the cross-validation
    precision, confidence : that the thresholds were to keep
    regularisation : C of the logistic regression, by value; one for all where values exclude each
        other; empty for prompts
    values : in the order of the head's
    """

    method: Literal["linear", "prompts"]
    samples: int
    left_out: Mapping[str, int] = Field(default_factory=dict)
    folds: int
    seed: int
    precision: Probability
    confidence: Probability
    regularisation: tuple[float, ...] = ()
    values: tuple[ValueFit, ...]


class Head(Model):
    """Scores, probabilities and decisions for the k values of one attribute.

    With e an embedding of d numbers scaled to unit length, the scores are W e + b. Where the
    values exclude each other, value j is judged by its margin, its score less the best other one,
    else by its score; a calibration by value makes a probability of it. Probabilities of exclusive
    values are then divided by their sum.

    Attributes
    ----------
    attribute : name in the catalogue, or "person": whether a picture shows one
    values : names in the catalogue; ("person",) for a person
    exclusive : whether the values exclude each other
    model : which model's embeddings, "ViT-B-32/openai"
    dimension : d
    weights, bias : W, k rows of d, and b
    calibrations, thresholds : by value
    fit : what it was fitted on, and how good it was; None where nobody knows
    """

    version: Literal[1] = 1
    attribute: str
    values: tuple[str, ...] = Field(min_length=1)
    exclusive: bool
    model: str
    dimension: int = Field(ge=1)
    bias: tuple[Finite, ...]
    calibrations: tuple[Calibration, ...]
    thresholds: tuple[Thresholds, ...]
    fit: Fit | None = None
    weights: tuple[tuple[Finite, ...], ...]  # last, so that one reads the others first

    @model_validator(mode="after")
    def _fits_together(self) -> "Head":
        k = len(self.values)
        if len(set(self.values)) < k:
            raise ValueError(f"a value stands twice among {', '.join(self.values)}")
        if self.attribute == PERSON and (self.values != (PERSON,) or self.exclusive):
            raise ValueError("a head of `person` has the value `person` and is not exclusive")
        for name in ("weights", "bias", "calibrations", "thresholds"):
            if len(getattr(self, name)) != k:
                raise ValueError(f"{len(getattr(self, name))} {name} for {k} values; give k each")
        for value, row in zip(self.values, self.weights, strict=True):
            if len(row) != self.dimension:
                raise ValueError(
                    f"weights of {value}: {len(row)} numbers, but dimension is {self.dimension}"
                )
        return self

    @property
    def compete(self) -> bool:
        """Whether its values are judged against each other."""
        return self.exclusive and len(self.values) > 1

    def probabilities(self, embeddings: np.ndarray) -> np.ndarray:
        """Probabilities of embeddings (n, d) of any length, (n, k) float32.

        Rows that have no direction (zero, or not finite) get NaN. Raises `InputError` where d is
        not the head's.
        """
        return HeadSet((self,)).probabilities(embeddings)[0]

    def decide(self, probabilities: np.ndarray) -> np.ndarray:
        """1 for yes, 0 for no, NaN where it is not known; (n, k) float32.

        A value is a yes from its upper threshold on, and a no down from its lower one. Of values
        that exclude each other either exactly one is a yes and the others are no, or nothing is
        known; their lower thresholds do not matter.
        """
        by_value = probabilities.T
        uppers = [np.inf if each.upper is None else each.upper for each in self.thresholds]
        lowers = [-np.inf if each.lower is None else each.lower for each in self.thresholds]
        yes = by_value >= np.array(uppers, dtype=by_value.dtype)[:, None]
        if self.compete:
            said = yes.astype(np.float32)
            said[:, yes.sum(axis=0) != 1] = np.nan
            return said.T
        no = by_value <= np.array(lowers, dtype=by_value.dtype)[:, None]
        return np.select([yes, no], [np.float32(1), np.float32(0)], np.float32(np.nan)).T

    def check(self, catalogue: Catalogue) -> None:
        """Raise `InputError` where its attribute or values are not those of a catalogue."""
        if self.attribute == PERSON:
            if PERSON in catalogue.sensitive:
                raise InputError(
                    f"catalogue {catalogue.name!r} has an attribute `person`, but a head of "
                    "`person` says whether a picture shows one; rename the attribute"
                )
            return
        known: dict[str, Attribute] = dict(catalogue.sensitive)
        if self.attribute not in known:
            raise InputError(
                f"a head is of attribute {self.attribute!r}, which catalogue {catalogue.name!r} "
                f"lacks; it has {', '.join([*known, PERSON])}"
            )
        wanted = known[self.attribute]
        if set(self.values) != set(wanted.values) or self.exclusive != wanted.exclusive:
            kinds = {True: "exclusive", False: "separate"}
            raise InputError(
                f"the head of {self.attribute!r} has {kinds[self.exclusive]} values "
                f"{', '.join(self.values)}, but catalogue {catalogue.name!r} "
                f"{kinds[wanted.exclusive]} values {', '.join(wanted.values)}; fit it again"
            )

    def to_json(self) -> str:
        """The content as JSON, a list of numbers on one line."""
        text = json.dumps(self.model_dump(mode="json"), indent=1)
        numbers = re.compile(r"\[\n[\s\d.,eE+-]+\]")  # text has no line breaks in JSON
        return numbers.sub(lambda found: f"[{' '.join(found[0][1:-1].split())}]", text) + "\n"

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, self.to_json().encode())


def load_head(path: Path | str) -> Head:
    """Read what `Head.save` wrote; raises `InputError` naming the file and what is wrong."""
    try:
        return Head.model_validate_json(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except ValidationError as error:
        raise InputError(f"{path}: not a head: {explain(error)}") from None


class HeadSet:
    """Several heads on the same model's embeddings, as one matrix product.

    Raises `InputError` where two are of one attribute, or of different models.
    """

    def __init__(self, heads: Sequence[Head]):
        if not heads:
            raise InputError("no heads given; fit one with `m4-balance fit-head`")
        first, names = heads[0], [head.attribute for head in heads]
        for head in heads[1:]:
            if (head.model, head.dimension) != (first.model, first.dimension):
                raise InputError(
                    f"the head of {head.attribute!r} is for embeddings of {head.model} "
                    f"({head.dimension} numbers), that of {first.attribute!r} for {first.model} "
                    f"({first.dimension}); give heads of one model"
                )
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise InputError(f"two heads of attribute {twice[0]!r}; give one")
        self.heads = tuple(heads)
        self.model, self.dimension = first.model, first.dimension
        self._weights = np.array([row for head in heads for row in head.weights], dtype=np.float32)
        self._bias = np.array([[b] for head in heads for b in head.bias], dtype=np.float32)

    @cached_property
    def _columns(self) -> tuple[slice, ...]:
        ends = np.cumsum([len(head.values) for head in self.heads]).tolist()
        return tuple(map(slice, [0, *ends[:-1]], ends))

    @cached_property
    def _platt(self) -> tuple[np.ndarray, np.ndarray]:
        """Slope and intercept of all values, (K, 1) each; isotonic ones pass unchanged."""
        both = [
            (each.slope, each.intercept) if isinstance(each, Platt) else (1.0, 0.0)
            for head in self.heads
            for each in head.calibrations
        ]
        slopes, intercepts = np.array(both, dtype=np.float32).T[:, :, None]
        return slopes, intercepts

    def probabilities(self, embeddings: np.ndarray) -> tuple[np.ndarray, ...]:
        """Probabilities of embeddings (n, d) of any length, (n, k) float32 for each head.

        Rows that have no direction (zero, or not finite) get NaN. Raises `InputError` where d is
        not the heads'.
        """
        scores = self._scores(embeddings)
        for head, columns in zip(self.heads, self._columns, strict=True):
            if head.compete:
                scores[columns] = margins(scores[columns])
        slopes, intercepts = self._platt
        probabilities = logistic(scores * slopes + intercepts)
        for head, columns in zip(self.heads, self._columns, strict=True):
            for row, calibration in enumerate(head.calibrations, start=columns.start):
                if not isinstance(calibration, Platt):
                    probabilities[row] = calibration.probabilities(scores[row])
            if head.compete:
                probabilities[columns] = shares(probabilities[columns])
        return tuple(probabilities[columns].T for columns in self._columns)

    def _scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Scores of all K values, (K, n) float32; NaN where a row has no direction."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            names = ", ".join(head.attribute for head in self.heads)
            raise InputError(
                f"embeddings of shape {embeddings.shape} for heads ({names}) of {self.model} "
                f"embeddings, which have {self.dimension} numbers; give those of that model"
            )
        samples, step = len(embeddings), max(BLOCK // self.dimension, 1)
        scores = np.empty((len(self._weights), samples), dtype=np.float32)
        squares = np.empty(samples, dtype=np.float32)
        with np.errstate(all="ignore"):  # rows that overflow are taken up again below
            for start in range(0, samples, step):
                rows = slice(start, start + step)
                block = single_precision(embeddings[rows])
                np.einsum("nd,nd->n", block, block, out=squares[rows])
                scores[:, rows] = (block @ self._weights.T).T
            scores /= np.sqrt(squares)
        half = embeddings.dtype == np.float16
        odd = ~((squares > SMALLEST) & (squares < (HALF_LIMIT if half else LARGEST)))
        if odd.any():
            self._mend(scores, embeddings, np.flatnonzero(odd))
        scores += self._bias
        return scores

    def _mend(self, scores: np.ndarray, embeddings: np.ndarray, rows: np.ndarray) -> None:
        """Score rows that single precision does not hold well, in double precision."""
        not_finite, zero = without_direction(embeddings[rows])
        scores[:, rows[not_finite | zero]] = np.nan
        sound = rows[~(not_finite | zero)]
        if len(sound):
            scores[:, sound] = self._weights @ normalised(embeddings[sound], "embeddings").T


def single_precision(block: np.ndarray) -> np.ndarray:
    """Numbers (n, d) of any floating type as float32, rows one after the other.

    Of half precision, infinity and NaN become numbers from 65,536 on. In exchange it is six times
    as fast as numpy's own conversion: the bits of the exponent are moved to their place, and
    2^(127 - 15) makes up for the different bias; subnormal numbers come out right too.
    """
    if block.dtype != np.float16:
        return np.ascontiguousarray(block, dtype=np.float32)
    bits = np.left_shift(block.view(np.int16), 13, dtype=np.int32)
    bits &= np.int32(-0x70000001)  # all but the copies of the sign that widening has made
    numbers = bits.view(np.float32)
    numbers *= np.float32(2.0**112)
    return np.ascontiguousarray(numbers)


def margins(scores: np.ndarray) -> np.ndarray:
    """Each score less the best other one, of k >= 2 values that exclude each other; (k, n)."""
    if len(scores) == 2:
        first = scores[0] - scores[1]
        return np.stack([first, -first])
    best = scores.argmax(axis=0)[None]
    top = np.take_along_axis(scores, best, axis=0)
    others = scores.copy()
    np.put_along_axis(others, best, -np.inf, axis=0)
    against = np.repeat(top, len(scores), axis=0)
    np.put_along_axis(against, best, others.max(axis=0)[None], axis=0)
    return scores - against


def shares(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (k, n) divided by their sum over k; NaN where all are 0."""
    with np.errstate(invalid="ignore"):
        return probabilities / probabilities.sum(axis=0)
