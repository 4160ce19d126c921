"""Zero-shot classification and the worst group."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import tallies
from evaluation.draws import Draws
from evaluation.embeddings import similarity
from evaluation.quality import worst_group, worst_group_draws, zero_shot, zero_shot_draws
from evaluation.resampling import Resampling
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


FEW = Resampling(resamples=100, permutations=100)
NAMES = tuple("abcdefgh")


def by_measure(draws: tuple[Draws, ...]) -> dict[str, Draws]:
    return {each.measure: each for each in draws}


def some_in_groups(seed: int, ties: bool) -> tuple[np.ndarray, ...]:
    """Images, prompts, labels and groups; some images of no or several labels, and none."""
    images, prompts, truth = random_case(seed)
    if ties:
        images, prompts = images.round(0), prompts.round(0)
        prompts[1], images[:, 0] = prompts[0], 1.0
    generator = np.random.default_rng(seed)
    shown = one_hot(truth, 8) ^ (generator.random((120, 8)) < 0.02)
    shown[:, 7] = False  # a label that nobody has
    shown[0], shown[1] = one_hot([0], 8), one_hot([1], 8)
    groups = generator.random((120, 2)) < 0.6
    groups[:2] = True
    return images, prompts, shown, groups


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), ties=st.booleans())
def test_draws_have_the_figures_of_the_plain_functions(seed: int, ties: bool) -> None:
    images, prompts, shown, groups = some_in_groups(seed, ties)
    plain = zero_shot(images, prompts, shown, NAMES)
    found = by_measure(zero_shot_draws(images, prompts, shown, NAMES, FEW))
    assert found["zero_shot_top1"].observed == plain.top1
    assert found["zero_shot_top5"].observed == plain.top5
    assert found["mean_per_class_recall"].observed == plain.mean_per_class_recall
    recall = found["recall"]
    assert dict(zip(recall.names, recall.observed.tolist(), strict=True)) == plain.recall
    assert {each.images for each in found.values()} == {plain.images}
    worst = worst_group(images, prompts, shown, NAMES, groups, GROUPS)
    found = by_measure(worst_group_draws(images, prompts, shown, NAMES, groups, GROUPS, FEW))
    assert found["worst_group_accuracy"].observed == worst.worst
    assert found["worst_group_gap"].observed == worst.gap
    assert found["average_accuracy"].observed == worst.average
    cells = {f"{cell.label}, {cell.group}": cell.accuracy for cell in worst.cells}
    accuracy = found["accuracy"]
    assert dict(zip(accuracy.names, accuracy.observed.tolist(), strict=True)) == cells


@pytest.mark.parametrize("ties", [False, True])
def test_a_resample_has_the_figures_of_the_images_written_out(ties: bool) -> None:
    images, prompts, shown, groups = some_in_groups(3, ties)
    keep = np.flatnonzero(shown.sum(axis=1) == 1)
    counts = FEW.counts(len(keep))
    found = by_measure(zero_shot_draws(images, prompts, shown, NAMES, FEW))
    member = keep[groups[keep].any(axis=1)]
    by_group = by_measure(worst_group_draws(images, prompts, shown, NAMES, groups, GROUPS, FEW))
    of_members = FEW.counts(len(member))
    for draw in (0, 50, 99):
        rows = np.repeat(keep, counts[draw])
        plain = zero_shot(images[rows], prompts, shown[rows], NAMES)
        for measure, value in (
            ("zero_shot_top1", plain.top1),
            ("zero_shot_top5", plain.top5),
            ("mean_per_class_recall", plain.mean_per_class_recall),
        ):
            assert found[measure].bootstrap[draw, 0] == pytest.approx(value)
        recall = dict(zip(found["recall"].names, found["recall"].bootstrap[draw], strict=True))
        assert {name: share for name, share in recall.items() if share >= 0} == pytest.approx(
            plain.recall
        )
        rows = np.repeat(member, of_members[draw])
        worst = worst_group(images[rows], prompts, shown[rows], NAMES, groups[rows], GROUPS)
        assert by_group["worst_group_accuracy"].bootstrap[draw, 0] == pytest.approx(worst.worst)
        assert by_group["worst_group_gap"].bootstrap[draw, 0] == pytest.approx(worst.gap)
        assert by_group["average_accuracy"].bootstrap[draw, 0] == pytest.approx(worst.average)


def test_by_chance_answers_know_nothing_of_their_image() -> None:
    images, prompts, shown, _ = some_in_groups(4, ties=False)
    keep = np.flatnonzero(shown.sum(axis=1) == 1)
    orders = FEW.permuted(len(keep))
    found = by_measure(zero_shot_draws(images, prompts, shown, NAMES, FEW))
    for draw in (0, 99):
        taken = shown[keep][orders[draw]]
        plain = zero_shot(images[keep], prompts, taken, NAMES)
        null = {name: each.null[draw] for name, each in found.items() if each.null is not None}
        assert null["zero_shot_top1"] == pytest.approx(plain.top1)
        assert null["zero_shot_top5"] == pytest.approx(plain.top5)
        assert null["mean_per_class_recall"] == pytest.approx(plain.mean_per_class_recall)
        assert null["recall"] == pytest.approx([plain.recall[n] for n in found["recall"].names])
    assert {each.null_kind for each in found.values()} == {"chance"}


def test_a_good_model_is_better_than_chance_and_a_blind_one_is_not() -> None:
    images, prompts, truth = random_case(5)
    good = by_measure(zero_shot_draws(images, prompts, one_hot(truth, 8), NAMES, FEW))
    (top1,) = good["zero_shot_top1"].measurements(0.95)
    assert (top1.p_value, top1.better) == (1 / 101, "higher")
    assert top1.null is not None
    assert top1.null.mean == pytest.approx(1 / 8, abs=0.02)
    blind = by_measure(
        zero_shot_draws(np.ones((120, 10)), np.ones((8, 10)), one_hot(truth, 8), NAMES, FEW)
    )
    for figure in ("zero_shot_top1", "zero_shot_top5", "mean_per_class_recall"):
        assert blind[figure].measurements(0.95)[0].p_value == 1.0


def test_of_five_labels_there_is_no_top_5() -> None:
    found = zero_shot_draws(AXES, AXES, one_hot([0, 1, 2]), LABELS, FEW)
    assert [each.measure for each in found] == ["zero_shot_top1", "mean_per_class_recall", "recall"]


def test_without_bias_groups_trade_places_within_their_label() -> None:
    """Nurses are all classified wrongly, doctors rightly; women are nurses, mostly."""
    truth = np.repeat([0, 1], 20)
    images = AXES[np.where(truth == 0, 2, 1)]
    groups = in_groups([0] * 15 + [1] * 5 + [0] * 5 + [1] * 15)
    found = by_measure(worst_group_draws(images, AXES, one_hot(truth), LABELS, groups, GROUPS, FEW))
    assert found["accuracy"].names == ("nurse, woman", "nurse, man", "doctor, woman", "doctor, man")
    assert found["accuracy"].null is not None
    assert (found["accuracy"].null == [0.0, 0.0, 1.0, 1.0]).all()
    assert (found["worst_group_gap"].null == 0.5).all()  # the label's doing, not the group's
    assert found["worst_group_gap"].measurements(0.95)[0].p_value == 1.0
    assert found["average_accuracy"].null is None


def test_a_group_that_is_classified_worse_stands_out() -> None:
    generator = np.random.default_rng(1)
    truth, group = generator.integers(0, 2, 400), generator.integers(0, 2, 400)
    wrong = generator.random(400) < np.where((truth == 0) & (group == 0), 0.5, 0.1)
    images = AXES[np.where(wrong, 2, truth)]
    found = by_measure(
        worst_group_draws(images, AXES, one_hot(truth), LABELS, in_groups(list(group)), GROUPS, FEW)
    )
    for measure in ("worst_group_accuracy", "worst_group_gap"):
        assert found[measure].measurements(0.95)[0].p_value == 1 / 101
    cells = {cell.subject: cell.p_max for cell in found["accuracy"].measurements(0.95)}
    assert cells["nurse, woman"] == 2 / 101
    assert cells["doctor, woman"] > 0.05


def test_a_cell_that_is_empty_in_a_resample_is_not_the_worst() -> None:
    """One doctor is a man, and wrong; where he is left out, the worst is another's."""
    truth = [0, 0, 0, 0, 1]
    images = AXES[[0, 0, 0, 1, 2]]
    groups = in_groups([0, 0, 0, 0, 1])
    found = by_measure(worst_group_draws(images, AXES, one_hot(truth), LABELS, groups, GROUPS, FEW))
    cell = found["accuracy"].bootstrap[:, found["accuracy"].names.index("doctor, man")]
    left_out = FEW.counts(5)[:, 4] == 0
    assert (np.isnan(cell) == left_out).all()
    assert 0 < left_out.sum() < 100
    worst = found["worst_group_accuracy"].bootstrap[:, 0]
    assert (worst[~left_out] == 0).all()
    assert worst[left_out].mean() > 0.5
    assert not np.isnan(worst).any()
    nurse, doctor = found["accuracy"].measurements(0.95)
    assert nurse.interval is not None
    assert doctor.interval is None


