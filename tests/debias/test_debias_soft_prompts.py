"""Context vectors learned through small text towers of open_clip: mechanics, and planted truths."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from debias import FairCLIP, load_method
from debias.fair_clip import by_gradient, closed_form, softmax_loss
from debias.method import unit_rows
from debias.soft_prompts import (
    SoftPrompts,
    _placeholder,
    _Prompts,
    encode_in_context,
    learn_soft_prompts,
)
from m4.errors import InputError
from vision.embedder import Embedder, Preprocessing
from vision.model import ModelSettings, build_model, tokenizer
from vision.torchvision_guard import ensure_torchvision

WIDTH, DIMENSION, LENGTH = 32, 24, 16  # of the tower, its embeddings and what it reads
WORDS = {"female": "a woman", "male": "a man", "unsaid": "a person"}
TEXT = {"context_length": LENGTH, "width": WIDTH, "heads": 2, "layers": 2}
TOWERS = ["CLIP", "CustomTextCLIP", "SigLIP", "CoCa"]


def sentence_pieces(texts: list[str]) -> torch.Tensor:
    """Tokens in the manner of SigLIP's: no start, and an end that is also the padding, 1."""
    rows = []
    for text in texts:
        words = [2 + sum(map(ord, word)) % 900 for word in text.split()][: LENGTH - 1]
        rows.append(words + [1] * (LENGTH - len(words)))
    return torch.tensor(rows)


def characters(texts: list[str]) -> torch.Tensor:
    """Tokens of which a word is several."""
    return torch.tensor([[ord(letter) for letter in f"{text:{LENGTH}}"[:LENGTH]] for text in texts])


def sizes() -> ModelSettings:
    return ModelSettings(
        embed_dim=DIMENSION,
        image_size=32,
        patch_size=16,
        image_width=24,
        image_layers=1,
        image_head_width=24,
        context_length=LENGTH,
        text_width=WIDTH,
        text_layers=2,
        text_heads=2,
    )


def build(tower: str) -> Any:
    ensure_torchvision()
    import open_clip

    torch.manual_seed(0)
    if tower == "CLIP":
        return build_model(sizes(), "clip")
    vision = {"image_size": 32, "patch_size": 16, "width": 24, "layers": 1, "head_width": 24}
    if tower == "CustomTextCLIP":
        return open_clip.CustomTextCLIP(DIMENSION, vision, TEXT)
    if tower == "SigLIP":
        mean = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "vocab_size": 1000}
        return open_clip.CustomTextCLIP(DIMENSION, vision, {**TEXT, **mean}, init_logit_bias=-10)
    text = {**TEXT, "embed_cls": True, "output_tokens": True}
    return open_clip.CoCa(DIMENSION, TEXT, text, {**vision, "output_tokens": True})


@cache
def embedder(tower: str = "CLIP") -> Embedder:
    """Random weights, as frozen by nobody; shared, for who learns must leave them as they were."""
    model = build(tower).eval()
    tokenize = sentence_pieces if tower == "SigLIP" else tokenizer(sizes())
    return Embedder(model, tokenize, Preprocessing.of(model), f"small {tower}")


def embedding_of(embedder: Embedder) -> torch.nn.Embedding:
    return getattr(embedder.model, "text", embedder.model).token_embedding


@dataclass(frozen=True, eq=False)
class Planted:
    """Images that lie about what a tower makes of words under a hidden context."""

    images: np.ndarray
    labels: np.ndarray
    codes: np.ndarray
    truth: np.ndarray


def planted(embedder: Embedder, images: int = 150, seed: int = 0) -> Planted:
    hidden = np.random.default_rng(7).normal(scale=0.05, size=(4, WIDTH))
    truth = encode_in_context(embedder, hidden, list(WORDS.values()))
    random = np.random.default_rng(seed)
    codes = np.arange(images) % len(WORDS)
    noise = 0.1 * random.normal(size=(images, DIMENSION)) / np.sqrt(DIMENSION)
    return Planted(truth[codes] + noise, np.array(list(WORDS))[codes], codes, truth)


