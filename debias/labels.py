"""Labels of images, such as an attribute's, as numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from m4.errors import InputError


def coded(labels: Sequence[Any], count: int, what: str) -> tuple[list[Any], np.ndarray]:
    """Distinct labels, sorted, and each image's place among them, (n,).

    Labels are words, numbers or truth values, in a list, an array or a column; of a mixture the
    numbers come first. `what` they are is for error messages. Raises `InputError` where there is
    not one label for each of the `count` images, one is missing (None or NaN), or all are equal.
    """
    shape = tuple(labels.shape) if hasattr(labels, "shape") else (len(labels),)
    if shape != (count,):
        given = f"{shape[0]} labels" if len(shape) == 1 else f"labels of shape {shape}"
        raise InputError(f"{what}: {given} for {count} images; give one each")
    values = [each.item() if hasattr(each, "item") else each for each in labels]
    for row, value in enumerate(values):
        if value is None or value != value:
            raise InputError(f"{what}: row {row} has no label; leave such images out")
    distinct = sorted(set(values), key=lambda each: (isinstance(each, str), each))
    if len(distinct) < 2:
        raise InputError(f"{what}: all are {distinct[0]!r}; give images of at least two labels")
    places = {label: place for place, label in enumerate(distinct)}
    return distinct, np.array([places[value] for value in values])
