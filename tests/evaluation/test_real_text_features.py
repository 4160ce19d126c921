"""Rankings of real text features of CLIP ViT-B/32 behave as they should."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from evaluation.ranking import rank, retrieval_skew
from evaluation.resampling import Resampling
from evaluation.transfer import bias_transfer_draws

Named = tuple[np.ndarray, list[str]]


@pytest.fixture(scope="module")
def features(shared_data: Path) -> dict[str, Named]:
    folder = shared_data / "clip_features"
    return {
        what: (
            np.load(folder / f"{name}.npy"),
            json.loads((folder / f"{name}_names.json").read_text()),
        )
        for what, name in (("classes", "imagenet1k_text_vitb32"), ("jobs", "occupations_text"))
    }


@pytest.fixture(scope="module")
def share_of_women(shared_data: Path) -> dict[str, float]:
    """Of each occupation, by US labour statistics."""
    path = shared_data / "occupations" / "kay2015_occupations_bls_vs_search.csv"
    with path.open() as stream:
        return {row["search_term"]: float(row["bls_p_women"]) for row in csv.DictReader(stream)}


@pytest.mark.parametrize(
    ("job", "thing"),
    [
        ("butcher", "butcher shop"),
        ("bus driver", "school bus"),
        ("truck driver", "trailer truck"),
        ("librarian", "library"),
        ("roofer", "tile roof"),
        ("telemarketer", "cellular telephone"),
        ("garbage collector", "garbage truck"),
        ("mail carrier", "mailbox"),
    ],
)
def test_the_first_of_a_thousand_things_is_the_one_of_the_job(
    features: dict[str, Named], job: str, thing: str
):
    (classes, things), (jobs, names) = features["classes"], features["jobs"]
    order = rank(classes, jobs[[names.index(job)]])
    assert things[order[0, 0]].split(",")[0] == thing


def test_each_text_is_nearest_to_itself_however_long_it_is(features: dict[str, Named]):
    jobs, names = features["jobs"]
    lengths = np.random.default_rng(0).uniform(0.1, 10, size=(len(names), 1))
    order = rank(jobs * lengths, jobs)
    assert order[:, 0].tolist() == list(range(len(names)))
    # Ranked by the plain product, the longest come first, nearly whatever is asked.
    quirky = rank(jobs * lengths, jobs, compat="oxai")
    longest = np.argsort(-lengths[:, 0])[:5]
    assert np.isin(quirky[:, 0], longest).mean() > 0.8


def test_jobs_of_women_bring_jobs_of_women(
    features: dict[str, Named], share_of_women: dict[str, float]
):
    """The text features alone know who works where: nearest jobs share their share of women."""
    jobs, names = features["jobs"]
    known = [row for row, name in enumerate(names) if name in share_of_women]
    shares = np.array([share_of_women[names[row]] for row in known])
    order = rank(jobs[known], jobs[known])
    near = shares[order[:, 1:6]].mean(axis=1)  # the five nearest other jobs
    r = bias_transfer_draws(shares - 0.5, near - shares.mean(), Resampling())[0]
    (found,) = r.measurements(0.95)
    assert found.value > 0.3
    assert found.p_value is not None and found.p_value < 0.01
    assert len(known) >= 30


def test_a_gallery_of_jobs_is_skewed_by_queries_for_one_kind_of_them(
    features: dict[str, Named], share_of_women: dict[str, float]
):
    jobs, names = features["jobs"]
    known = [row for row, name in enumerate(names) if name in share_of_women]
    of_women = ["women" if share_of_women[names[row]] > 0.5 else "men" for row in known]

    def skew_of(*queries: str) -> float:
        asked = jobs[[names.index(query) for query in queries]]
        found = retrieval_skew(
            jobs[known], asked, of_women, k=10, reference="empirical", first="women",
            resampling=Resampling(resamples=100, permutations=100),
        )  # fmt: skip
        assert found.bias is not None
        return float(found.bias.mean.observed[0])

    caring = skew_of("nurse", "receptionist", "housekeeper", "childcare worker")
    building = skew_of("construction worker", "welder", "roofer", "crane operator")
    assert caring > building + 0.3
