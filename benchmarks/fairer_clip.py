"""How long FairerCLIP takes to fit, against an adapter that is trained by gradient.

python -m benchmarks.fairer_clip
"""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from threadpoolctl import threadpool_limits
from torch.nn.functional import cross_entropy, normalize

from benchmarks.machine import Clock, describe
from benchmarks.report import Report, Table, progress, seconds, times
from debias import FairerCLIP, LinearProbe

RESIDUAL, REDUCTION, SCALE = 0.2, 4, 100.0  # CLIP-Adapter's share and width; CLIP's temperature
REFERENCE = "FairerCLIP, labels given"

LEAVES_OUT = (
    "Features are drawn, not those of real images: normal noise of which few directions hold much, "
    "a class and an attribute that shift it linearly, and prompts that lean on the attribute. What "
    "is linear suits a linear probe more than real features do. Encoding is left out.",
    "The adapter is CLIP-Adapter's (Gao et al. 2021): two layers on images, of which a fifth is "
    "added to the rest, against fixed prompts; Adam on mini-batches that draw the cells of class "
    "and attribute equally. After each epoch the worst cell's accuracy on a validation split is "
    "taken; training ends where it has not risen for so many epochs, and keeps the best. The time "
    "to the best epoch is what it would take somebody who knew when to stop. The adapters that the "
    "paper compares itself with have losses of their own and were not run.",
    "Nobody searched for parameters in this time: FairerCLIP has the published ones, each learning "
    "rate of the adapter is a line. The attributes are given to all; FairerCLIP needs no "
    "validation split. It computes in float64, the adapter in float32.",
    "Each fit starts from arrays in memory, after a small one of its kind. Ratios are of seconds "
    "of processor, which on a busy machine say more than those of the clock.",
)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    dimensions : d, of the features
    share : of each cell's images that are drawn
    trials : draws of features, with seeds from 0; figures are medians of them
    threads : of the matrix products, for all alike
    rates : learning rates of the adapter
    batch : images of a mini-batch
    patience : epochs without a rise after which training ends
    epochs : at most
    markdown : file that the report is also written to
    """

    dimensions: int = 768
    share: float = 1.0
    trials: int = 3
    threads: int = 1
    rates: tuple[float, ...] = (1e-5, 1e-4, 1e-3)
    batch: int = 128
    patience: int = 10
    epochs: int = 200
    markdown: Path | None = None


Counts = tuple[tuple[int, int], tuple[int, int]]  # by class and attribute


@dataclass(frozen=True)
class Shape:
    """Images by class and attribute in each split, and FairerCLIP's published parameters."""

    name: str
    train: Counts
    validation: Counts
    test: Counts
    method: FairerCLIP


SHAPES = (
    Shape(
        "Waterbirds",
        train=((3498, 184), (56, 1057)),
        validation=((467, 466), (133, 133)),
        test=((2255, 2255), (642, 642)),
        method=FairerCLIP(),
    ),
    Shape(
        "CelebA, hair, 20,000 images",
        train=((8801, 8217), (2811, 170)),
        validation=((2148, 2083), (723, 46)),
        test=((9767, 7535), (2480, 180)),
        method=FairerCLIP(gamma_images=3e-5, gamma_texts=3e-4, tau_z_images=0.3, rounds=3),
    ),
)


@dataclass(frozen=True, eq=False)
class Split:
    """Images (n, d) of float32, and their classes and attributes, 0 or 1."""

    images: np.ndarray
    labels: np.ndarray
    attributes: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """Four cells of a class and an attribute, (n,)."""
        return 2 * self.labels + self.attributes


@dataclass(frozen=True, eq=False)
class World:
    """Three splits, and the prompts of the two classes (2, d)."""

    train: Split
    validation: Split
    test: Split
    texts: np.ndarray


def world_of(shape: Shape, dimensions: int, share: float, seed: int) -> World:
    """Features whose worst cell is about as right by zero-shot as that of Waterbirds, 44 %.

    The k-th direction of the noise is k^-0.45 strong. The class shifts images by 0 to 3.2 standard
    deviations of the noise, so that some show it plainly and some hardly; the attribute by 3. Each
    does so along a direction of its own. The prompts differ along both and along a third one.
    """
    random = np.random.default_rng(seed)
    noise = np.arange(1, dimensions + 1) ** -0.45
    noise /= np.linalg.norm(noise)
    common, *axes = np.linalg.qr((random.normal(size=(4, dimensions)) * noise).T)[0].T
    spread = [np.linalg.norm(axis * noise) for axis in axes]

    def split(counts: Counts) -> Split:
        cells = np.repeat(np.arange(4), [max(2, round(share * each)) for each in np.ravel(counts)])
        labels, attributes = cells // 2, cells % 2
        plainness = random.uniform(0, 2, len(cells))
        images = common + noise * random.normal(size=(len(cells), dimensions))
        images += np.outer(1.6 * spread[0] * plainness * (2 * labels - 1), axes[0])
        images += np.outer(3.0 * spread[1] * (2 * attributes - 1), axes[1])
        return Split(images.astype(np.float32), labels, attributes)

    train, validation, test = map(split, (shape.train, shape.validation, shape.test))
    apart = 0.5 * axes[0] + 0.4 * axes[1] + 0.59**0.5 * axes[2]
    texts = common + 0.3 * np.outer([-1, 1], apart)
    return World(train, validation, test, texts.astype(np.float32))


