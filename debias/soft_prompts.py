"""FairCLIP's prototypes as words: context vectors learned through a frozen text tower."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from debias.fair_clip import softmax_loss
from debias.labels import coded
from debias.method import unit_rows
from m4.errors import InputError

if TYPE_CHECKING:
    import torch

    from vision.embedder import Embedder

PLACEHOLDER, OTHER = "the", "of"  # one token each in every vocabulary with English
SMALL_FALL = 1e-5  # of the loss in one step; single precision hides much smaller ones


@dataclass(frozen=True, eq=False)
class SoftPrompts:
    """What `learn_soft_prompts` found.

    Attributes
    ----------
    words : label -> phrase after the context, in the order of the prototypes: of sorted labels
    context : v_1..v_M (M, width), the vectors that stand where the embeddings of M words would
    prototypes : p_j (k, d) float64 of unit length, what the tower makes of context and phrase j
    loss_of_words : the loss of the phrases alone, without context, as the embedder encodes them
    loss : the loss of the prototypes
    converged : whether a step lowered the loss by less than 1e-5 (of it, or of 1 below that), at
        which the descent ends; False: after the largest number of steps, or where rounding hid
        the way down
    """

    words: Mapping[Any, str]
    context: np.ndarray
    prototypes: np.ndarray
    loss_of_words: float
    loss: float
    converged: bool


def learn_soft_prompts(
    embedder: "Embedder",
    images: Any,
    labels: Sequence[Any],
    words: Mapping[Any, str],
    *,
    context: int = 8,
    temperature: float = 0.01,
    steps: int = 500,
    seed: int = 0,
) -> SoftPrompts:
    """Prototypes of labels, of words under a context that tells the labels apart.

    A RECONSTRUCTION of the first step of FairCLIP, as `debias.FairCLIP` is of the second. With
    g(t_j) what the text tower makes of context vectors v_1..v_M and then the phrase of label j,
        min_v -mean_i log softmax_j(cos(f_i, g(t_j)) / tau)[a_i],    p_j = n(g(t_j)).

    Published: prototypes come from queries with a learned prefix of word vectors. Ours: the loss,
    a prefix shared by all labels, the start (normal noise, as widely spread as the tower's
    embeddings of tokens), L-BFGS with all images in every step, and the defaults. The loss is not
    convex: another seed ends elsewhere.

    Parameters
    ----------
    embedder : of the images; its model is left as it was, and none else may use it meanwhile
    images : embeddings (n, d)
    labels : n labels of the attribute, two or more distinct ones
    words : phrase of each label, {"female": "a woman", "male": "a man"}
    context : M, at least 1; 4 to 16 are usual
    temperature : tau > 0; .01 is that of OpenAI's CLIP
    steps : of L-BFGS at most, at least 1
    seed : of the start

    The same bytes for the same input and seed, on a CPU. Raises `InputError` where numbers of rows
    or dimensions disagree, a label has no phrase or a phrase no label, a phrase in its context is
    longer than what the tower reads, two phrases are the same tokens, or the tower has no
    embedding of tokens that can be found, as those of Hugging Face.
    """
    _check_settings(context, temperature, steps)
    rows = unit_rows(images, "images")
    distinct, codes = coded(labels, len(rows), "attribute")
    words = _in_order(words, distinct)
    phrases = list(words.values())
    prompts = _Prompts.of(embedder, phrases, context)
    if len(prompts.tokens.unique(dim=0)) < len(phrases):
        raise InputError(f"words: two of {phrases} are the same tokens; give each label its own")
    alone = unit_rows(embedder.encode_texts(phrases), "words")
    if alone.shape[1] != rows.shape[1]:
        raise InputError(
            f"images have {rows.shape[1]} numbers, but texts by {embedder.name} have "
            f"{alone.shape[1]}; give the embedder that the images were encoded with"
        )

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = prompts.loss(flat.reshape(context, -1), rows, codes, temperature)
        return value, slope.ravel()

    noise = np.random.default_rng(seed).normal(size=(context, prompts.width))
    start = prompts.spread * noise.ravel()
    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 20, "ftol": SMALL_FALL, "gtol": 0}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    vectors = found.x.reshape(context, -1)
    return SoftPrompts(
        words=words,
        context=vectors,
        prototypes=encode_in_context(embedder, vectors, phrases),
        loss_of_words=softmax_loss(rows, codes, alone, temperature)[0],
        loss=float(found.fun),
        converged=bool(found.success),
    )


def encode_in_context(
    embedder: "Embedder", context: np.ndarray, phrases: Sequence[str]
) -> np.ndarray:
    """Embeddings of phrases after context vectors (M, width); (n, d) float64 of unit length.

    On CUDA in the precision of the model's weights, which is more than that of
    `Embedder.encode_texts`. Raises `InputError` where phrases or tower cannot be used, as
    `learn_soft_prompts`, or vectors of this width do not fit the tower.
    """
    import torch

    prompts = _Prompts.of(embedder, phrases, len(context))
    if context.shape != (len(context), prompts.width):
        raise InputError(
            f"context has the shape {context.shape}, but the text tower of {embedder.name} reads "
            f"vectors of {prompts.width} numbers; learn it with this model"
        )
    with torch.no_grad():
        return unit_rows(prompts.features(prompts.vectors(context)), "phrases")


@dataclass(frozen=True, eq=False)
class _Prompts:
    """Phrases as tokens (k, L), in which placeholders from `first` on make room for vectors."""

    model: Any
    embedding: "torch.nn.Embedding"
    tokens: "torch.Tensor"
    first: int

    @classmethod
    def of(cls, embedder: "Embedder", phrases: Sequence[str], context: int) -> "_Prompts":
        embedding = _token_embedding(embedder)
        first, stand_in = _placeholder(embedder)
        alone = embedder.tokenize(list(phrases))
        tokens = embedder.tokenize([f"{PLACEHOLDER} " * context + phrase for phrase in phrases])
        for phrase, short, full in zip(phrases, alone.tolist(), tokens.tolist(), strict=True):
            padding = short[-1:] * context
            if short[:first] + [stand_in] * context + short[first:] != full + padding:
                raise InputError(
                    f"a context of {context} vectors and the phrase {phrase!r} do not fit the "
                    f"{len(full)} tokens that {embedder.name} reads; shorten one of them"
                )
        return cls(embedder.model, embedding, tokens.to(embedder.device), first)

    @property
    def width(self) -> int:
        """Numbers in the embedding of a token."""
        return self.embedding.embedding_dim

    @property
    def spread(self) -> float:
        """The standard deviation of the numbers in the embeddings of all tokens."""
        return float(self.embedding.weight.detach().float().std())

    def vectors(self, context: np.ndarray) -> "torch.Tensor":
        """Context vectors in the type and on the device of the tower's embeddings."""
        import torch

        return torch.tensor(context).to(self.embedding.weight)

    def features(self, vectors: "torch.Tensor") -> "torch.Tensor":
        """What the tower makes of vectors (M, width) and phrases, (k, d)."""
        with _replacing(self.embedding, self.first, vectors):
            features: torch.Tensor = self.model.encode_text(self.tokens)
        return features

    def loss(
        self, context: np.ndarray, rows: np.ndarray, codes: np.ndarray, temperature: float
    ) -> tuple[float, np.ndarray]:
        """`softmax_loss` under context vectors, and its gradient in these, both (M, width)."""
        import torch

        with torch.enable_grad():
            vectors = self.vectors(context).requires_grad_()
            features = self.features(vectors)
        prototypes = features.detach().cpu().double().numpy()
        value, slope = softmax_loss(rows, codes, prototypes, temperature)
        # Of the vectors only: no weight gets a gradient, whether it asks for one or not.
        (gradient,) = torch.autograd.grad(features, vectors, torch.from_numpy(slope).to(features))
        return value, gradient.cpu().double().numpy()


