"""The same arrays through other libraries. Without ties, as each breaks those in its own way."""

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    recall_score,
    top_k_accuracy_score,
)

from evaluation.bias import association_bias, association_bias_draws
from evaluation.draws import bootstrap_intervals, p_values_of
from evaluation.embeddings import similarity
from evaluation.quality import worst_group, zero_shot, zero_shot_draws
from evaluation.resampling import Resampling
from evaluation.retrieval import retrieval_recall

NAMES = tuple("abcdefghijkl")


def classified(
    seed: int = 4, images: int = 200, classes: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, prompts and the class of each image."""
    generator = np.random.default_rng(seed)
    prompts = generator.normal(size=(classes, 10))
    truth = generator.integers(0, classes, images)
    return prompts[truth] + 2.0 * generator.normal(size=(images, 10)), prompts, truth


def captioned(
    seed: int = 5, images: int = 60, captions: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, texts, and the image of each text."""
    generator = np.random.default_rng(seed)
    texts = generator.normal(size=(images * captions, 12))
    own = np.arange(images * captions) // captions
    centres = texts.reshape(images, captions, 12).mean(axis=1)
    return centres + 0.6 * generator.normal(size=(images, 12)), texts, own


def pairs_of(own: np.ndarray) -> np.ndarray:
    return np.column_stack([own, np.arange(len(own))])


def test_zero_shot_agrees_with_scikit_learn() -> None:
    images, prompts, truth = classified()
    scores = similarity(images, prompts)
    found = zero_shot(images, prompts, np.eye(12)[truth], NAMES)
    predicted = scores.argmax(axis=1)
    assert found.top1 == pytest.approx(accuracy_score(truth, predicted))
    assert found.top5 == pytest.approx(top_k_accuracy_score(truth, scores, k=5))
    assert found.mean_per_class_recall == pytest.approx(balanced_accuracy_score(truth, predicted))
    recall = recall_score(truth, predicted, average=None)
    assert list(found.recall.values()) == pytest.approx(recall)


def test_retrieval_agrees_with_scikit_learn() -> None:
    images, texts, own = captioned(captions=1)
    scores = similarity(images, texts)
    found = retrieval_recall(images, texts, pairs_of(own))
    for k in (1, 5, 10):
        assert found.image_to_text[k] == pytest.approx(top_k_accuracy_score(own, scores, k=k))
        assert found.text_to_image[k] == pytest.approx(top_k_accuracy_score(own, scores.T, k=k))


def test_the_worst_group_agrees_with_fairlearn() -> None:
    images, prompts, truth = classified()
    group = np.random.default_rng(2).integers(0, 3, len(truth))
    found = worst_group(images, prompts, np.eye(12)[truth], NAMES, np.eye(3)[group], "xyz")
    frame = MetricFrame(
        metrics=accuracy_score,
        y_true=truth,
        y_pred=similarity(images, prompts).argmax(axis=1),
        sensitive_features={"label": truth, "group": group},
    )
    for cell in found.cells:
        key = (NAMES.index(cell.label), "xyz".index(cell.group))
        assert cell.accuracy == pytest.approx(frame.by_group[key])
    assert len(found.cells) == frame.by_group.notna().sum()
    assert found.worst == pytest.approx(frame.group_min(errors="coerce"))
    assert found.average == pytest.approx(frame.overall)


def test_association_bias_agrees_with_fairlearn() -> None:
    images, prompts, _ = classified(classes=2)
    group = np.random.default_rng(3).integers(0, 3, len(images))
    members = {name: group == number for number, name in enumerate("xyz")}
    found = association_bias(images, prompts, "ab", [("a", "b")], members)
    prefers_first = similarity(images, prompts).argmax(axis=1) == 0
    frame = MetricFrame(
        metrics=lambda truth, predicted: predicted.mean(),
        y_true=prefers_first,
        y_pred=prefers_first,
        sensitive_features=group,
    )
    assert found.largest == pytest.approx(frame.difference())
    assert list(found.pairs[0].preference.values()) == pytest.approx(frame.by_group.to_list())


@pytest.fixture
def torchmetrics() -> None:
    from vision.torchvision_guard import ensure_torchvision

    ensure_torchvision()
    pytest.importorskip("torchmetrics")


@pytest.mark.usefixtures("torchmetrics")
def test_zero_shot_agrees_with_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_recall

    images, prompts, truth = classified()
    scores, target = torch.from_numpy(similarity(images, prompts)), torch.from_numpy(truth)
    found = zero_shot(images, prompts, np.eye(12)[truth], NAMES)
    for k, mine in ((1, found.top1), (5, found.top5)):
        theirs = multiclass_accuracy(scores, target, 12, average="micro", top_k=k)
        assert mine == pytest.approx(float(theirs))
    recall = multiclass_recall(scores, target, 12, average="none")
    assert list(found.recall.values()) == pytest.approx(recall.tolist())


@pytest.mark.usefixtures("torchmetrics")
def test_retrieval_agrees_with_torchmetrics() -> None:
    import torch
    from torchmetrics.retrieval import RetrievalHitRate, RetrievalRecall

    images, texts, own = captioned()
    scores = torch.from_numpy(similarity(images, texts))
    right = torch.from_numpy(own[None] == np.arange(len(images))[:, None])
    rows = torch.arange(len(images))[:, None].expand(scores.shape)
    columns = torch.arange(len(texts))[None].expand(scores.shape)
    found = retrieval_recall(images, texts, pairs_of(own))
    for k in (1, 5, 10):
        hits = RetrievalHitRate(top_k=k)(scores, right, indexes=rows)
        assert found.image_to_text[k] == pytest.approx(float(hits))
        # Of a text one image is right: a hit is all that can be recalled.
        recall = RetrievalRecall(top_k=k)(scores, right, indexes=columns)
        assert found.text_to_image[k] == pytest.approx(float(recall))


def test_zero_shot_agrees_with_clip_benchmark() -> None:
    """Figures of clip_benchmark 1.6.2's `zeroshot_classification.accuracy` on these arrays.

    It was given 100 times the cosines. It is no dependency: the function fails beside numpy 2.4;
    these are its figures beside 2.2.
    """
    images, prompts, truth = classified()
    found = zero_shot(images, prompts, np.eye(12)[truth], NAMES)
    assert (found.top1, found.top5) == pytest.approx((0.435, 0.865))


def test_retrieval_agrees_with_clip_benchmark() -> None:
    """Hits by clip_benchmark 1.6.2's `zeroshot_retrieval.recall_at_k` above 0, on these arrays.

    For its image retrieval, text to image here, it was given cosines of texts and images; for its
    text retrieval their transpose.
    """
    images, texts, own = captioned()
    found = retrieval_recall(images, texts, pairs_of(own))
    assert found.image_to_text == pytest.approx({1: 18 / 60, 5: 39 / 60, 10: 49 / 60})
    assert found.text_to_image == pytest.approx({1: 36 / 180, 5: 93 / 180, 10: 124 / 180})


def test_intervals_agree_with_scipy() -> None:
    """Of a mean, whose resamples are near symmetric: both kinds that ours holds are then ours."""
    values = np.random.default_rng(0).normal(size=300)
    bootstrap = Resampling(resamples=20_000).sums(values[:, None]) / 300
    (found,) = bootstrap_intervals(np.array([values.mean()]), bootstrap, 0.95, (-np.inf, np.inf))
    assert found is not None
    for method in ("basic", "percentile"):
        theirs = stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, method=method, rng=np.random.default_rng(1)
        ).confidence_interval
        # A quantile of 20,000 draws has a standard error of .019 standard deviations.
        error = 4 * 0.019 * bootstrap.std()
        assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=error)


