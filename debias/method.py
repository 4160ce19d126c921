"""What all methods share: fit, transform, save and load.

A method is saved as a folder: `arrays.safetensors`, what it learned, and `method.json`, which
names the class, its parameters, the dimension and the digest of the arrays. The JSON is written
last, so that a folder is a method whole or not at all.
"""

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, ValidationError

from m4.catalogue import Model, explain
from m4.errors import InputError, UndefinedError
from m4.files import write_whole
from vision.directions import normalised

Modality = Literal["images", "texts"]

ARRAYS, RECORD = "arrays.safetensors", "method.json"
SINGLE = 1e-6  # lengths below this, single precision does not tell from zero
KINDS: dict[Any, tuple[set[type], str]] = {  # annotation -> types of values, and their name
    bool: ({bool}, "True or False"),
    int: ({int}, "a whole number"),
    float: ({float, int}, "a number"),
}


@dataclass(eq=False)
class Method(ABC):
    """A debiasing method on embeddings, in the manner of scikit-learn.

    Parameters are given to the class, arrays to `fit`; what is learned are float64 arrays whose
    names end in "_". Embeddings are (n, d) numpy arrays or torch tensors of a floating type; what
    comes out is of the same kind, type and device, and has rows of unit length. Rows need not be
    of unit length on input.

    Parameters
    ----------
    space : name of the embedding space, "ViT-B-32/openai"; checked by `load_method`

    Attributes
    ----------
    dimension_ : d; 0 before it is fitted
    source : what it was fitted on, in words, for tables; None until whoever fits it says so
    """

    LEARNED: ClassVar[tuple[str, ...]]  # names of the arrays, whose last axis is d
    OTHER_AXES: ClassVar[tuple[str, ...]] = ()  # those among them whose last axis is not

    space: str | None = field(default=None, kw_only=True)
    dimension_: int = field(default=0, init=False)
    source: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Raise `InputError` where a parameter is of another kind; numpy's scalars are as ours."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.init and each.type in KINDS:
                kinds, name = KINDS[each.type]
                if type(_plain(value)) not in kinds:
                    raise InputError(f"{each.name} is {value!r}; give {name}")

    @abstractmethod
    def fit(self, *args: Any, **kwargs: Any) -> Self:
        """Learn from arrays, given by keyword; each class documents its own."""

    def _fitted(self, dimension: int) -> Self:
        """What every `fit` ends with; the source of an earlier fit is forgotten."""
        self.dimension_, self.source = dimension, None
        return self

    @abstractmethod
    def _images(self, rows: Any) -> Any:
        """Move rows of unit length, (n, d); the result need not have unit length.

        Rows are arrays of numpy, as the learned arrays are, or tensors of torch, as those of
        `with_arrays` then are: only what both understand may be used (`array_api_compat`).
        """

    @abstractmethod
    def _texts(self, rows: Any) -> Any:
        """As `_images`, for texts."""

    def moved(self, rows: Any, modality: Modality) -> Any:
        """Rows of unit length, (n, d), moved and not yet of unit length; arrays or tensors."""
        return self._images(rows) if modality == "images" else self._texts(rows)

    def remaining(self, rows: Any, modality: Modality) -> Any:
        """What of rows of unit length, (n, d), must keep a length, as what comes out must.

        Where it keeps none, a row is refused, though rounding may lead it somewhere.
        """
        return rows

    @property
    def image_matrix(self) -> np.ndarray | None:
        """M (r, d) where images z become n(z M'); None where that is no linear map."""
        return None

    @property
    def text_matrix(self) -> np.ndarray | None:
        """As `image_matrix`, for texts."""
        return None

    def with_arrays(self, arrays: Mapping[str, Any]) -> Self:
        """The same method on other learned arrays, such as tensors on a device."""
        twin = copy(self)
        for name, array in arrays.items():
            setattr(twin, name, array)
        return twin

    def transform_images(self, embeddings: Any, names: Sequence[str] | None = None) -> Any:
        """Debias embeddings of images, (n, d); rows of unit length come out.

        `names`, of the n rows, are for error messages. Raises `InputError` where the method is
        not fitted or d is another, or a row has no direction; `UndefinedError` naming a row of
        which nothing is left.
        """
        return self._apply("images", embeddings, names)

    def transform_texts(self, embeddings: Any, names: Sequence[str] | None = None) -> Any:
        """Debias embeddings of texts, (n, d); as `transform_images`."""
        return self._apply("texts", embeddings, names)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters, by name: what makes the same method, not yet fitted.

        `deep` is for scikit-learn's `clone`: no parameter has parameters of its own.
        """
        return {each.name: getattr(self, each.name) for each in fields(self) if each.init}

    def save(self, folder: Path | str) -> None:
        """Write the fitted method to a folder, which is made where it is missing."""
        from safetensors.numpy import save

        self.check_fitted()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # safetensors writes the memory as it lies
        arrays = save({name: np.ascontiguousarray(getattr(self, name)) for name in self.LEARNED})
        record = _Record(
            method=type(self).__name__,
            parameters={name: _plain(value) for name, value in self.get_params().items()},
            source=self.source,
            dimension=self.dimension_,
            sha256=hashlib.sha256(arrays).hexdigest(),
        )
        write_whole(folder / ARRAYS, arrays)
        write_whole(folder / RECORD, (record.model_dump_json(indent=1) + "\n").encode())

    def _apply(self, what: Modality, embeddings: Any, names: Sequence[str] | None) -> Any:
        self.check_fitted()
        least = resolution(embeddings, what)
        if names is not None and len(names) != len(embeddings):
            raise InputError(
                f"{what}: {len(names)} names for {len(embeddings)} rows; give one each"
            )
        rows = unit_rows(embeddings, what, names)
        if rows.shape[1] != self.dimension_:
            raise InputError(
                f"{what}: embeddings of {rows.shape[1]} numbers, but {type(self).__name__} was "
                f"fitted on {self.dimension_}; give those of the same model, or fit it again"
            )
        self._lengths(self.remaining(rows, what), least, what, names)
        moved = self.moved(rows, what)
        return _like(embeddings, moved / self._lengths(moved, least, what, names))

    def _lengths(
        self, rows: np.ndarray, least: float, what: str, names: Sequence[str] | None
    ) -> np.ndarray:
        """Lengths of rows, (n, 1). Raises `UndefinedError` naming one of which nothing is left."""
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        gone = np.flatnonzero(lengths[:, 0] < least)
        if len(gone):
            name = f" ({names[gone[0]]!r})" if names is not None else ""
            raise UndefinedError(f"{what}: {self._refusal(f'row {gone[0]}{name}', least)}")
        return lengths

    def _refusal(self, row: str, least: float) -> str:
        """What is said of a row of which less than `least` of its length is left."""
        return (
            f"{type(self).__name__} leaves nothing of {row}, less than {least:.0e} of its length; "
            "leave it out, or fit on other prompts or groups"
        )

    def check_fitted(self) -> None:
        """Raise `InputError` where nothing is learned yet."""
        if not self.dimension_:
            raise InputError(f"{type(self).__name__} is not fitted; call `fit` first")


class _Record(Model):
    version: Literal[1] = 1
    method: str
    parameters: dict[str, Any]
    source: str | None = None
    dimension: int = Field(ge=1)
    sha256: str


def load_method(
    folder: Path | str,
    *,
    kind: type[Method] = Method,
    dimension: int | None = None,
    space: str | None = None,
) -> Method:
    """Read what `Method.save` wrote.

    Raises `InputError` where a file is missing or damaged, and where the method is no `kind`, or
    is for embeddings of another dimension or space than the ones given.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = Path(folder)
    try:
        record = _Record.model_validate_json((folder / RECORD).read_bytes())
        content = (folder / ARRAYS).read_bytes()
    except OSError as error:
        raise InputError(f"{folder}: cannot be read as a method: {error}") from None
    except ValidationError as error:
        raise InputError(f"{folder / RECORD}: not a method: {explain(error)}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != record.sha256:
        raise InputError(
            f"{folder / ARRAYS}: its SHA-256 is {found[:12]}, but {RECORD} says "
            f"{record.sha256[:12]}; copy or fit it again"
        )
    try:
        method = _named(record.method)(**record.parameters)
        arrays = load(content)
        if set(arrays) != set(method.LEARNED):
            raise InputError(f"arrays {sorted(arrays)}, expected {sorted(method.LEARNED)}")
    except (TypeError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: not a method: {error}; fit it again") from None
    for name, array in arrays.items():
        if name not in method.OTHER_AXES and array.shape[-1:] != (record.dimension,):
            raise InputError(
                f"{folder}: {name} has shape {array.shape}, but {RECORD} says dimension "
                f"{record.dimension}; fit it again"
            )
        setattr(method, name, array)
    method.dimension_, method.source = record.dimension, record.source
    _check_wanted(method, folder, kind, dimension, space)
    return method


def _check_wanted(
    method: Method, folder: Path, kind: type[Method], dimension: int | None, space: str | None
) -> None:
    if not isinstance(method, kind):
        raise InputError(
            f"{folder}: holds {type(method).__name__}, not {kind.__name__}; give another folder"
        )
    if dimension not in (None, method.dimension_):
        raise InputError(
            f"{folder}: for embeddings of {method.dimension_} numbers, not {dimension}; fit it on "
            "embeddings of the same model"
        )
    if space not in (None, method.space):
        raise InputError(
            f"{folder}: for embeddings of {method.space or 'a space without a name'}, not "
            f"{space}; fit it on embeddings of that"
        )


def resolution(embeddings: Any, what: str) -> float:
    """The length, of 1, that rounding hides: 4 units of relative rounding, at least `SINGLE`.

    Raises `InputError` where the numbers are not of a floating type.
    """
    if _is_tensor(embeddings):
        import torch

        floating = embeddings.dtype.is_floating_point
        rounding = torch.finfo(embeddings.dtype).eps if floating else 0.0
    else:
        dtype = np.asarray(embeddings).dtype
        floating = np.issubdtype(dtype, np.floating)
        rounding = float(np.finfo(dtype).eps) if floating else 0.0
    if not floating:
        raise InputError(f"{what}: embeddings are not of a floating type; convert them first")
    return max(4 * rounding, SINGLE)


def unit_rows(embeddings: Any, what: str, names: Sequence[str] | None = None) -> np.ndarray:
    """Embeddings as float64 rows of unit length; errors as `vision.directions.normalised`."""
    return normalised(as_array(embeddings), what, names)


def unit_rows_like(rows: np.ndarray, embeddings: Any, what: str) -> np.ndarray:
    """As `unit_rows`; raises `InputError` unless they have as many numbers as rows of images."""
    unit = unit_rows(embeddings, what)
    if unit.shape[1] != rows.shape[1]:
        raise InputError(
            f"{what} have {unit.shape[1]} numbers, images {rows.shape[1]}; encode them with one "
            "model"
        )
    return unit


def as_array(embeddings: Any) -> np.ndarray:
    """Embeddings, arrays or tensors, as they are, in an array; those of tensors as float64."""
    if _is_tensor(embeddings):
        embeddings = embeddings.detach().cpu().double().numpy()
    return np.asarray(embeddings)


def _plain(value: Any) -> Any:
    """A scalar of numpy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _is_tensor(embeddings: Any) -> bool:
    torch = sys.modules.get("torch")  # where nobody imported it, nothing is a tensor
    return torch is not None and isinstance(embeddings, torch.Tensor)


def _like(given: Any, rows: np.ndarray) -> Any:
    if not _is_tensor(given):
        return rows.astype(np.asarray(given).dtype)
    import torch

    return torch.from_numpy(rows).to(device=given.device, dtype=given.dtype)


def _named(name: str) -> type[Method]:
    import debias

    found = getattr(debias, name) if name in debias.__all__ else None
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InputError(f"{name!r} is no method of this version")
    return found