def learned(example: Planted, of: Embedder | None = None, **changed: Any) -> SoftPrompts:
    given_ = {"context": 4, "steps": 60, **changed}
    return learn_soft_prompts(of or embedder(), example.images, example.labels, WORDS, **given_)


def loss_as_written(images: Any, codes: np.ndarray, prototypes: Any, temperature: float) -> float:
    images, prototypes = unit_rows(images, "images"), unit_rows(prototypes, "prototypes")
    shares = log_softmax(images @ prototypes.T / temperature, axis=1)
    return float(-np.mean([share[code] for share, code in zip(shares, codes, strict=True)]))


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("words", ["a", "a photo of the", "one red cat and two big dogs on a car"])
def test_vectors_that_are_embeddings_of_words_give_encode_text_to_the_bit(tower, words):
    its, phrases = embedder(tower), ["a woman", "man"]
    first = 0 if tower == "SigLIP" else 1
    places = slice(first, first + len(words.split()))
    vectors = embedding_of(its).weight[its.tokenize([words])[0, places]].detach().numpy()
    with torch.no_grad():
        wanted = its.model.encode_text(its.tokenize([f"{words} {phrase}" for phrase in phrases]))
    found = encode_in_context(its, vectors, phrases)
    np.testing.assert_array_equal(found, unit_rows(wanted, "texts"))
    assert np.abs(encode_in_context(its, -vectors, phrases) - found).max() > 1e-3


@pytest.mark.parametrize("tower", TOWERS)
def test_the_gradient_is_that_of_finite_differences(tower):
    its = embedder(tower)
    example = planted(its, images=30)
    double = replace(its, model=build(tower).eval().double())
    prompts = _Prompts.of(double, list(WORDS.values()), 4)
    random = np.random.default_rng(0)
    context = random.normal(scale=0.05, size=(4, WIDTH))
    rows = unit_rows(example.images, "images")

    def value(moved: np.ndarray) -> float:
        prototypes = encode_in_context(double, moved, list(WORDS.values()))
        return loss_as_written(rows, example.codes, prototypes, 0.1)

    loss, gradient = prompts.loss(context, rows, example.codes, 0.1)
    assert loss == pytest.approx(value(context), abs=1e-12)
    for place in range(4):  # every vector, so that none is without effect
        step = np.zeros_like(context)
        step[place] = 1e-5 * random.normal(size=WIDTH)
        slope = value(context + step) - value(context - step)
        assert slope == pytest.approx(2 * np.sum(gradient * step), rel=1e-4)
        assert abs(slope) > 1e-8


@pytest.mark.parametrize("tower", TOWERS)
def test_where_a_context_tells_labels_apart_it_is_as_good_and_better_than_words(tower):
    its = embedder(tower)
    example, held_out = planted(its), planted(its, seed=1)
    found = learned(example, its)

    def loss(on: Planted, prototypes: Any) -> float:
        return loss_as_written(on.images, on.codes, prototypes, 0.01)

    words = its.encode_texts(list(WORDS.values()))
    assert found.loss <= loss(example, example.truth)
    assert loss(held_out, found.prototypes) < 0.5 * loss(held_out, words)
    right = [
        np.mean(np.argmax(held_out.images @ prototypes.T, axis=1) == held_out.codes)
        for prototypes in (words, found.prototypes)
    ]
    assert right[1] >= max(0.9, right[0])


def test_what_it_reports_is_so():
    example = planted(embedder())
    found = learned(example, temperature=0.05)
    phrases = list(found.words.values())
    assert found.context.shape == (4, WIDTH)
    np.testing.assert_array_equal(
        found.prototypes, encode_in_context(embedder(), found.context, phrases)
    )
    assert found.prototypes.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(found.prototypes, axis=1), 1)
    as_written = loss_as_written(example.images, example.codes, found.prototypes, 0.05)
    assert found.loss == pytest.approx(as_written, abs=1e-6)
    words = embedder().encode_texts(phrases)
    as_written = loss_as_written(example.images, example.codes, words, 0.05)
    assert found.loss_of_words == pytest.approx(as_written, abs=1e-6)


