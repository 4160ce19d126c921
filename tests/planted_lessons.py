"""Images of people at work with planted bias, prompts, and a text encoder of words."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from debias.lessons import Lesson, Material
from evaluation.labelled_set import LabelledSet

DIMENSIONS = 16
GENDERS = {"F": "female", "M": "male"}
PROMPTS: dict[str, dict[str, Any]] = {
    "jobs": {
        "templates": ["a photo of {}", "{}"],
        "phrases": {"nurse": "a nurse", "doctor": ["a doctor", "a physician"]},
    },
    "genders": {
        "templates": ["a photo of {}", "{}"],
        "phrases": {"male": ["a man", "a boy"], "female": ["a woman", "a girl"]},
    },
    "words": {
        "templates": ["{}"],
        "phrases": {"mr": "mister", "man": "a man", "miss": "a miss", "woman": "a woman"},
        "categories": {"men": ["mr", "man"], "women": ["miss", "woman"]},
    },
    "pairs": {
        "templates": ["a photo of {}"],
        "phrases": {
            "female nurse": "a female nurse",
            "male nurse": "a male nurse",
            "female doctor": "a female doctor",
            "male doctor": "a male doctor",
        },
        "pairs": [["female doctor", "male doctor"], ["male nurse", "female nurse"]],
    },
}


def direction(word: str) -> np.ndarray:
    """A direction for each word, the same every time."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    return np.random.default_rng(seed).normal(size=DIMENSIONS)


def encode_texts(texts: Sequence[str]) -> np.ndarray:
    """A text is the sum of its words."""
    return np.array([sum(direction(word) for word in text.lower().split()) for text in texts])


def people(images: int = 120, **labels: Sequence[str | None]) -> LabelledSet:
    """Nurses who are mostly women and doctors who are mostly men; further labels by name."""
    random = np.random.default_rng(4)
    jobs = ["nurse" if row % 2 else "doctor" for row in range(images)]
    genders = ["F" if (row % 2 == 1) == (random.random() < 0.7) else "M" for row in range(images)]
    words = [f"{job} {GENDERS[gender]}" for job, gender in zip(jobs, genders, strict=True)]
    embeddings = encode_texts(words) + 0.3 * random.normal(size=(images, DIMENSIONS))
    frame = pl.DataFrame({"gender": genders, "job": jobs, **labels})
    return set_of(embeddings.astype(np.float32), frame)


def set_of(embeddings: np.ndarray, labels: pl.DataFrame, name: str = "people") -> LabelledSet:
    keys = tuple(f"image-{row}" for row in range(len(labels)))
    return LabelledSet(name, "digest", keys, embeddings, labels)


def write_prompts(folder: Path, name: str, **content: Any) -> str:
    """A prompt set as a file, and its path."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "source": "ours", **content}, sort_keys=False))
    return str(path)


def material(folder: Path, **changes: Any) -> Material:
    """All that methods learn from; a change to None leaves something out."""
    paths = {name: write_prompts(folder, name, **content) for name, content in PROMPTS.items()}
    given = {
        "attribute": "gender",
        "groups": GENDERS,
        "label": "job",
        "classes": paths["jobs"],
        "spurious": paths["genders"],
        "candidates": paths["pairs"],
        "caption": "a {gender} {job}",
        **changes,
    }
    return Material(**{name: value for name, value in given.items() if value is not None})


def lesson(
    folder: Path, images: LabelledSet | None = None, embedder: Any = None, **changes: Any
) -> Lesson:
    images = people() if images is None else images
    return Lesson(material(folder, **changes), images, encode_texts, embedder)