@contextmanager
def _replacing(
    embedding: "torch.nn.Embedding", first: int, vectors: "torch.Tensor"
) -> Iterator[None]:
    """Put vectors (M, width) in place of the embeddings of the tokens from `first` on."""
    import torch

    def replaced(module: Any, given: Any, embedded: "torch.Tensor") -> "torch.Tensor":
        middle = vectors.expand(len(embedded), -1, -1)
        after = embedded[:, first + len(vectors) :]
        return torch.cat([embedded[:, :first], middle, after], dim=1)

    hook = embedding.register_forward_hook(replaced)
    try:
        yield
    finally:
        hook.remove()


def _token_embedding(embedder: "Embedder") -> "torch.nn.Embedding":
    tower = getattr(embedder.model, "text", embedder.model)
    embedding: torch.nn.Embedding | None = getattr(tower, "token_embedding", None)
    if embedding is None:
        raise InputError(
            f"the text tower of {embedder.name} is {type(tower).__name__}, which has no "
            "token_embedding; take a model with a text tower of open_clip's own"
        )
    return embedding


def _placeholder(embedder: "Embedder") -> tuple[int, int]:
    """The place of a text's first word among its tokens, and the placeholder's token.

    Raises `InputError` where the tokenizer does not give it one token, whatever word follows.
    """
    once, other, twice = embedder.tokenize(
        [PLACEHOLDER, OTHER, f"{PLACEHOLDER} {PLACEHOLDER}"]
    ).tolist()
    places = [place for place, token in enumerate(once) if token != other[place]]
    first = places[0] if places else 0
    if len(places) != 1 or twice[first : first + 2] != [once[first]] * 2:
        raise InputError(
            f"the tokenizer of {embedder.name} does not make the word {PLACEHOLDER!r} one token, "
            "so that no room can be made for context vectors; take another model"
        )
    return first, once[first]


def _in_order(words: Mapping[Any, str], labels: list[Any]) -> dict[Any, str]:
    if set(words) != set(labels):
        raise InputError(
            f"words are for {list(words)}, but the labels are {labels}; give a phrase for each "
            "label, and for no other"
        )
    return {label: words[label] for label in labels}


def _check_settings(context: int, temperature: float, steps: int) -> None:
    for name, value in {"context": context, "steps": steps}.items():
        if value < 1:
            raise InputError(f"{name} is {value}; give at least 1")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise InputError(f"temperature is {temperature}; give a positive number, such as 0.01")