def test_prototypes_are_in_the_order_of_sorted_labels():
    example = planted(embedder())
    found = learned(example)
    assert list(found.words.items()) == sorted(WORDS.items())
    shuffled = np.random.default_rng(0).permutation(len(example.codes))
    turned = dict(reversed(WORDS.items()))
    again = learn_soft_prompts(
        embedder(), example.images[shuffled], example.labels[shuffled], turned, context=4, steps=60
    )
    assert list(again.words) == list(found.words)
    right = np.argmax(example.images @ again.prototypes.T, axis=1) == example.codes
    assert np.mean(right) > 0.9


def test_labels_may_be_numbers_and_images_tensors():
    example = planted(embedder())
    words = dict(enumerate(WORDS.values()))
    found = learn_soft_prompts(
        embedder(), torch.from_numpy(example.images), example.codes, words, context=4, steps=5
    )
    assert found.words == words
    np.testing.assert_array_equal(found.prototypes, learned(example, steps=5).prototypes)


def test_the_end_of_the_descent_is_said():
    example = planted(embedder())
    cut = learned(example, steps=3)
    assert not cut.converged
    ended = learned(example, steps=2000)
    assert ended.converged
    assert ended.loss < cut.loss
    np.testing.assert_array_equal(ended.context, learned(example, steps=3000).context)


def test_the_same_seed_gives_the_same_bytes_and_the_global_ones_have_no_part():
    example = planted(embedder())
    torch.manual_seed(1)
    np.random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    one = learned(example, seed=3, steps=10)
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    torch.manual_seed(2)
    np.random.seed(2)
    two, other = (learned(example, seed=seed, steps=10) for seed in (3, 4))
    assert one.context.tobytes() == two.context.tobytes()
    assert one.prototypes.tobytes() == two.prototypes.tobytes()
    assert not np.array_equal(one.context, other.context)


@pytest.mark.parametrize("scale", [1, 5])
def test_the_start_is_as_widely_spread_as_the_embeddings_of_tokens(scale, monkeypatch):
    its = replace(embedder(), model=build("CLIP").eval())
    with torch.no_grad():
        weights = its.model.token_embedding.weight.mul_(scale)
    tried, plain = [], _Prompts.loss
    monkeypatch.setattr(
        _Prompts, "loss", lambda *given_: tried.append(given_[1].copy()) or plain(*given_)
    )
    learned(planted(its), its, context=10, steps=1)
    assert tried[0].std() == pytest.approx(weights.std().item(), rel=0.1)
    assert abs(tried[0].mean()) < 0.2 * tried[0].std()


