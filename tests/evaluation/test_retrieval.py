"""Retrieval recall: ties, repeated captions, blocks and agreement with other libraries."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import retrieval
from evaluation.embeddings import similarity
from evaluation.resampling import Resampling
from evaluation.retrieval import CaptionPairs, retrieval_draws, retrieval_recall
from m4.errors import InputError


def own(n: int) -> np.ndarray:
    return np.column_stack([np.arange(n), np.arange(n)])


def test_equal_captions_are_one_text_of_all_their_images() -> None:
    captions = CaptionPairs.of([["b", "a"], ["c"], ["a"], ["c", "c"]])
    assert captions.texts == ("b", "a", "c")
    assert captions.pairs.tolist() == [[0, 0], [0, 1], [1, 2], [2, 1], [3, 2]]


def test_by_hand() -> None:
    # Similarities, right answers on the diagonal.  image 0: rank 1, 1: rank 3, 2: rank 2, 3: 1
    wanted = np.array(
        [[0.9, 0.1, 0.2, 0.3], [0.5, 0.2, 0.4, 0.1], [0.6, 0.3, 0.5, 0.2], [0.1, 0.25, 0.3, 0.4]]
    )
    images = np.hstack([wanted, np.sqrt(1 - (wanted**2).sum(1, keepdims=True))])
    texts = np.eye(4, 5)
    found = retrieval_recall(images, texts, own(4), ks=(1, 2, 3))
    assert found.image_to_text == {1: 0.5, 2: 0.75, 3: 1.0}
    assert found.text_to_image == {1: 0.75, 2: 0.75, 3: 1.0}  # text 1: 0.3 and 0.25 above
    assert (found.images, found.texts) == (4, 4)


def test_any_caption_of_an_image_is_a_hit() -> None:
    texts = np.eye(4)
    pairs = [[0, 0], [0, 1], [1, 2], [1, 3]]
    images = texts[[1, 3]]
    with pytest.raises(InputError, match="R@2 among 2 images"):
        retrieval_recall(images, texts, pairs, ks=(2,))
    found = retrieval_recall(images, texts, pairs, ks=(1,))
    assert found.image_to_text == {1: 1.0}
    assert found.text_to_image == {1: 0.75}  # texts 1 and 3 are right, 0 and 2 tie


def test_a_text_of_several_images_is_found_by_any() -> None:
    texts = np.eye(2, 3)
    images = np.array([[1.0, 0, 0], [0.1, 0, 1.0], [0, 1.0, 0]])
    found = retrieval_recall(images, texts, [[0, 0], [1, 0], [2, 1]], ks=(1,))
    assert found.text_to_image == {1: 1.0}
    assert found.image_to_text == {1: 1.0}


@pytest.mark.parametrize("n", [11, 64, 2500])
def test_a_constant_model_is_at_chance(n: int) -> None:
    vector = np.random.default_rng(n).normal(size=(1, 37))
    found = retrieval_recall(np.repeat(vector, n, 0), np.repeat(-vector, n, 0), own(n))
    for k in (1, 5, 10):
        assert found.image_to_text[k] == pytest.approx(k / n)
        assert found.text_to_image[k] == pytest.approx(k / n)


def test_equal_texts_of_a_model_do_not_win_by_their_place() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 16))
    images, texts = np.repeat(rows, 4, 0), np.repeat(rows, 4, 0)  # four of each, all the same
    found = retrieval_recall(images, texts, own(24), ks=(1, 2, 4))
    assert found.image_to_text == pytest.approx({1: 0.25, 2: 0.5, 4: 1.0})
    assert found.text_to_image == pytest.approx({1: 0.25, 2: 0.5, 4: 1.0})


def test_all_queries_count_not_the_last_alone() -> None:
    images = np.eye(5)
    texts = np.eye(5)[[1, 2, 3, 0, 4]]  # right for the last image only
    assert retrieval_recall(images, texts, own(5), ks=(1,)).image_to_text == {1: 0.2}


def test_negative_similarities_are_ranked_as_they_are() -> None:
    images = np.eye(4) + 1.0
    right = retrieval_recall(images, images - 10.0, own(4), ks=(1,))
    assert right.image_to_text == {1: 1.0}  # cosines are all near -1
    assert retrieval_recall(images, -images, own(4), ks=(1,)).image_to_text == {1: 0.0}


def test_a_long_text_is_not_everyones_answer() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 8))
    lengths = np.geomspace(0.01, 1000, 20)[:, None]
    assert retrieval_recall(rows, rows * lengths, own(20), ks=(1,)).image_to_text == {1: 1.0}


@pytest.mark.parametrize(
    ("k", "images", "texts"), [(4, 4, 4), (5, 4, 4), (3, 3, 4), (0, 4, 4), (-1, 4, 4)]
)
def test_a_k_that_says_nothing_is_refused(k: int, images: int, texts: int) -> None:
    pairs = [[min(row, images - 1), min(row, texts - 1)] for row in range(4)]
    with pytest.raises(InputError, match=rf"R@{k} among {images} images and {texts} "):
        retrieval_recall(np.ones((images, 2)), np.ones((texts, 2)), pairs, ks=(k,))


def test_pairs_must_name_every_row_and_no_other() -> None:
    rows = np.ones((3, 2))
    with pytest.raises(InputError, match="image 2 has no text"):
        retrieval_recall(rows, rows, [[0, 0], [1, 1], [1, 2]], ks=(1,))
    with pytest.raises(InputError, match="text 0 has no image"):
        retrieval_recall(rows, rows, [[0, 1], [1, 1], [2, 2]], ks=(1,))
    with pytest.raises(InputError, match="row of texts outside 0 to 2"):
        retrieval_recall(rows, rows, [[0, 0], [1, 1], [2, 3]], ks=(1,))
    with pytest.raises(InputError, match="image 0 has no text"):
        retrieval_recall(rows, rows, [], ks=(1,))


def test_a_bad_text_is_named() -> None:
    texts = np.ones((3, 2))
    texts[2, 0] = np.nan
    with pytest.raises(InputError, match="texts: row 2 holds NaN"):
        retrieval_recall(np.ones((3, 2)), texts, own(3), ks=(1,))


small = st.lists(
    st.tuples(st.integers(-1, 1), st.integers(-1, 1)).filter(any), min_size=4, max_size=4
)


@settings(max_examples=60, deadline=None)
@given(images=small, texts=small, extra=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3))))
def test_recall_is_the_mean_over_all_orders_of_the_items(
    images: list[tuple[int, int]], texts: list[tuple[int, int]], extra: list[tuple[int, int]]
) -> None:
    pairs = {(row, row) for row in range(4)} | set(extra)
    found = retrieval_recall(images, texts, sorted(pairs), ks=(1, 2, 3))
    scores = similarity(images, texts).round(9)
    right = np.zeros((4, 4), dtype=bool)
    right[tuple(zip(*pairs, strict=True))] = True
    for side, mine in ((0, found.image_to_text), (1, found.text_to_image)):
        grid, answers = (scores, right) if side == 0 else (scores.T, right.T)
        for k, recall in mine.items():
            hits = [
                answer[list(order)][np.argsort(-row[list(order)], kind="stable")[:k]].any()
                for row, answer in zip(grid, answers, strict=True)
                for order in permutations(range(4))
            ]
            assert recall == pytest.approx(np.mean(hits))


def random_pairs(seed: int, n: int = 60, t: int = 90) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(seed)
    base = generator.normal(size=(t, 12))
    images = base[:n] + generator.normal(size=(n, 12))
    pairs = np.column_stack([np.arange(t) % n, np.arange(t)])
    return images, base, pairs


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_invariants(seed: int) -> None:
    images, texts, pairs = random_pairs(seed)
    found = retrieval_recall(images, texts, pairs)
    for recall in (found.image_to_text, found.text_to_image):
        assert 0.0 <= recall[1] <= recall[5] <= recall[10] <= 1.0
    generator = np.random.default_rng(seed)
    scale = generator.uniform(0.01, 100, (len(images), 1))
    assert retrieval_recall(images * scale, texts * 5.0, pairs) == found
    order = generator.permutation(len(images))
    place = np.argsort(order)
    moved = np.column_stack([place[pairs[:, 0]], pairs[:, 1]])
    assert retrieval_recall(images[order], texts, moved).image_to_text == pytest.approx(
        found.image_to_text
    )
    assert retrieval_recall(texts, images, pairs[:, ::-1]).image_to_text == found.text_to_image


@pytest.mark.parametrize("block", [1, 7, 60, 64])
def test_blocks_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    images, texts, pairs = random_pairs(3)
    whole = retrieval_recall(images, texts, pairs)
    monkeypatch.setattr(retrieval, "BLOCK", block)
    assert retrieval_recall(images, texts, pairs) == whole


FEW = Resampling(resamples=100, permutations=100)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_draws_have_the_figures_of_the_plain_function(seed: int) -> None:
    images, texts, pairs = random_pairs(seed)
    plain = retrieval_recall(images, texts, pairs, ks=(5, 1))
    found = {each.measure: each for each in retrieval_draws(images, texts, pairs, FEW, ks=(5, 1))}
    for k in (1, 5):
        assert found[f"image_to_text_r{k}"].observed == plain.image_to_text[k]
        assert found[f"text_to_image_r{k}"].observed == plain.text_to_image[k]
    assert len(found) == 4
    assert {each.images for each in found.values()} == {60}


def hits(
    images: np.ndarray, texts: np.ndarray, pairs: np.ndarray, k: int
) -> tuple[np.ndarray, ...]:
    scores = similarity(images, texts)
    right = np.zeros(scores.shape, dtype=bool)
    right[tuple(pairs.T)] = True
    found = []
    for grid, answers in ((scores, right), (scores.T, right.T)):
        top = np.argsort(-grid, axis=1)[:, :k]
        found.append(np.take_along_axis(answers, top, axis=1).any(axis=1))
    return tuple(found)


def test_an_image_is_resampled_with_its_texts() -> None:
    images, texts, pairs = random_pairs(7)
    counts = FEW.counts(60)
    found = {each.measure: each for each in retrieval_draws(images, texts, pairs, FEW, ks=(3,))}
    of_image, of_text = hits(images, texts, pairs, 3)
    owner = pairs[np.argsort(pairs[:, 1]), 0]
    for draw in (0, 99):
        queries = np.repeat(np.arange(60), counts[draw])
        wanted = of_image[queries].mean()
        assert found["image_to_text_r3"].bootstrap[draw, 0] == pytest.approx(wanted)
        times = counts[draw][owner]  # 30 images have two texts, 30 have one
        wanted = np.repeat(of_text, times).mean()
        assert found["text_to_image_r3"].bootstrap[draw, 0] == pytest.approx(wanted)


def test_a_text_of_several_images_counts_as_often_as_they_do_on_average() -> None:
    texts = np.eye(3, 4)
    images = np.array([[1.0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0.1]])
    pairs = [[0, 0], [1, 0], [2, 1], [3, 2]]
    counts = FEW.counts(4)
    found = retrieval_draws(images, texts, pairs, FEW, ks=(1,))
    weights = np.column_stack([counts[:, :2].mean(axis=1), counts[:, 2], counts[:, 3]])
    of_text = hits(images, texts, np.array(pairs), 1)[1]
    assert found[1].bootstrap[:, 0] == pytest.approx(weights @ of_text / weights.sum(axis=1))


def test_texts_of_one_image_do_not_make_an_interval_narrower() -> None:
    """Ten copies of each text are no more evidence than one."""
    images, texts, pairs = random_pairs(8, n=60, t=60)
    copies = np.column_stack([np.repeat(pairs[:, 0], 10), np.arange(600)])
    once = retrieval_draws(images, texts, pairs, FEW, ks=(1,))[1]
    often = retrieval_draws(images, np.repeat(texts, 10, axis=0), copies, FEW, ks=(1,))[1]
    np.testing.assert_allclose(often.bootstrap, once.bootstrap)


def test_chance_is_a_random_order_of_all_items() -> None:
    many = Resampling(resamples=100, permutations=20_000)
    images, texts, pairs = random_pairs(9, n=20, t=25)
    found = {each.measure: each.null for each in retrieval_draws(images, texts, pairs, many)}
    for k in (1, 5, 10):
        # Five images have two texts of 25: the chance that both are beyond the first k.
        missed = (25 - k) * (24 - k) / (25 * 24)
        wanted = (15 * k / 25 + 5 * (1 - missed)) / 20
        null = found[f"image_to_text_r{k}"]
        assert null.mean() == pytest.approx(wanted, abs=0.005)
        spread = (15 * k / 25 * (1 - k / 25) + 5 * missed * (1 - missed)) / 20**2
        assert null.var() == pytest.approx(spread, rel=0.05)
        assert found[f"text_to_image_r{k}"].mean() == pytest.approx(k / 20, abs=0.005)
    assert (found["image_to_text_r1"] <= found["image_to_text_r5"]).all()


def test_chance_agrees_with_models_that_see_nothing() -> None:
    generator = np.random.default_rng(0)
    pairs = random_pairs(0, n=20, t=25)[2]
    recall = [
        retrieval_recall(
            generator.normal(size=(20, 8)), generator.normal(size=(25, 8)), pairs, (5,)
        )
        for _ in range(400)
    ]
    draws = retrieval_draws(*random_pairs(0, n=20, t=25), FEW, ks=(5,))
    for side, found in enumerate(("image_to_text", "text_to_image")):
        mean = np.mean([getattr(each, found)[5] for each in recall])
        assert draws[side].null.mean() == pytest.approx(mean, abs=0.03)


def test_a_good_model_is_better_than_chance() -> None:
    for found in retrieval_draws(*random_pairs(10), FEW):
        (figure,) = found.measurements(0.95)
        assert (figure.p_value, figure.better) == (1 / 101, "higher")
        assert figure.interval is not None
        assert 0 <= figure.interval.low <= figure.value <= figure.interval.high <= 1
