"""Embeddings with a planted bias, as files that stand in for a model and its pictures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml
from PIL import Image

from vision.model import ModelSettings, build_model

JOBS = ("nurse", "doctor", "teacher", "farmer")
STEREOTYPE = {"nurse": 1.0, "doctor": -1.0, "teacher": 0.6, "farmer": -0.6}  # towards women
SIGNS = {"woman": 1.0, "man": -1.0}
DIMENSION = 16
QUICK = {"resamples": 100, "permutations": 100}


@dataclass(frozen=True)
class Planted:
    """A folder with prompts, a protocol, and embeddings of one or several models.

    Gender is the first axis, each job one of the next, "a person" the one after them. Images of a
    job lie along its axis, women to one side of the first axis and men to the other; a text of a
    job leans to one side by the model's bias. All else is noise.
    """

    folder: Path

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def source(self, model: str) -> dict[str, str]:
        """The model as settings name it."""
        return {
            "texts": self.path(f"{model}-texts.npy"),
            "text_names": self.path("texts.json"),
            "model_name": model,
        }

    def images(self, model: str, part: str) -> dict[str, str]:
        """Images "fit" or "test", as settings name them."""
        return {
            "embeddings": self.path(f"{model}-{part}.npy"),
            "labels": self.path(f"{part}.csv"),
        }

    def material(self) -> dict[str, Any]:
        return {
            "attribute": "gender",
            "label": "job",
            "classes": self.path("jobs.yaml"),
            "spurious": self.path("genders.yaml"),
            "candidates": self.path("pairs.yaml"),
            "caption": "a {gender} who is a {job}",
        }


def plant(folder: Path, biases: dict[str, float], images: int = 200) -> Planted:
    """Write them; `biases` by model, all of which see the same images but for their noise."""
    for name, content in _prompts().items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    texts = _texts()
    (folder / "texts.json").write_text(json.dumps(list(texts)))
    labels = {part: _labels(images, part) for part in ("fit", "test")}
    for part, table in labels.items():
        table.write_csv(folder / f"{part}.csv")
    for seed, (model, bias) in enumerate(biases.items()):
        random = np.random.default_rng(seed)
        rows = np.stack([_text(gender, job, bias) for gender, job in texts.values()])
        rows = rows + 0.01 * random.normal(size=rows.shape)
        np.save(folder / f"{model}-texts.npy", rows.astype(np.float32))
        for part, table in labels.items():
            rows = np.stack([_image(*row) for row in table.select("gender", "job").iter_rows()])
            rows = rows + 0.15 * random.normal(size=rows.shape)
            np.save(folder / f"{model}-{part}.npy", rows.astype(np.float32))
    return Planted(folder)


def draw_pictures(folder: Path, architecture: str, models: int) -> Path:
    """48 reddish pictures of women and greenish ones of men, with labels; weights-0.pt and so on.

    The weights are random, so that colours alone tell pictures apart, which is a bias.
    """
    random = np.random.default_rng(0)
    rows = []
    for number in range(48):
        woman = number % 2 == 0
        noise = random.integers(0, 60, (32, 32, 3))
        noise[..., 0 if woman else 1] += 190
        Image.fromarray(noise.astype(np.uint8)).save(folder / f"{number}.png")
        rows.append({"file": f"{number}.png", "gender": "woman" if woman else "man"})
    pl.DataFrame(rows).write_csv(folder / "labels.csv")
    for seed in range(models):
        torch.manual_seed(seed)
        model = build_model(ModelSettings(name=architecture), "clip")
        torch.save(model.state_dict(), folder / f"weights-{seed}.pt")
    return folder


def _prompts() -> dict[str, dict[str, Any]]:
    plain = {"source": "ours", "templates": ["{}"]}
    each = {f"{gender} {job}": f"a {gender} who is a {job}" for gender in SIGNS for job in JOBS}
    return {
        "jobs": plain
        | {
            "name": "jobs",
            "phrases": {job: f"a {job}" for job in JOBS},
            "pairs": [["nurse", "doctor"], ["teacher", "farmer"]],
        },
        "genders": plain | {"name": "genders", "phrases": {each: f"a {each}" for each in SIGNS}},
        "pairs": plain
        | {
            "name": "pairs",
            "phrases": each,
            "pairs": [[f"woman {job}", f"man {job}"] for job in JOBS],
        },
        "protocol": {
            "name": "planted",
            "title": "Planted <bias>",
            "source": "ours",
            "sets": {"images": "people at work"},
            "tasks": {
                "jobs": {
                    "kind": "association_bias",
                    "prompts": "jobs.yaml",
                    "attribute": "gender",
                },
                "skew": {
                    "kind": "retrieval_skew",
                    "prompts": "jobs.yaml",
                    "attribute": "gender",
                    "k": 20,
                },
                "worst": {
                    "kind": "worst_group",
                    "prompts": "jobs.yaml",
                    "label": "job",
                    "attribute": "gender",
                },
                "values": {
                    "kind": "representation_bias",
                    "prompts": "genders.yaml",
                    "targets": {"woman": 0.5, "man": 0.5},
                },
            },
        },
    }


def _texts() -> dict[str, tuple[str | None, str | None]]:
    """Every text that is asked for, with the gender and the job that it names."""
    found: dict[str, tuple[str | None, str | None]] = {f"a {job}": (None, job) for job in JOBS}
    found |= {f"a {gender}": (gender, None) for gender in SIGNS}
    found |= {
        f"a {gender} who is a {job}": (gender, job) for gender in SIGNS for job in JOBS
    }  # fmt: skip
    return found


def _text(gender: str | None, job: str | None, bias: float) -> np.ndarray:
    row = np.zeros(DIMENSION)
    if job is not None:
        row[1 + JOBS.index(job)] = 1.0
        row[0] += bias * STEREOTYPE[job]
    if gender is not None:
        row[0] += SIGNS[gender]
        row[1 + len(JOBS)] = 1.0
    return row


def _image(gender: str | None, job: str | None) -> np.ndarray:
    row = np.zeros(DIMENSION)
    row[0] = 0.0 if gender is None else 0.6 * SIGNS[gender]
    row[1 + JOBS.index(str(job))] = 1.0
    return row


def _labels(images: int, part: str) -> pl.DataFrame:
    """Every gender with every job equally often, and four images whose gender is not known."""
    number = np.arange(images)
    gender = np.where(number % 2 == 0, "woman", "man").tolist()
    gender[:4] = [None] * 4
    return pl.DataFrame(
        {
            "uid": [f"{part}{row}" for row in number],
            "gender": gender,
            "job": [JOBS[row] for row in number // 2 % len(JOBS)],
        }
    )
