"""Zero-shot classification and the worst group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.embeddings import similarity
from evaluation.quality import worst_group, zero_shot
from m4.errors import InputError

LABELS = ("nurse", "doctor", "clerk")
AXES = np.eye(3)


def one_hot(truth: list[int] | np.ndarray, classes: int = 3) -> np.ndarray:
    return np.eye(classes, dtype=bool)[truth]


def test_zero_shot_by_hand() -> None:
    images = AXES[[0, 0, 0, 1, 1, 1]]
    found = zero_shot(images, AXES, one_hot([0, 0, 0, 0, 1, 2]), LABELS)
    assert found.top1 == pytest.approx(4 / 6)
    assert found.recall == {"nurse": 0.75, "doctor": 1.0, "clerk": 0.0}
    assert found.mean_per_class_recall == pytest.approx(1.75 / 3)
    assert found.counts == {"nurse": 4, "doctor": 1, "clerk": 1}
    assert found.top5 is None  # of three labels, five would always be right


def test_images_of_none_or_several_labels_are_left_out_and_counted() -> None:
    shown = one_hot([0, 1, 1, 1])
    shown[2] = [True, True, False]
    shown[3] = False
    found = zero_shot(AXES[[0, 1, 2, 2]], AXES, shown, LABELS)
    assert (found.images, found.none, found.several, found.top1) == (2, 1, 1, 1.0)


def test_a_label_without_images_still_competes_but_has_no_recall() -> None:
    found = zero_shot(
        AXES[[0, 2]], AXES, one_hot([0, 1]), LABELS
    )  # the second is taken for a clerk
    assert found.empty == ("clerk",)
    assert found.recall == {"nurse": 1.0, "doctor": 0.0}
    assert found.mean_per_class_recall == 0.5
    assert found.counts["clerk"] == 0


def test_a_constant_model_is_at_chance_whatever_the_order_of_labels() -> None:
    truth = one_hot([0, 0, 0, 0, 1, 2])  # a tie that fell to the first label would score 4/6
    found = zero_shot(np.ones((6, 4)), np.ones((3, 4)), truth, LABELS)
    assert found.top1 == pytest.approx(1 / 3)
    assert found.mean_per_class_recall == pytest.approx(1 / 3)
    assert found.recall == pytest.approx(dict.fromkeys(LABELS, 1 / 3))


def test_an_image_whose_labels_tie_counts_as_one_image() -> None:
    images = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = zero_shot(images, AXES, one_hot([0, 0, 2]), LABELS)  # the first: half nurse
    assert found.top1 == pytest.approx((0.5 + 1 + 1) / 3)
    assert found.recall == pytest.approx({"nurse": 0.75, "clerk": 1.0})
    cells = worst_group(images, AXES, one_hot([0, 0, 2]), LABELS, in_groups([0, 0, 1]), GROUPS)
    assert (cells.worst, cells.cells[0].count) == (0.75, 2)


def test_top5_of_a_constant_model_is_at_chance() -> None:
    labels = tuple("abcdefgh")
    found = zero_shot(np.ones((8, 4)), np.ones((8, 4)), one_hot(np.arange(8), 8), labels)
    assert found.top5 == pytest.approx(5 / 8)


def test_negative_and_long_embeddings() -> None:
    prompts = np.array([[-1.0, -0.1], [-50.0, -100.0], [-1.0, -20.0]])
    images = np.array([[1.0, 1.0]] * 2)
    assert similarity(images, prompts)[0] == pytest.approx([-0.774, -0.949, -0.742], abs=0.001)
    assert (images @ prompts.T)[0].argmax() == 0  # the raw dot product takes another
    found = zero_shot(images, prompts, one_hot([2, 2]), LABELS)
    assert found.top1 == 1.0


@pytest.mark.parametrize(
    ("shown", "labels", "said"),
    [
        (np.ones((3, 3), dtype=bool), LABELS, "no image shows exactly one"),
        (np.zeros((3, 3), dtype=bool), LABELS, "no image shows exactly one"),
        (one_hot([0, 1]), LABELS, "do not agree"),
        (one_hot([0, 1, 2]), LABELS[:2], "do not agree"),
        (one_hot([0, 1, 2])[:, :1], LABELS[:1], "at least two"),
    ],
)
def test_what_cannot_be_classified_is_refused(
    shown: np.ndarray, labels: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        zero_shot(AXES, AXES, shown, labels)


def random_case(seed: int, classes: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    prompts = generator.normal(size=(classes, 10))
    truth = generator.integers(0, classes, 120)
    return prompts[truth] + 1.5 * generator.normal(size=(120, 10)), prompts, truth


def test_zero_shot_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score

    images, prompts, truth = random_case(1)
    scores = similarity(images, prompts)
    found = zero_shot(images, prompts, one_hot(truth, 8), tuple("abcdefgh"))
    assert found.top1 == pytest.approx(accuracy_score(truth, scores.argmax(1)))
    assert found.top5 == pytest.approx(top_k_accuracy_score(truth, scores, k=5))
    wanted = balanced_accuracy_score(truth, scores.argmax(1))
    assert found.mean_per_class_recall == pytest.approx(wanted)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_zero_shot_invariants(seed: int) -> None:
    images, prompts, truth = random_case(seed)
    generator = np.random.default_rng(seed)
    names = tuple("abcdefgh")
    found = zero_shot(images, prompts, one_hot(truth, 8), names)
    assert found.top5 is not None
    assert 0.0 <= found.top1 <= found.top5 <= 1.0
    scale = generator.uniform(0.01, 100, (120, 1))
    assert zero_shot(images * scale, prompts * 3.0, one_hot(truth, 8), names) == found
    order = generator.permutation(120)
    moved = zero_shot(images[order], prompts, one_hot(truth[order], 8), names)
    assert moved.recall == pytest.approx(found.recall)
    classes = generator.permutation(8)
    renamed = zero_shot(
        images, prompts[classes], one_hot(truth, 8)[:, classes], [names[c] for c in classes]
    )
    assert renamed.recall == pytest.approx(found.recall)


GROUPS = ("woman", "man")


def in_groups(members: list[int]) -> np.ndarray:
    """-1 is in no group, 2 in both."""
    return np.array([[m in (0, 2), m in (1, 2)] for m in members])


def test_worst_group_by_hand() -> None:
    truth = [0, 0, 0, 0, 1, 1, 1, 1]
    images = AXES[[0, 0, 0, 1, 1, 1, 1, 0]]
    groups = in_groups([0, 0, 1, 1, 0, 0, 1, -1])  # the last is nobody, and wrong
    found = worst_group(images, AXES, one_hot(truth), LABELS, groups, GROUPS)
    cells = {(cell.label, cell.group): (cell.accuracy, cell.count) for cell in found.cells}
    assert cells == {
        ("nurse", "woman"): (1.0, 2),
        ("nurse", "man"): (0.5, 2),
        ("doctor", "woman"): (1.0, 2),
        ("doctor", "man"): (1.0, 1),
    }
    assert found.empty == (("clerk", "woman"), ("clerk", "man"))
    assert found.average == pytest.approx(6 / 7)
    assert found.worst == 0.5
    assert found.gap == pytest.approx(6 / 7 - 0.5)


def test_an_image_of_two_groups_is_in_both_cells() -> None:
    found = worst_group(AXES[[0, 1]], AXES, one_hot([0, 0]), LABELS, in_groups([2, 0]), GROUPS)
    assert [(c.group, c.accuracy, c.count) for c in found.cells] == [
        ("woman", 0.5, 2),
        ("man", 1.0, 1),
    ]
    assert found.average == pytest.approx(2 / 3)


def test_images_without_exactly_one_label_take_no_part() -> None:
    shown = one_hot([0, 1, 1, 0])
    shown[2, 0] = True
    shown[3] = False
    found = worst_group(AXES[[0, 1, 2, 2]], AXES, shown, LABELS, in_groups([0, 1, 0, 1]), GROUPS)
    assert (found.worst, sum(cell.count for cell in found.cells)) == (1.0, 2)


def test_a_model_that_is_wrong_everywhere_has_no_gap() -> None:
    found = worst_group(AXES[[1, 2]], AXES, one_hot([0, 1]), LABELS, in_groups([0, 1]), GROUPS)
    assert (found.average, found.worst, found.gap) == (0.0, 0.0, 0.0)


def test_a_constant_model_is_at_chance_in_every_cell() -> None:
    found = worst_group(
        np.ones((4, 2)),
        np.ones((3, 2)),
        one_hot([0, 0, 1, 2]),
        LABELS,
        in_groups([0, 1, 0, 1]),
        GROUPS,
    )
    assert [cell.accuracy for cell in found.cells] == pytest.approx([1 / 3] * 4)
    assert found.gap == pytest.approx(0.0)


def test_cells_that_are_all_empty_are_refused() -> None:
    with pytest.raises(InputError, match="in any of woman, man"):
        worst_group(AXES, AXES, one_hot([0, 1, 2]), LABELS, in_groups([-1, -1, -1]), GROUPS)
    with pytest.raises(InputError, match=r"groups has shape \(2, 2\), but 3 images"):
        worst_group(AXES, AXES, one_hot([0, 1, 2]), LABELS, in_groups([0, 1]), GROUPS)


def test_worst_group_agrees_with_fairlearn() -> None:
    from fairlearn.metrics import MetricFrame
    from sklearn.metrics import accuracy_score

    images, prompts, truth = random_case(2)
    member = np.random.default_rng(2).integers(0, 3, 120)
    names = tuple("abcdefgh")
    found = worst_group(images, prompts, one_hot(truth, 8), names, one_hot(member), "xyz")
    frame = MetricFrame(
        metrics=accuracy_score,
        y_true=truth,
        y_pred=similarity(images, prompts).argmax(1),
        sensitive_features={"label": truth, "group": member},
    )
    for cell in found.cells:
        key = (names.index(cell.label), "xyz".index(cell.group))
        assert cell.accuracy == pytest.approx(frame.by_group[key])
    assert found.worst == pytest.approx(frame.group_min(errors="coerce"))
    assert found.average == pytest.approx(frame.overall)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_worst_group_invariants(seed: int) -> None:
    images, prompts, truth = random_case(seed, classes=3)
    generator = np.random.default_rng(seed)
    groups = generator.random((120, 2)) < 0.6
    found = worst_group(images, prompts, one_hot(truth), LABELS, groups, GROUPS)
    assert 0.0 <= found.worst <= found.average <= 1.0
    assert found.gap == pytest.approx(found.average - found.worst)
    assert sum(cell.count for cell in found.cells) == groups.sum()
    order = generator.permutation(120)
    moved = worst_group(
        images[order] * 9.0, prompts, one_hot(truth[order]), LABELS, groups[order], GROUPS
    )
    assert moved.worst == pytest.approx(found.worst)
    assert moved.average == pytest.approx(found.average)
