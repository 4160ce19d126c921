"""How long retrieval bias takes with its resamples and its null, against a plain numpy loop.

python -m benchmarks.ranking
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.machine import GIGABYTE, Clock, describe, peak_memory
from benchmarks.report import Report, Table, exact, progress, seconds, times
from evaluation.ranking import RetrievalSkew, rank, retrieval_skew
from evaluation.resampling import Resampling

GENDER = {"Female": 5162, "Male": 5792}
RACE = {
    "White": 2085, "Latino_Hispanic": 1623, "Black": 1556, "East Asian": 1550, "Indian": 1516,
    "Southeast Asian": 1415, "Middle Eastern": 1209,
}  # fmt: skip

LEAVES_OUT = (
    "Embeddings are random, of images as many as FairFace's validation set has in each group; "
    "women are moved along one direction and men against it, which prompts lean on by chance. "
    "Encoding images and prompts is left out, ranking them is not.",
    "The loop ranks beforehand. For one prompt and one draw it repeats the groups as often as the "
    "draw has them, counts them in the top i for all i by cumulative sums, and takes logarithms, "
    "all by numpy in one thread. It was run on some prompts and draws; the median of these, times "
    "their number, stands for all. The ratio is of seconds of processor.",
    "Seconds are those of one run after a small one, which compiles what is not in numba's cache.",
)


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes
    ----------
    prompts : P; 11 templates of 29 adjectives are 319
    dimensions : d, of the embeddings
    k : K of MaxSkew@K and MinSkew@K
    resamples, permutations : draws of each kind
    peer_prompts, peer_draws : that the loop runs on, of each kind of draw
    strength : standard deviations between women and men, along one direction
    seed : of everything drawn
    markdown : file that the report is also written to
    """

    prompts: int = 319
    dimensions: int = 512
    k: int = 1000
    resamples: int = 1000
    permutations: int = 1000
    peer_prompts: int = 5
    peer_draws: int = 20
    strength: float = 5.0
    seed: int = 0
    markdown: Path | None = None


@dataclass(frozen=True, eq=False)
class Faces:
    """Embeddings of images (n, d) and prompts (P, d), and the groups of the images."""

    images: np.ndarray
    prompts: np.ndarray
    gender: np.ndarray
    race: np.ndarray


def faces_of(settings: Settings) -> Faces:
    """Random embeddings in which gender, but not race, is a direction."""
    random = np.random.default_rng(settings.seed)
    gender, race = (
        random.permutation(np.repeat(list(sizes), list(sizes.values()))) for sizes in (GENDER, RACE)
    )
    images = random.normal(size=(len(gender), settings.dimensions))
    images[:, 0] += settings.strength * np.where(gender == "Female", 0.5, -0.5)
    prompts = random.normal(size=(settings.prompts, settings.dimensions))
    return Faces(images.astype(np.float32), prompts.astype(np.float32), gender, race)


def by_numpy(codes: np.ndarray, k: int, groups: int) -> tuple[float, float, float]:
    """MaxSkew@K, MinSkew@K and NDKL of groups in rank order, against the uniform reference."""
    place = np.arange(1, len(codes) + 1)
    counts = np.cumsum(codes[:, None] == np.arange(groups), axis=0)
    shares = counts / place[:, None]
    divergence = (shares * np.log(np.where(shares > 0, shares * groups, 1))).sum(axis=1)
    discount = 1 / np.log2(place + 1)
    skew = np.log(np.maximum(counts[k - 1], 1) / k * groups)
    return skew.max(), skew.min(), divergence @ discount / discount.sum()


def loop(
    settings: Settings, orders: np.ndarray, codes: np.ndarray, resampling: Resampling
) -> Iterator[tuple[float, float, float]]:
    """Figures of the first prompts in the first draws: by prompt, resamples then permutations."""
    copies = resampling.counts(len(codes))
    permuted = resampling.permuted(len(codes), np.zeros(len(codes)))
    groups = int(codes.max()) + 1
    for order in orders[: settings.peer_prompts]:
        for draw in range(settings.peer_draws):
            again = np.repeat(codes[order], copies[draw, order])
            yield by_numpy(again, settings.k, groups)
        for draw in range(settings.peer_draws):
            yield by_numpy(codes[permuted[draw, order]], settings.k, groups)


def largest_difference(
    settings: Settings, found: RetrievalSkew, figures: list[tuple[float, float, float]]
) -> float:
    """Between ours and those of the loop."""
    shape = settings.peer_prompts, 2, settings.peer_draws, 3
    theirs = np.array(figures).reshape(shape)
    worst = 0.0
    measures = found.max_skew, found.min_skew, found.ndkl
    for measure, draws in enumerate(each.each for each in measures):
        for kind, ours in enumerate((draws.bootstrap, draws.null)):
            assert ours is not None
            part = ours[: settings.peer_draws, : settings.peer_prompts].T
            worst = max(worst, float(np.abs(part - theirs[:, kind, :, measure]).max()))
    return worst


def measure(settings: Settings, faces: Faces, attribute: str) -> tuple[str, ...]:
    """One line: seconds, and those of the loop; what was found."""
    names = getattr(faces, attribute)
    resampling = Resampling(
        resamples=settings.resamples, permutations=settings.permutations, seed=settings.seed
    )
    clock, start = Clock(), time.process_time()
    found = retrieval_skew(faces.images, faces.prompts, names, k=settings.k, resampling=resampling)
    wall, processor = clock.lap(), time.process_time() - start
    orders = rank(faces.images, faces.prompts, seed=settings.seed)
    codes = np.unique(names, return_inverse=True)[1]
    peer = loop(settings, orders, codes, resampling)
    figures, laps = [], [time.process_time()]
    for figure in peer:
        figures.append(figure)
        laps.append(time.process_time())
    draws = settings.prompts * (settings.resamples + settings.permutations)
    extrapolated = float(np.median(np.diff(laps))) * draws
    mean = found.max_skew.mean
    assert mean.null is not None
    return (
        f"{attribute}, {codes.max() + 1} groups",
        seconds(wall),
        seconds(processor),
        seconds(extrapolated),
        times(extrapolated / processor),
        exact(largest_difference(settings, found, figures)),
        f"{mean.observed[0]:.3f} ({mean.null.mean():.3f})",
        f"{found.ndkl.mean.observed[0]:.4f} ({found.ndkl.mean.null.mean():.4f})",
        f"{peak_memory() / GIGABYTE:.1f}",
    )


def main(settings: Settings) -> Report:
    """Measure, and show the report."""
    machine = describe()
    faces = faces_of(settings)
    few = Resampling(resamples=100, permutations=100)
    retrieval_skew(faces.images[:100], faces.prompts[:2], faces.race[:100], k=9, resampling=few)
    lines = []
    for attribute in ("gender", "race"):
        lines.append(measure(settings, faces, attribute))
        progress(" ".join(lines[-1]))
    columns = (
        "groups", "seconds", "of processor", "numpy loop's, of processor", "ratio",
        "largest difference", "MaxSkew (null)", "NDKL (null)", "GB",
    )  # fmt: skip
    caption = (
        f"{settings.prompts} prompts x {len(faces.images):,} images x ({settings.resamples:,} "
        f"resamples + {settings.permutations:,} permutations): MaxSkew@{settings.k}, "
        f"MinSkew@{settings.k} and NDKL of the whole ranking; the loop ran on "
        f"{settings.peer_prompts} prompts x {2 * settings.peer_draws} draws"
    )
    report = Report("Retrieval bias", (Table(caption, columns, tuple(lines)),), LEAVES_OUT, machine)
    report.show(settings.markdown)
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))