def state_of(model: torch.nn.Module) -> tuple[Any, ...]:
    """All of a model that learning could change: numbers, flags, gradients, modes and hooks."""
    weights = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    flags = [(name, each.requires_grad, each.grad) for name, each in model.named_parameters()]
    modes = [(name, each.training) for name, each in model.named_modules()]
    hooks = [dict(each._forward_hooks) for each in model.modules()]
    return weights, flags, modes, hooks


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was_also_where_it_fails(tower, fails, monkeypatch):
    model = build(tower).eval()
    for number, each in enumerate(model.parameters()):
        each.requires_grad_(number % 3 > 0)
    before = state_of(model)
    its = replace(embedder(tower), model=model)
    example = planted(its)
    if fails:
        block = getattr(model, "text", model).transformer
        monkeypatch.setattr(block, "forward", lambda *given_, **named: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            encode_in_context(its, np.zeros((4, WIDTH)), ["a woman"])
        with pytest.raises(ZeroDivisionError):
            learned(example, its, steps=3)
    else:
        learned(example, its, steps=3)
    assert state_of(model) == before


def test_the_model_is_left_as_it_was_where_the_fourth_step_fails(monkeypatch):
    its = replace(embedder(), model=build("CLIP").eval())
    example, before = planted(its), state_of(its.model)
    calls = []

    def failing(*given_: Any) -> Any:
        calls.append(len(its.model.token_embedding._forward_hooks))
        if len(calls) == 5:  # one for the words alone, which needs no hook
            raise MemoryError
        return type(its.model).encode_text(its.model, *given_)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(its.model, "encode_text", failing)
        learned(example, its)
    assert calls == [0, 1, 1, 1, 1]
    assert state_of(its.model) == before


def test_it_learns_where_the_caller_has_turned_gradients_off():
    example = planted(embedder())
    with torch.no_grad():
        found = learned(example, steps=5)
        assert not torch.is_grad_enabled()
    np.testing.assert_array_equal(found.context, learned(example, steps=5).context)


@settings(max_examples=40, deadline=None)
@given(
    tower=st.sampled_from(["CLIP", "SigLIP"]),
    context=st.integers(1, LENGTH + 2),
    length=st.integers(1, LENGTH + 2),
)
def test_what_fits_is_taken_and_what_would_be_cut_is_refused_by_name(tower, context, length):
    its, phrase = embedder(tower), " ".join(["tall"] * (length - 1) + ["woman"])
    ends = 1 if tower == "SigLIP" else 2
    vectors = np.zeros((context, WIDTH))
    if context + length + ends <= LENGTH:
        assert encode_in_context(its, vectors, ["man", phrase]).shape == (2, DIMENSION)
        return
    message = f"context of {context} vectors and the phrase '(man|{phrase})' do not fit the 16 tok"
    with pytest.raises(InputError, match=message):
        encode_in_context(its, vectors, ["man", phrase])


@pytest.mark.parametrize("phrase", ["the woman", "the the", "of the", "", "A Woman!", "grand-mère"])
def test_a_phrase_may_begin_with_the_placeholder_or_be_of_any_other_form(phrase):
    its = embedder()
    vectors = embedding_of(its).weight[its.tokenize(["old red"])[0, 1:3]].detach().numpy()
    with torch.no_grad():
        wanted = its.model.encode_text(its.tokenize([f"old red {phrase}"]))
    found = encode_in_context(its, vectors, [phrase])
    np.testing.assert_array_equal(found, unit_rows(wanted, "texts"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"words": {**WORDS, "other": "a child"}}, "words are for .*'other'.* but the labels are"),
        ({"words": {"female": "a woman", "male": "a man"}}, "the labels are .*'unsaid'"),
        ({"words": {**WORDS, "male": "A  Woman"}}, "two of .* are the same tokens"),
        ({"words": {**WORDS, "male": "very " * 20 + "old"}}, "do not fit the 16 tokens that small"),
        ({"context": 13}, "a context of 13 vectors and the phrase 'a woman' do not fit"),
        ({"context": 0}, "context is 0; give at least 1"),
        ({"steps": 0}, "steps is 0; give at least 1"),
        ({"temperature": 0.0}, "temperature is 0.0; give a positive number"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"labels": ["female", "male"]}, "attribute: 2 labels for 150 images"),
        ({"labels": ["female"] * 150}, "attribute: all are 'female'"),
        ({"images": np.ones((150, 5))}, "images have 5 numbers, but texts by small CLIP have 24"),
        ({"images": np.zeros((150, DIMENSION))}, "images: row 0 is all zeros"),
    ],
)
def test_what_does_not_fit_together_is_refused(changed, message):
    example = planted(embedder())
    given_ = {"images": example.images, "labels": example.labels, "words": WORDS, **changed}
    with pytest.raises(InputError, match=message):
        learn_soft_prompts(embedder(), **given_)


def test_a_tower_whose_embedding_of_tokens_cannot_be_found_is_refused():
    class HFTextEncoder(torch.nn.Module):
        """What open_clip wraps around a tower of Hugging Face has as little."""

    model = build("CustomTextCLIP").eval()
    model.text = HFTextEncoder()
    with pytest.raises(InputError, match="text tower of small CLIP is HFTextEncoder, which has no"):
        encode_in_context(replace(embedder(), model=model), np.zeros((4, WIDTH)), ["a woman"])