@pytest.mark.parametrize("block", [1, 7, 120])
def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    images, prompts, shown, groups = some_in_groups(6, ties=True)

    def all_draws() -> list[Draws]:
        return [
            *zero_shot_draws(images, prompts, shown, NAMES, FEW),
            *worst_group_draws(images, prompts, shown, NAMES, groups, GROUPS, FEW),
        ]

    whole = all_draws()
    monkeypatch.setattr(tallies, "BLOCK", block)
    monkeypatch.setattr(tallies, "DRAWS", 120 * block)
    for one, other in zip(all_draws(), whole, strict=True):
        np.testing.assert_allclose(one.observed, other.observed, rtol=1e-12)
        np.testing.assert_allclose(one.bootstrap, other.bootstrap, rtol=1e-12)
        if one.null is not None:
            np.testing.assert_allclose(one.null, other.null, rtol=1e-12)


def test_a_model_that_is_equally_good_in_every_cell_is_not_found_to_be_unfair() -> None:
    truth, group = np.repeat([0, 1, 2], 60), np.tile([0, 1], 90)
    wrong = np.tile(np.repeat([True, True, False, False, False], 2), 18)  # two fifths of each cell
    images = AXES[np.where(wrong, (truth + 1) % 3, truth)]
    found = by_measure(
        worst_group_draws(images, AXES, one_hot(truth), LABELS, in_groups(list(group)), GROUPS, FEW)
    )
    for measure in ("worst_group_accuracy", "worst_group_gap"):
        (figure,) = found[measure].measurements(0.95)
        assert figure.p_value is not None and figure.p_value > 0.5
        assert figure.smallest_group == 30
    assert [cell.images for cell in found["accuracy"].measurements(0.95)] == [30] * 6