@dataclass(frozen=True)
class Accuracy:
    """Of the images of a split, and of the cell that is worst."""

    worst: float
    average: float

    @classmethod
    def of(cls, predicted: np.ndarray, split: Split) -> "Accuracy":
        right = predicted == split.labels
        cells = [float(right[split.cells == cell].mean()) for cell in np.unique(split.cells)]
        return cls(min(cells), float(right.mean()))


class Adapter(torch.nn.Module):
    """CLIP-Adapter on images: n(.2 MLP(f) + .8 f), against fixed texts."""

    def __init__(self, texts: np.ndarray) -> None:
        super().__init__()
        d = texts.shape[1]
        self.texts = normalize(torch.from_numpy(texts), dim=1)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(d, d // REDUCTION, bias=False),
            torch.nn.ReLU(),
            torch.nn.Linear(d // REDUCTION, d, bias=False),
            torch.nn.ReLU(),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, 2) of images of unit length."""
        moved = RESIDUAL * self.layers(images) + (1 - RESIDUAL) * images
        return SCALE * normalize(moved, dim=1) @ self.texts.T

    def predict(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = self(normalize(torch.from_numpy(images), dim=1)).argmax(1).numpy()
        return found


@dataclass(frozen=True, eq=False)
class Fitted:
    """What tells the class of images, and of an adapter the validation's worst cell by epoch."""

    predict: Callable[[np.ndarray], np.ndarray]
    worst: tuple[float, ...] = ()

    @property
    def best(self) -> int:
        """The epoch that was kept, the first of equal ones, from 1."""
        return 1 + int(np.argmax(self.worst))


Fit = Callable[[], Fitted]


def train(world: World, settings: Settings, rate: float, seed: int) -> Fitted:
    """Train an adapter until the worst cell of the validation split no longer gains."""
    torch.manual_seed(seed)
    adapter, labels = Adapter(world.texts), torch.from_numpy(world.train.labels)
    images = normalize(torch.from_numpy(world.train.images), dim=1)
    optimiser = torch.optim.Adam(adapter.parameters(), lr=rate)
    random = np.random.default_rng(seed)
    worst: list[float] = []
    while len(worst) < settings.epochs:
        for rows in torch.from_numpy(balanced(world.train.cells, random)).split(settings.batch):
            optimiser.zero_grad()
            cross_entropy(adapter(images[rows]), labels[rows]).backward()
            optimiser.step()
        found = Accuracy.of(adapter.predict(world.validation.images), world.validation).worst
        if found > max(worst, default=-1.0):
            kept = deepcopy(adapter.state_dict())
        worst.append(found)
        if len(worst) - Fitted(adapter.predict, tuple(worst)).best >= settings.patience:
            break
    adapter.load_state_dict(kept)
    return Fitted(adapter.predict, tuple(worst))


def balanced(cells: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The rows of an epoch, as many as there are: for each a cell is drawn, all alike, first."""
    order, counts = np.argsort(cells, kind="stable"), np.bincount(cells)
    drawn = random.integers(0, len(counts), len(cells))
    first = np.cumsum(counts) - counts
    rows: np.ndarray = order[first[drawn] + random.integers(0, counts[drawn])]
    return rows


def zero_shot(world: World) -> Fitted:
    """The prompts as they are."""
    texts = world.texts / np.linalg.norm(world.texts, axis=1, keepdims=True)
    return Fitted(lambda images: np.argmax(images @ texts.T, axis=1))


def linear_probe(world: World) -> Fitted:
    """Logistic regression in which the cells weigh the same."""
    seen = world.train
    probe = LinearProbe(reweighted=True).fit(
        images=seen.images, labels=seen.labels, texts=world.texts, attributes=seen.attributes
    )
    return Fitted(probe.predict)


def fairer_clip(world: World, method: FairerCLIP, labels: np.ndarray | None) -> Fitted:
    """FairerCLIP, with the classes or with its own predictions of them."""
    seen = world.train
    method.fit(images=seen.images, attributes=seen.attributes, texts=world.texts, labels=labels)
    return Fitted(lambda images: method.predict(images, world.texts))


def fits(world: World, method: FairerCLIP, settings: Settings, seed: int) -> dict[str, Fit]:
    """What is compared, by name."""
    return {
        "zero-shot": lambda: zero_shot(world),
        "linear probe, reweighted": lambda: linear_probe(world),
        REFERENCE: lambda: fairer_clip(world, method, world.train.labels),
        "FairerCLIP, labels predicted": lambda: fairer_clip(world, method, None),
        **{
            f"adapter, learning rate {rate:g}": partial(train, world, settings, rate, seed)
            for rate in settings.rates
        },
    }


@dataclass(frozen=True)
class Outcome:
    """One fit of one draw: on the test split, and seconds by the clock and of the processor.

    Epochs, and the best of them, are 0 of what has none.
    """

    accuracy: Accuracy
    wall: float
    processor: float
    epochs: int
    best: int


def run(fit: Fit, test: Split) -> Outcome:
    """Time a fit, and judge it by images it has not seen."""
    clock, start = Clock(), time.process_time()
    fitted = fit()
    wall, processor = clock.lap(), time.process_time() - start
    accuracy = Accuracy.of(fitted.predict(test.images), test)
    epochs = len(fitted.worst)
    return Outcome(accuracy, wall, processor, epochs, fitted.best if epochs else 0)


def row(name: str, outcomes: Sequence[Outcome], reference: Sequence[Outcome]) -> tuple[str, ...]:
    """One line: medians of the draws; ratios with the least and the most."""

    def median(figure: Callable[[Outcome], float]) -> float:
        return float(np.median([figure(each) for each in outcomes]))

    def ratio(figure: Callable[[Outcome], float]) -> str:
        pairs = zip(outcomes, reference, strict=True)
        found = [figure(each) / other.processor for each, other in pairs]
        return f"{times(np.median(found))} ({times(min(found))} to {times(max(found))})"

    accuracies = (
        f"{median(lambda each: each.accuracy.worst):.3f}",
        f"{median(lambda each: each.accuracy.average):.3f}",
        f"{median(lambda each: each.accuracy.average - each.accuracy.worst):.3f}",
    )
    if name == "zero-shot":
        return (name, *accuracies, "", "", "", "", "", "")
    taken = seconds(median(lambda each: each.wall)), seconds(median(lambda each: each.processor))
    whole = ratio(lambda each: each.processor)
    if not outcomes[0].epochs:
        return (name, *accuracies, *taken, "", "", whole, "")
    return (
        name,
        *accuracies,
        *taken,
        f"{median(lambda each: each.epochs):g} ({median(lambda each: each.best):g})",
        seconds(median(lambda each: each.processor / each.epochs)),
        whole,
        ratio(lambda each: each.processor * each.best / each.epochs),
    )


COLUMNS = (
    "fitted", "worst cell", "average", "gap", "seconds", "of processor", "epochs (best)",
    "of processor for an epoch", "ratio to FairerCLIP with labels", "ratio of the best epoch",
)  # fmt: skip


def table(shape: Shape, settings: Settings) -> Table:
    """All fits of all draws of one shape."""
    found: dict[str, list[Outcome]] = {}
    for seed in range(settings.trials):
        world = world_of(shape, settings.dimensions, settings.share, seed)
        for name, fit in fits(world, shape.method, settings, seed).items():
            found.setdefault(name, []).append(run(fit, world.test))
            progress(f"{shape.name}, draw {seed}, {name}: {found[name][-1]}")
    caption = (
        f"Cells as in {shape.name}: {len(world.train.images):,} images to fit, "
        f"{len(world.validation.images):,} to validate, {len(world.test.images):,} to test, "
        f"d = {settings.dimensions}; {settings.threads} threads; medians of {settings.trials} "
        f"draws, ratios with the least and the most; the adapter stops {settings.patience} epochs "
        f"after its best, or after {settings.epochs}"
    )
    rows = [row(name, outcomes, found[REFERENCE]) for name, outcomes in found.items()]
    return Table(caption, COLUMNS, tuple(rows))


def main(settings: Settings) -> Report:
    """Measure, and show the report."""
    machine = describe(("numpy", "scipy", "torch", "scikit-learn"))
    torch.set_num_threads(settings.threads)
    with threadpool_limits(settings.threads):
        small = world_of(SHAPES[0], 16, 0.05, seed=0)
        few = replace(settings, epochs=1)
        for fit in fits(small, FairerCLIP(features=20), few, seed=0).values():
            fit()  # what is loaded at the first use does not count
        tables = tuple(table(shape, settings) for shape in SHAPES)
    report = Report("FairerCLIP: fit time", tables, LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