def unknown(texts: Sequence[str]) -> torch.Tensor:
    return torch.zeros(len(texts), LENGTH, dtype=torch.long)


def pairs(texts: list[str]) -> torch.Tensor:
    """Tokens of which a word is two, the first of them always the same."""
    rows = [[token for word in text.split() for token in (3, 4 + ord(word[0]))] for text in texts]
    return torch.tensor([(row + [1] * LENGTH)[:LENGTH] for row in rows])


@pytest.mark.parametrize("tokenize", [characters, unknown, pairs])
def test_a_tokenizer_that_splits_the_placeholder_or_does_not_know_it_is_refused(
    tokenize: Callable[[list[str]], torch.Tensor],
):
    with pytest.raises(
        InputError, match="tokenizer of small CLIP does not make the word 'the' one"
    ):
        encode_in_context(replace(embedder(), tokenize=tokenize), np.zeros((4, WIDTH)), ["a woman"])


def test_the_placeholder_stands_behind_a_start_where_there_is_one():
    its = embedder("CLIP")
    assert _placeholder(its) == (1, its.tokenize(["the"])[0, 1])
    assert _placeholder(embedder("SigLIP"))[0] == 0


@pytest.mark.parametrize("shape", [(4, WIDTH + 1), (4,), (2, 4, WIDTH)])
def test_a_context_of_another_tower_is_refused(shape):
    with pytest.raises(InputError, match=r"context has the shape .*reads vectors of 32 numbers"):
        encode_in_context(embedder(), np.zeros(shape), ["a woman"])


def test_fair_clip_with_learned_prototypes_makes_images_neutral_to_them(tmp_path):
    example = planted(embedder())
    prototypes = learned(example).prototypes
    rows = unit_rows(example.images, "images")
    given_ = rows, prototypes, rows[:2], 0.1, 1e-3
    np.testing.assert_allclose(by_gradient(*given_), closed_form(*given_), rtol=0, atol=1e-6)

    method = FairCLIP(alpha=0.0, beta=1e-9).fit(images=example.images, attribute_texts=prototypes)
    np.testing.assert_array_equal(method.prototypes_, unit_rows(prototypes, "prototypes"))
    before, after = rows, method.transform_images(example.images)
    assert np.mean(np.argmax(before @ prototypes.T, axis=1) == example.codes) > 0.9
    assert np.ptp(before @ prototypes.T, axis=1).max() > 1e-2
    assert np.ptp(after @ prototypes.T, axis=1).max() < 1e-5
    neutral = softmax_loss(after, example.codes, prototypes, 0.01)[0]
    assert neutral == pytest.approx(np.log(3), abs=1e-2)  # every label as likely as another

    method.save(tmp_path)
    np.testing.assert_array_equal(load_method(tmp_path).matrix_, method.matrix_)


def test_learned_prototypes_of_targets_are_kept():
    example = planted(embedder())
    random = np.random.default_rng(5)
    targets = learned(example).prototypes
    bias = unit_rows(targets[:2] + random.normal(size=(2, DIMENSION)), "bias")
    method = FairCLIP(alpha=1e3).fit(
        images=example.images, attribute_texts=bias, target_texts=targets
    )
    np.testing.assert_array_equal(method.target_prototypes_, unit_rows(targets, "targets"))
    rows = unit_rows(example.images, "images")
    moved = rows @ method.matrix_.T
    np.testing.assert_allclose(moved @ targets.T, rows @ targets.T, atol=1e-3)
    apart = (bias[0] - bias[1]) @ np.stack([rows.T, moved.T])
    assert np.abs(apart[1]).mean() < 0.5 * np.abs(apart[0]).mean()


def test_importing_it_does_not_import_torch():
    code = "import sys, debias.soft_prompts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
