"""AbleScore: its figures against plain counting, and the methods that it chooses between."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from debias import CalibratedProjection, GroupMeanProjection, Method, OrthogonalProjection
from debias.able_score import AbleScore
from m4.errors import InputError

D = 16
AXES = np.linalg.qr(np.random.default_rng(5).normal(size=(D, D)))[0]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def biased(seed: int = 0, **changed: Any) -> AbleScore:
    """Images of two groups apart along the first axis, and queries that lean along it."""
    random = np.random.default_rng(seed)
    signs, labels = random.choice([-1, 1], 200), random.integers(0, 4, 200)
    images = AXES[1 + labels] + 0.6 * signs[:, None] * AXES[0] + 0.3 * random.normal(size=(200, D))
    leaning = random.choice([-1, 1], (5, 1))
    given: dict[str, Any] = {
        "images": 3 * images,
        "groups": np.where(signs > 0, "a man", "a woman").tolist(),
        "queries": random.normal(size=(5, D)) @ AXES[:, 5:] @ AXES[:, 5:].T + leaning * AXES[0],
        "class_images": images[:150],
        "labels": labels[:150].tolist(),
        "class_texts": AXES[1:5] + 0.1 * random.normal(size=(4, D)),
        "k": 40,
    }
    return AbleScore(**{**given, **changed})


class Unmoved(Method):
    """Leaves all as it is."""

    LEARNED = ()

    def fit(self, *, dimension: int) -> "Unmoved":
        self.dimension_ = dimension
        return self

    def _images(self, rows: Any) -> Any:
        return rows

    def _texts(self, rows: Any) -> Any:
        return rows


UNMOVED = Unmoved().fit(dimension=D)
PROJECTION = OrthogonalProjection().fit(spurious=AXES[:1])


def by_counting(score: AbleScore, method: Method, shares: dict[str, float]) -> tuple[float, float]:
    images, queries, class_images, class_texts = (
        unit(np.asarray(rows)) for rows in (score.images, score.queries, score.class_images,
                                            score.class_texts)
    )  # fmt: skip
    skews = []
    for query in method.transform_texts(queries):
        order = np.argsort(-(method.transform_images(images) @ query))[: score.k]
        top = Counter(score.groups[place] for place in order)
        skews.append(max(math.log(max(top[g], 1) / score.k / q) for g, q in shares.items()))
    near = method.transform_images(class_images) @ method.transform_texts(class_texts).T
    return sum(skews) / len(skews), float(np.mean(near.argmax(axis=1) == score.labels))


@pytest.mark.parametrize("method", [UNMOVED, PROJECTION], ids=["unmoved", "projection"])
@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_plain_counting(seed, method):
    for reference, shares in (
        ("uniform", {"a man": 0.5, "a woman": 0.5}),
        ({"a man": 0.7, "a woman": 0.3}, {"a man": 0.7, "a woman": 0.3}),
    ):
        score = biased(seed, reference=reference)
        skew, accuracy = by_counting(score, method, shares)
        assert score.max_skew(method) == pytest.approx(skew)
        assert score.accuracy(method) == pytest.approx(accuracy)
        assert score(method) == pytest.approx(2 / (1 / accuracy + 1 / math.exp(-skew)))


def test_it_can_be_asked_of_two_methods_and_prefers_the_one_that_removes_the_bias():
    for seed in range(3):
        score = biased(seed)
        both = GroupMeanProjection().fit(
            directions=np.stack([AXES[0] + AXES[9], AXES[9] - AXES[0]])
        )
        assert score.max_skew(both) < 0.5 * score.max_skew(UNMOVED)
        assert score(both) > score(UNMOVED) + 0.05
        assert score(both) == score(both)


def test_it_chooses_the_price_of_a_calibrated_projection():
    score, classes = biased(), AXES[1:5]
    pairs = np.concatenate([classes + AXES[0], classes - AXES[0], classes + classes[[1, 0, 3, 2]]])
    prices = (1e-6, 3.0, 1e6)

    def of_price(lam: float) -> float:
        # Images keep their bias; texts lose it, and, where the price is high, their classes too.
        method = CalibratedProjection(lam, orthogonal=False)
        wrong = [(each, each + 4) for each in range(4)] + [(each, each + 8) for each in range(4)]
        return score(method.fit(candidates=pairs, pairs=wrong))

    found = [of_price(lam) for lam in prices]
    assert np.argmax(found) == 1
    assert found[1] > max(found[0], found[2]) + 0.01


def test_tensors_say_what_arrays_say():
    score = biased()
    names = ("images", "queries", "class_images", "class_texts", "labels")
    tensors = replace(score, **{name: torch.as_tensor(getattr(score, name)) for name in names})
    assert tensors(PROJECTION) == score(PROJECTION)
    codes = torch.tensor([group == "a man" for group in score.groups])
    assert replace(score, groups=codes)(PROJECTION) == score(PROJECTION)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"groups": ["a", "b"]}, "2 groups for 200 images; give one each"),
        ({"groups": ["a"] * 200}, "200 items in 1 groups"),
        ({"groups": ["a", None] * 100}, "rank 2: the group is None"),
        ({"k": 0}, "k is 0, but the gallery has 200 items"),
        ({"k": 201}, "k is 201, but the gallery has 200 items"),
        ({"k": 200}, "k is 200, the whole gallery"),
        ({"labels": [0, 1]}, "2 labels for 150 images; give one each"),
        ({"labels": [4] * 150}, "labels go from 4 to 4, but there are 4 class texts"),
        ({"labels": [-1] * 150}, "labels go from -1 to -1"),
        ({"labels": ["cat"] * 150}, "give rows of class_texts, whole numbers"),
        ({"labels": [], "class_images": np.zeros((0, D))}, "no images to classify"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_once(changed, message):
    with pytest.raises(InputError, match=message):
        biased(**changed)


def test_what_cannot_be_moved_or_compared_is_refused_when_asked():
    with pytest.raises(InputError, match="queries: row 0 is all zeros"):
        biased(queries=np.zeros((1, D)))(UNMOVED)
    with pytest.raises(InputError, match=r"15 numbers, but .* fitted on 16"):
        biased(class_texts=np.ones((4, 15)))(UNMOVED)
    with pytest.raises(InputError, match="no share for 'a woman'"):
        biased(reference={"a man": 0.5, "a boy": 0.5})(UNMOVED)
    with pytest.raises(InputError, match="is not fitted"):
        biased()(OrthogonalProjection())
