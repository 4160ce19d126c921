"""Joint removal of bias from images and texts: two small modules behind frozen encoders.

Zhang, Guo and Kankanhalli, "Joint Vision-Language Social Bias Removal for CLIP" (CVPR 2025, arXiv
2411.12785).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from debias.method import Method, unit_rows
from m4.errors import InputError

if TYPE_CHECKING:
    from torch import Generator, Tensor

ALIGNER = ("aligner_in_", "aligner_in_offset_", "aligner_out_", "aligner_out_offset_")
REMOVER = ("remover_in_", "remover_in_offset_", "remover_out_", "remover_out_offset_")


@dataclass(eq=False)
class JointDebias(Method):
    """Moves images and texts by two modules, trained so that both lose the same bias.

    With MLP(h) = ReLU(ReLU(h A' + a) B + b), n(.) of unit length, and rows v and t of unit length,
        text   t~ = t + remover(t),    image   v~ = v + remover(v + aligner(v)),
        b_t = n(t) - n(t~),    b_v = n(v) - n(v~);
    Q_v and Q_t are queues of original pairs, T the temperature, shares(x, Q) = softmax(x Q'/T):
        L_ba = KL(shares(b_t, Q_t) || shares(b_v, Q_v))
        L_cd = 1/2 [CE(shares(n(v), Q_t), shares(n(v~), Q_t))
                    + CE(shares(n(t), Q_v), shares(n(a), Q_v))]
        L    = (1 - bias_weight) L_cd + bias_weight L_ba,
    where a is t~ or, by one coin a batch, the moved counterfactual text: the text with the
    attribute replaced. After `soft_after` epochs the targets of L_cd, its first shares, are
    1 - soft_share of what they were and soft_share of those of v~ and t~ by modules that are an
    exponential mean of the trained ones.

    Published (the authors' code): the modules, both losses, every default, and that the epoch of
    highest ABLE (`AbleScore`) is kept. Ours: rows of unit length, where theirs are as long as the
    encoder makes them; pairs are shuffled once, where theirs keep the order of the files; the
    queues start with originals, where theirs start at random; `queue` counts the pairs of the
    batch, where theirs come on top of its number; `score` is asked after each epoch, not each
    second one; and that leaving all as it is stands for election too, as epoch 0.

    Does not help where counterfactuals say the same as the texts, the only source of what bias is:
    the modules then learn to do next to nothing. Nor in few steps: on 2,048 planted pairs of 512
    numbers, 100 epochs at the published learning rate took MaxSkew@100 from .63 to .61; sets of
    600 pairs needed 1e-3. Nor, with the published bias_weight, where noise outweighs the bias:
    L_ba is 0 where nothing moves, and holds the modules back. On planted pairs held out, means of
    6 seeds, MaxSkew@100 went from .57 to .33 (accuracy from .93 to .91), and with more noise from
    .43 to .39; with a bias_weight of 0 to .13 in both, for no more accuracy.

    Parameters
    ----------
    aligner_width, remover_width : hidden units of the two modules, >= 1
    temperature : T, > 0
    queue : pairs in the queues, >= 2: the last ones, those of the batch included. Where there are
        fewer to learn from, it is all of them, each once
    learning_rate : of Adam, > 0
    batch_size, epochs : >= 1
    bias_weight : weight of L_ba, in [0, 1]; `AbleScore` can choose it
    momentum : share that the exponential mean keeps at each step, in [0, 1]
    soft_after : epochs with the original targets, >= 0
    soft_share : share of the exponential mean in later targets, in [0, 1]
    patience : epochs without a better score after which training stops, >= 1; no score, no stop
    seed : of the order, the first weights, the coins and the choice of counterfactuals

    Attributes
    ----------
    epoch_ : the epoch that was kept; 0: none was better than leaving all as it is
    scores_ : of each epoch, that of leaving all as it is first; empty without a score
    losses_ : mean L of each epoch, from the first

    These tell of `fit` and are not saved: after `load_method`, epoch_ is None, the others empty.
    """

    LEARNED: ClassVar[tuple[str, ...]] = (*ALIGNER, *REMOVER)
    OTHER_AXES: ClassVar[tuple[str, ...]] = ("aligner_in_offset_", "remover_in_offset_")

    aligner_width: int = 512
    remover_width: int = 1024
    temperature: float = 0.07
    queue: int = 65_536
    learning_rate: float = 5e-6
    batch_size: int = 512
    epochs: int = 100
    bias_weight: float = 0.7
    momentum: float = 0.995
    soft_after: int = 5
    soft_share: float = 0.4
    patience: int = 20
    seed: int = 0

    epoch_: int | None = field(default=None, init=False)
    scores_: tuple[float, ...] = field(default=(), init=False)
    losses_: tuple[float, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "learning_rate"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} is {value}; give a positive number, such as 0.001")
        for name in ("bias_weight", "momentum", "soft_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; give a number from 0 to 1")
        for name in ("aligner_width", "remover_width", "batch_size", "epochs", "patience"):
            _check_least(name, getattr(self, name), 1)
        for name, least in (("queue", 2), ("soft_after", 0), ("seed", 0)):
            _check_least(name, getattr(self, name), least)

    def fit(
        self,
        *,
        images: Any,
        texts: Any,
        counterfactuals: Any,
        score: "Callable[[JointDebias], float] | None" = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Learn from n images (n, d), the text of each (n, d), and its counterfactual texts.

        `counterfactuals` are (n, d), or (n, c, d) where the attribute has several other values:
        one of the c is then drawn each time. Training is in single precision, on the device of
        the images. `score` is called with the method as it would be if training ended there,
        higher being better, and the epoch of its highest value is kept; without one, the last
        epoch is kept. `progress` is called with (epochs done, epochs in all) after each. Raises
        `InputError` where numbers of rows or dimensions disagree, there are fewer than 2 pairs, a
        row has no direction, or a loss or score is not finite.
        """
        import torch

        random = torch.Generator().manual_seed(self.seed)
        training = _Training(self, _Pairs.of(images, texts, counterfactuals, random), random)
        kept, best = training.unmoved(), 0
        losses, scores = [], [] if score is None else [_scored(score, kept, 0)]
        for epoch in range(1, self.epochs + 1):
            loss = training.epoch(soft=epoch > self.soft_after)
            losses.append(_finite(loss, f"loss of epoch {epoch}", "lower the learning_rate"))
            now = training.trained()
            if score is not None:
                scores.append(_scored(score, now, epoch))
            if score is None or scores[epoch] > scores[best]:
                kept, best = now, epoch
            if progress is not None:
                progress(epoch, self.epochs)
            if epoch - best == self.patience:
                break
        for name in self.LEARNED:
            setattr(self, name, getattr(kept, name))
        self.epoch_, self.scores_, self.losses_ = best, tuple(scores), tuple(losses)
        return self._fitted(kept.dimension_)

    def _images(self, rows: Any) -> Any:
        return rows + self._module(REMOVER, rows + self._module(ALIGNER, rows))

    def _texts(self, rows: Any) -> Any:
        return rows + self._module(REMOVER, rows)

    def _module(self, names: tuple[str, ...], rows: Any) -> Any:
        inner, inner_offset, outer, outer_offset = (getattr(self, name) for name in names)
        return _positive(_positive(rows @ inner.T + inner_offset) @ outer + outer_offset)


def bias_alignment(
    text_biases: "Tensor",
    image_biases: "Tensor",
    texts: "Tensor",
    images: "Tensor",
    temperature: float,
) -> "Tensor":
    """L_ba, the mean over pairs of KL(softmax(b_t Q_t'/T) || softmax(b_v Q_v'/T)).

    `text_biases`, `image_biases` (n, d) are of the same pairs; `texts`, `images` (q, d) the queues.
    """
    wanted = (text_biases @ texts.T / temperature).log_softmax(dim=1)
    found = (image_biases @ images.T / temperature).log_softmax(dim=1)
    return (wanted.exp() * (wanted - found)).sum(dim=1).mean()


def distillation(
    targets: "Tensor", rows: "Tensor", queue: "Tensor", temperature: float
) -> "Tensor":
    """One half of L_cd: the mean cross-entropy of targets (n, q) and shares of rows (n, d)."""
    found = (rows @ queue.T / temperature).log_softmax(dim=1)
    return -(targets * found).sum(dim=1).mean()


def shares(rows: "Tensor", queue: "Tensor", temperature: float) -> "Tensor":
    """softmax(x Q'/T) of rows x (n, d) over a queue Q (q, d), as (n, q)."""
    return (rows @ queue.T / temperature).softmax(dim=1)


def queued(rows: "Tensor", size: int) -> "Tensor":
    """All states of a queue of `size` rows through which rows (n, d) go in turn, again and again.

    When row i - 1 has come in, the first out of the n, the queue is `[i : i + size]` of what is
    returned, (size + n, d): at first the last rows of the n, as if they had gone through before.
    """
    import torch

    return torch.cat([rows[len(rows) - size :], rows])


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Originals in the order of training: images and texts (n, d), counterfactuals (n, c, d)."""

    images: "Tensor"
    texts: "Tensor"
    counterfactuals: "Tensor"

    @classmethod
    def of(cls, images: Any, texts: Any, counterfactuals: Any, random: "Generator") -> "_Pairs":
        import torch

        if not isinstance(counterfactuals, torch.Tensor):
            counterfactuals = _numbers(counterfactuals)
        if counterfactuals.ndim == 2:
            counterfactuals = counterfactuals[:, None]
        if counterfactuals.ndim != 3 or not counterfactuals.shape[1]:
            raise InputError(
                f"counterfactuals have shape {tuple(counterfactuals.shape)}; give (n, d), or "
                "(n, c, d) with c of them for each text"
            )
        v, t = unit_rows(images, "images"), unit_rows(texts, "texts")
        kinds = range(counterfactuals.shape[1])
        c = np.stack([unit_rows(counterfactuals[:, kind], "counterfactuals") for kind in kinds], 1)
        if not (v.shape == t.shape == (len(c), c.shape[2])):
            raise InputError(
                f"images have shape {v.shape}, texts {t.shape}, counterfactuals {c.shape}; give "
                "one text, and counterfactuals of it, for each image, encoded with one model"
            )
        if len(v) < 2:
            raise InputError("1 pair of an image and a text; give at least 2 to compare")
        order = torch.randperm(len(v), generator=random)
        device = getattr(images, "device", "cpu")
        return cls(*(torch.from_numpy(each).float()[order].to(device) for each in (v, t, c)))


class _Training:
    """Modules in training: `live`, and `mean`, their exponential mean over the steps."""

    def __init__(self, settings: JointDebias, pairs: _Pairs, random: "Generator") -> None:
        import torch

        self.settings, self.pairs, self.random = settings, pairs, random
        self.size = min(settings.queue, len(pairs.images))
        self.images, self.texts = (queued(each, self.size) for each in (pairs.images, pairs.texts))
        widths, d = (settings.aligner_width, settings.remover_width), pairs.images.shape[1]
        drawn = [array for width in widths for array in _first_weights(width, d, random)]
        self.weights = [array.to(pairs.images.device).requires_grad_() for array in drawn]
        self.means = [array.detach().clone() for array in self.weights]
        self.live, self.mean = self._with(self.weights), self._with(self.means)
        self.optimiser = torch.optim.Adam(self.weights, settings.learning_rate)

    def trained(self) -> JointDebias:
        """The method as it stands."""
        return self._with([array.detach().cpu().double().numpy() for array in self.weights])

    def unmoved(self) -> JointDebias:
        """The method that leaves all as it is."""
        return self._with([np.zeros(array.shape) for array in self.weights])

    def epoch(self, soft: bool) -> float:
        """Take each pair once; the mean loss."""
        total, n, size = 0.0, len(self.pairs.images), self.settings.batch_size
        for first in range(0, n, size):
            rows = slice(first, min(first + size, n))
            loss = self.loss(rows, soft)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            for mean, weight in zip(self.means, self.weights, strict=True):
                mean.lerp_(weight.detach(), 1 - self.settings.momentum)
            total += loss.item() * (rows.stop - first)
        return total / n

    def loss(self, rows: slice, soft: bool) -> "Tensor":
        """L of some pairs, the last ones that came into the queues."""
        temperature, weight = self.settings.temperature, self.settings.bias_weight
        window = slice(rows.stop, rows.stop + self.size)
        all_images, all_texts = self.images[window], self.texts[window]
        images, texts = self.pairs.images[rows], self.pairs.texts[rows]
        image_targets = shares(images, all_texts, temperature)
        text_targets = shares(texts, all_images, temperature)
        if soft:
            share = self.settings.soft_share
            slow_images, slow_texts = _moved(self.mean, images, texts)
            image_targets.lerp_(shares(slow_images, all_texts, temperature), share)
            text_targets.lerp_(shares(slow_texts, all_images, temperature), share)
        new_images, new_texts = _moved(self.live, images, texts)
        anchor = self._text_or_other(rows, new_texts)
        of_images = distillation(image_targets, new_images, all_texts, temperature)
        of_texts = distillation(text_targets, anchor, all_images, temperature)
        alignment = bias_alignment(
            texts - new_texts, images - new_images, all_texts, all_images, temperature
        )
        return weight * alignment + (1 - weight) * (of_images + of_texts) / 2

    def _text_or_other(self, rows: slice, new_texts: "Tensor") -> "Tensor":
        """By one coin, the moved texts or a moved counterfactual of each."""
        import torch

        if torch.rand((), generator=self.random) < 0.5:
            return new_texts
        others = self.pairs.counterfactuals[rows]
        kind = torch.randint(others.shape[1], (len(others),), generator=self.random)
        return _unit(self.live._texts(others[torch.arange(len(others)), kind]))

    def _with(self, arrays: Sequence[Any]) -> JointDebias:
        method = self.settings.with_arrays(dict(zip(JointDebias.LEARNED, arrays, strict=True)))
        method.dimension_ = self.pairs.images.shape[1]
        return method


def _moved(method: JointDebias, images: "Tensor", texts: "Tensor") -> tuple["Tensor", "Tensor"]:
    return _unit(method._images(images)), _unit(method._texts(texts))


def _unit(rows: "Tensor") -> "Tensor":
    from torch.nn.functional import normalize

    return normalize(rows, dim=1)


def _first_weights(width: int, d: int, random: "Generator") -> list["Tensor"]:
    """Uniform within one over the root of the inputs of a unit, as layers of torch start."""
    import torch

    shapes = ((width, d), (width,), (width, d), (d,))
    return [
        (2 * torch.rand(shape, generator=random) - 1) / math.sqrt(inputs)
        for shape, inputs in zip(shapes, (d, d, width, width), strict=True)
    ]


def _positive(rows: Any) -> Any:
    """ReLU of arrays or tensors."""
    return rows * (rows > 0)


def _numbers(counterfactuals: Any) -> np.ndarray:
    try:
        return np.asarray(counterfactuals, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"counterfactuals are no array of numbers: {error}; give (n, d), or (n, c, d) with c "
            "of them for each text, as many for every text"
        ) from None


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} is {value}; give at least {least}")


def _scored(score: Callable[[JointDebias], float], method: JointDebias, epoch: int) -> float:
    return _finite(score(method), f"score of epoch {epoch}", "give one that always is a number")


def _finite(value: float, what: str, remedy: str) -> float:
    if not math.isfinite(value):
        raise InputError(f"the {what} is {value}; {remedy}")
    return float(value)
