"""Prompts: the words by which a value or a label is put to a model, and their embedding."""

from collections.abc import Callable, Sequence

import numpy as np

from m4.catalogue import Mark
from m4.errors import InputError, UndefinedError
from vision.directions import normalised

TextEncoder = Callable[[Sequence[str]], np.ndarray]
"""Encodes n texts, in order, to an (n, d) array of floats; it need not normalise them."""


def noun_phrase(name: str, mark: Mark) -> str:
    """The noun phrase that names a value, label or proxy in a prompt.

    The catalogue's `prompt`, word for word, or the name with "_" and "-" as spaces and "a" or
    "an" by its first letter; give a `prompt` where that is wrong ("a user", "an hour", "water").
    """
    if mark.prompt is not None:
        return mark.prompt
    words = " ".join(name.replace("_", " ").replace("-", " ").split())
    return f"{'an' if words[:1].lower() in tuple('aeiou') else 'a'} {words}"


def noun_phrases(name: str, mark: Mark) -> tuple[str, ...]:
    """All noun phrases of a value, label or proxy: `noun_phrase`, then the mark's `prompts`."""
    return tuple(dict.fromkeys([noun_phrase(name, mark), *mark.prompts]))


def checked_templates(templates: tuple[str, ...]) -> tuple[str, ...]:
    """Return the templates; raise `InputError` if there are none or one lacks its single {}."""
    if not templates:
        raise InputError("no templates; give at least one, such as 'a picture of {}'")
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(f"template {template!r} needs {{}} exactly once, where the name goes")
    return templates


def encode(texts: Sequence[str], what: str, encode_texts: TextEncoder) -> np.ndarray:
    """Encode texts and normalise them, (n, d).

    Raises `InputError` where the encoder returns another number of rows, or a row (named by its
    text) that is zero or not finite.
    """
    features = np.asarray(encode_texts(texts))
    if features.ndim != 2 or len(features) != len(texts):
        raise InputError(
            f"{what}: the text encoder gave an array of shape {features.shape} for {len(texts)} "
            f"texts; it must give ({len(texts)}, d)"
        )
    return normalised(features, what, texts)


def class_embedding(
    phrases: Sequence[str], templates: tuple[str, ...], encode_texts: TextEncoder
) -> np.ndarray:
    """Embed each noun phrase as the ensemble of its prompts, (k, d), of unit length.

    Every template is filled in and encoded, the normalised text features are averaged, and the
    mean is normalised again: Radford et al., "Learning Transferable Visual Models From Natural
    Language Supervision" (2021), section 3.1.4.

    Raises `InputError` where a template has no {} or a text has no direction, and
    `UndefinedError` where a mean has none.
    """
    checked_templates(templates)
    texts = [template.replace("{}", phrase) for phrase in phrases for template in templates]
    features = encode(texts, "prompts", encode_texts)
    mean = features.reshape(len(phrases), len(templates), -1).mean(axis=1)
    return _direction(mean, phrases)


def mark_embedding(
    phrases: Sequence[Sequence[str]], templates: tuple[str, ...], encode_texts: TextEncoder
) -> np.ndarray:
    """Embed k things, each by several noun phrases, (k, d), of unit length.

    A thing's is the mean of those of its phrases, each as `class_embedding` embeds it. Raises
    `InputError` as that.
    """
    flat = [phrase for group in phrases for phrase in group]
    ends = np.cumsum([len(group) for group in phrases])[:-1]
    parts = np.split(class_embedding(flat, templates, encode_texts), ends)
    return mean_directions(parts, [" / ".join(group) for group in phrases])


def mean_directions(parts: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """The normalised mean of the normalised rows of each of k arrays (n_i, d); (k, d).

    Raises `InputError` naming a row without direction, and `UndefinedError` naming the array
    whose mean has none.
    """
    means = [normalised(part, name).mean(axis=0) for part, name in zip(parts, names, strict=True)]
    return _direction(np.stack(means), names)


def _direction(means: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Means at unit length. Prompts that cancel each other have none: a debiasing method that
    leaves one number of each text makes such."""
    try:
        return normalised(means, "means of prompts", names)
    except InputError as error:
        raise UndefinedError(str(error)) from None
