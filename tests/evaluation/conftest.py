"""A world small enough to compute by hand: every word the encoder knows is one axis."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from evaluation.gallery import Gallery
from m4.catalogue import Catalogue
from m4.patterns import Patterns

WORDS = (
    "woman",
    "man",
    "young",
    "old",
    "nurse",
    "doctor",
    "librarian",
    "scientist",
    "machine",
    "tree",
    "other",
)


def word_vector(*words: str) -> np.ndarray:
    return np.sum([np.eye(len(WORDS))[WORDS.index(word)] for word in words], axis=0)


def encode_words(texts: Sequence[str]) -> np.ndarray:
    """Sum of the axes of known words, three times as long as it need be."""
    rows = []
    for text in texts:
        known = [word for word in text.split() if word in WORDS[:-1]]
        rows.append(3.0 * word_vector(*(known or ["other"])))
    return np.array(rows)


@pytest.fixture
def words() -> Callable[..., np.ndarray]:
    return word_vector


@pytest.fixture
def encoder() -> Callable[[Sequence[str]], np.ndarray]:
    return encode_words


@pytest.fixture
def catalogue() -> Catalogue:
    def found(name: str, **more: object) -> dict[str, object]:
        return {"terms": [name], **more}

    return Catalogue.model_validate(
        {
            "name": "small",
            "purpose": "tests",
            "sensitive": {
                "gender": {
                    "describes": "perceived gender",
                    "values": {
                        "woman": found("woman", target=0.5),
                        "man": found("man", target=0.5),
                    },
                },
                "age": {
                    "describes": "perceived age",
                    "values": {
                        "young": found("young", target=0.75, prompt="a young person"),
                        "old": found("old", target=0.25, prompt="an old person"),
                    },
                },
            },
            "labels": {name: found(name) for name in ("nurse", "doctor", "librarian", "scientist")},
            "proxies": {"machines": found("machine", prompt="a machine")},
        }
    )


class Scene:
    """A gallery in the making: the words of each picture say what is in it."""

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue
        self.pictures: list[tuple[str, ...]] = []

    def add(self, *words: str, times: int = 1) -> "Scene":
        self.pictures += [words] * times
        return self

    @property
    def images(self) -> np.ndarray:
        return np.array([word_vector(*words) for words in self.pictures])

    def gallery(self, captions: Sequence[str] | None = None) -> Gallery:
        s, observed, y = [], [], []
        for words in self.pictures:
            person = any(word in WORDS[:4] for word in words)
            marks = [float(name.split(".")[1] in words) for name in self.catalogue.value_names]
            s.append(marks)
            known = [bool({"woman", "man"} & set(words)), bool({"young", "old"} & set(words))]
            observed.append([person and known[0]] * 2 + [person and known[1]] * 2)
            y.append([float(name.removesuffix("s") in words) for name in self.catalogue.concepts])
        patterns = Patterns.from_arrays(np.array(s), np.array(y), observed=np.array(observed))
        uids = [f"{row:032x}" for row in range(len(self.pictures))]
        texts = captions or [" ".join(words) for words in self.pictures]
        return Gallery.from_patterns(patterns, uids, texts, self.catalogue)


@pytest.fixture
def scene(catalogue: Catalogue) -> Scene:
    return Scene(catalogue)
