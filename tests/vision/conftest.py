"""A picture to decode, and embeddings of which the truth is known."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw


@pytest.fixture(scope="session")
def jpeg() -> Callable[..., bytes]:
    """A JPEG of a red disc on blue, `size` pixels along each side."""

    def make(size: int = 32) -> bytes:
        image = Image.new("RGB", (size, size), "blue")
        ImageDraw.Draw(image).ellipse((size // 5, size // 5, size * 4 // 5, size * 4 // 5), "red")
        stream = io.BytesIO()
        image.save(stream, "JPEG")
        return stream.getvalue()

    return make


@dataclass(frozen=True, eq=False)
class Mixture:
    """Embeddings (n, d) of unit length, the class of each as (n, k), and its posterior (n, k)."""

    embeddings: np.ndarray
    labels: np.ndarray
    posterior: np.ndarray


@pytest.fixture(scope="session")
def mixture() -> Callable[..., Mixture]:
    """Draws from Gaussians of equal covariance, so that the posterior is known and linear.

    The last number gives each row unit length and says nothing else.
    """

    def draw(samples: int, classes: int = 2, *, apart: float = 2.5, seed: int = 0) -> Mixture:
        generator = np.random.default_rng([seed, samples])
        means = apart * np.eye(classes, 12)
        truth = generator.integers(0, classes, samples)
        x = generator.normal(size=(samples, 12)) + means[truth]
        log_odds = x @ means.T - apart**2 / 2
        posterior = np.exp(log_odds - np.logaddexp.reduce(log_odds, axis=1, keepdims=True))
        small = 0.05 * x
        last = np.sqrt(1 - (small**2).sum(axis=1, keepdims=True))
        return Mixture(np.hstack([small, last]), np.eye(classes)[truth], posterior)

    return draw


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Real embeddings (n, 512) of unit length, and what each is of."""

    embeddings: np.ndarray
    names: list[str]


@pytest.fixture(scope="session")
def text_features() -> Callable[[str], TextFeatures]:
    """CLIP ViT-B/32 text features beside the repository; skips the test where they are absent."""

    def read(name: str) -> TextFeatures:
        folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "clip_features"
        if not folder.is_dir():
            pytest.skip("no real data: shared/data/clip_features beside the repository")
        array = np.load(folder / f"{name}.npy").astype(np.float32)
        return TextFeatures(array, json.loads((folder / f"{name}_names.json").read_text()))

    return read
