"""Retrieval recall: ties, repeated captions, blocks and agreement with other libraries."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import quality
from evaluation.quality import CaptionPairs, retrieval_recall
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
    scores = quality.similarity(images, texts).round(9)
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
    monkeypatch.setattr(quality, "BLOCK", block)
    assert retrieval_recall(images, texts, pairs) == whole


def test_agrees_with_scikit_learn_where_there_are_no_ties() -> None:
    from sklearn.metrics import top_k_accuracy_score

    images, texts, pairs = random_pairs(5, n=80, t=80)
    scores = quality.similarity(images, texts)
    found = retrieval_recall(images, texts, pairs)
    for k in (1, 5, 10):
        truth = np.arange(80)
        assert found.image_to_text[k] == pytest.approx(top_k_accuracy_score(truth, scores, k=k))
        assert found.text_to_image[k] == pytest.approx(top_k_accuracy_score(truth, scores.T, k=k))


def test_agrees_with_torchmetrics_where_there_are_no_ties() -> None:
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    import torch

    images, texts, pairs = random_pairs(6)
    scores = torch.from_numpy(quality.similarity(images, texts))
    right = torch.zeros(scores.shape, dtype=torch.bool)
    right[pairs[:, 0], pairs[:, 1]] = True
    found = retrieval_recall(images, texts, pairs)
    for k in (1, 5, 10):
        rows = zip(scores, right, strict=True)
        hits = [float(retrieval.retrieval_hit_rate(row, own_, top_k=k)) for row, own_ in rows]
        assert found.image_to_text[k] == pytest.approx(np.mean(hits))