def test_an_accuracy_has_the_interval_that_scipy_gives() -> None:
    images, prompts, truth = classified()
    right = (similarity(images, prompts).argmax(axis=1) == truth).astype(float)
    many = Resampling(resamples=20_000, permutations=100)
    (found,) = zero_shot_draws(images, prompts, np.eye(12)[truth], NAMES, many)[0].measurements(
        0.95
    )
    assert found.interval is not None
    theirs = stats.bootstrap(
        (right,), np.mean, n_resamples=20_000, method="basic", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == right.mean()
    # Shares of 200 come in steps of .005, so ends may differ by one.
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(theirs), abs=0.0051)


def test_p_values_agree_with_scipy() -> None:
    """The largest difference between two groups, by two permutations tests of 10,000 draws."""
    generator = np.random.default_rng(0)
    group = generator.random(80) < 0.5
    first = generator.random(80) < np.where(group, 0.35, 0.6)
    images = np.eye(2)[np.where(first, 0, 1)]
    (found, *_) = association_bias_draws(
        images,
        np.eye(2),
        "ab",
        [("a", "b")],
        {"g": group, "h": ~group},
        Resampling(resamples=100, permutations=10_000),
    )[0].measurements(0.95)

    def difference(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        return np.abs(one.mean(axis=axis) - other.mean(axis=axis))

    theirs = stats.permutation_test(
        (first[group].astype(float), first[~group].astype(float)),
        difference,
        n_resamples=10_000,
        alternative="greater",
        vectorized=True,
        rng=np.random.default_rng(1),
    )
    assert found.value == pytest.approx(theirs.statistic)
    assert found.p_value is not None
    assert 0.005 < found.p_value < 0.2
    error = 4 * np.sqrt(2 * found.p_value * (1 - found.p_value) / 10_000)
    assert found.p_value == pytest.approx(theirs.pvalue, abs=error)


def test_p_values_are_those_of_scipy_on_the_same_null() -> None:
    """Its p-value counts the observed figure among the draws, as ours does."""
    values = np.array([2.0, 5.0, 1.0, 4.0])
    theirs = stats.permutation_test(
        (values[:2], values[2:]),
        lambda one, other: one.mean() - other.mean(),
        alternative="greater",
    )
    # All 6 ways to choose two of four are its null, the observed one among them.
    others = np.delete(theirs.null_distribution, np.isclose(theirs.null_distribution, 1.0).argmax())
    mine = p_values_of(np.array([theirs.statistic]), others[:, None], "upper")
    assert mine == pytest.approx([theirs.pvalue])
