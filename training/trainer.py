"""Training CLIP or SigLIP on what a manifest lets through; killed and started again, it goes on.

A run is decided by its settings and the manifest. On one machine's CPU a run that was killed, at
any moment, and started again ends with the same bits as one that was not.
"""

import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from m4.errors import InputError
from pipelines import storage
from pipelines.receipts import Receipt, UseCounter
from training.checkpoints import (
    Checkpoint,
    check_same_run,
    checkpoint_path,
    latest_checkpoint,
    save_checkpoint,
)
from training.loader import Batch, Decoded, Loader, LoaderSettings, Position
from training.log import LogLine, TrainingLog
from vision.model import Loss, ModelSettings, build_model, image_format, tokenizer
from vision.torchvision_guard import ensure_torchvision

LARGEST_LOGIT_SCALE = math.log(100)  # Radford et al. 2021, arXiv 2103.00020, section 2.5

Progress = Callable[[int, int], None]


class TrainSettings(LoaderSettings):
    """All that decides a training run, beside what decides its stream.

    Attributes
    ----------
    out : folder of the checkpoints `step-*.pt`, of `log.jsonl`, and of `receipts/`, which say for
        each epoch what was read of the manifest
    steps : of the optimiser, in all
    learning_rate : the highest; it rises over `warmup_steps`, then falls to 0 along a cosine
    weight_decay : of matrices; gains, biases and the logit scale have none
    gradient_clip : largest norm of the gradient
    checkpoint_every, log_every : in steps
    device : "auto" is CUDA where there is one
    precision : "bf16" computes in bfloat16 and keeps the weights in float32; "auto" does so where
        the device multiplies bfloat16 natively
    threads : of torch in this process; None leaves them as they are
    max_failures : share of samples that may be set aside before the run ends with an error
    """

    out: str
    model: ModelSettings = ModelSettings()
    loss: Loss = "clip"
    steps: int = Field(default=1000, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.1, ge=0)
    betas: tuple[float, float] = (0.9, 0.98)
    gradient_clip: float = Field(default=1.0, gt=0)
    checkpoint_every: int = Field(default=100, ge=1)
    log_every: int = Field(default=10, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    threads: int | None = Field(default=None, ge=1)
    max_failures: float = Field(default=0.01, ge=0, le=1)


@dataclass(frozen=True)
class TrainResult:
    """What a finished run has come to.

    Attributes
    ----------
    checkpoint : path of the final one
    steps, samples : in all, those before a restart included
    epochs : that were begun
    seconds : of this call
    loss : of the last step
    failures : samples set aside, by reason
    """

    checkpoint: str
    steps: int
    samples: int
    epochs: int
    seconds: float
    loss: float
    failures: dict[str, int]


def train(
    settings: TrainSettings,
    *,
    progress: Progress | None = None,
    decoded: Decoded | None = None,
) -> TrainResult:
    """Train from the last checkpoint in `out`, or from the start where there is none.

    Parameters
    ----------
    progress : called with (steps done, steps in all) after each step
    decoded : as of `Loader`: what several trainings in one process share

    Raises `InputError` where `out` holds a run with other settings, a batch is larger than an
    epoch, the loss is no number, or too many samples had to be set aside.
    """
    began = time.monotonic()
    settings = _resolved(settings)
    threads = torch.get_num_threads()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        with torch.random.fork_rng():
            run = _Run.open(settings, decoded)
            try:
                run.finish(progress)
            finally:
                run.log.close()
    finally:
        torch.set_num_threads(threads)
    return TrainResult(
        str(checkpoint_path(Path(settings.out), run.step)),
        run.step,
        run.samples,
        run.position.epoch + 1,
        time.monotonic() - began,
        run.loss,
        dict(run.failures),
    )


def _resolved(settings: TrainSettings) -> TrainSettings:
    """The settings with "auto" replaced, so that a resumed run computes as it began."""
    if storage.is_remote(settings.out):
        raise InputError(f"out: {settings.out} is remote; train into a local folder, then copy it")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but train uses one process; start it once, "
            "or give training.Loader to a distributed trainer"
        )
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda is asked for, but torch sees none; use cpu or auto")
    precision = settings.precision
    if precision == "auto":
        native = torch.cuda.is_bf16_supported if device == "cuda" else _cpu_multiplies_bf16
        precision = "bf16" if native() else "fp32"
    return settings.model_copy(update={"device": device, "precision": precision})


def _cpu_multiplies_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported())


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The rate of a step, counted from 0: a linear rise, then half a cosine down to 0."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(settings.steps - settings.warmup_steps, 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _ends_epoch(batch: Batch, batches: Iterator[Batch]) -> bool:
    """Whether a batch is the last of its epoch, which shows only by what would come next.

    Where that cannot be read, the epoch is not known to have ended; training has, all the same.
    """
    try:
        return next(batches).after.epoch > batch.after.epoch
    except InputError:
        return False


def receipt_path(folder: Path, epoch: int) -> Path:
    """Where a run writes what was read in an epoch."""
    return folder / "receipts" / f"epoch-{epoch:05d}.json"


def make_optimizer(model: torch.nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices only.

    The fused kernel updates the 49,408 rows of the token embedding in one pass over memory.
    """
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, settings.learning_rate, settings.betas, fused=True)


def make_loss(name: Loss) -> torch.nn.Module:
    ensure_torchvision()
    from open_clip.loss import ClipLoss, SigLipLoss

    return ClipLoss() if name == "clip" else SigLipLoss()


@contextlib.contextmanager
def _computing(settings: TrainSettings) -> Iterator[None]:
    """The precision of the forward pass."""
    if settings.precision == "fp32":
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.autocast(settings.device, torch.bfloat16))
        if settings.device == "cpu":
            from torch.nn.attention import SDPBackend, sdpa_kernel

            # The backward pass of the CPU's flash attention is several times slower in bfloat16.
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


@dataclass
class _Run:
    """A run in progress."""

    settings: TrainSettings
    model: Any
    optimizer: torch.optim.AdamW
    criterion: torch.nn.Module
    loader: Loader
    log: TrainingLog
    uses: UseCounter
    position: Position = field(default_factory=Position)
    step: int = 0
    samples: int = 0
    loss: float = math.nan
    window: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    @classmethod
    def open(cls, settings: TrainSettings, decoded: Decoded | None) -> "_Run":
        """Set up a run, and take up the last checkpoint where there is one."""
        folder = Path(settings.out)
        folder.mkdir(parents=True, exist_ok=True)
        found = latest_checkpoint(folder)
        torch.manual_seed(settings.seed)
        source = settings.model
        if found is not None:
            source = source.model_copy(update={"pretrained": None})
        model = build_model(source, settings.loss).to(settings.device).train()
        start = Position() if found is None else Position(found.epoch, found.batch)
        tokenize = tokenizer(settings.model)
        loader = Loader(settings, tokenize, image_format(model), start, decoded)
        optimizer = make_optimizer(model, settings)
        if found is not None:
            check_same_run(folder, found, _record(settings), loader.manifest.fingerprint)
        log = TrainingLog(folder / "log.jsonl", step=0 if found is None else found.step)
        uses = UseCounter.begin(loader.manifest, start.epoch)
        criterion = make_loss(settings.loss)
        run = cls(settings, model, optimizer, criterion, loader, log, uses, start)
        if found is not None:
            run._take_up(found)
        return run

    def _take_up(self, found: Checkpoint) -> None:
        self.model.load_state_dict(found.model)
        self.optimizer.load_state_dict(found.optimizer)
        self.step, self.samples, self.loss = found.step, found.samples, found.loss
        self.window, self.failures = list(found.window), Counter(found.failures)
        self.uses = UseCounter(Receipt.model_validate(found.receipt))
        torch.set_rng_state(found.random[0])
        if self.settings.device == "cuda":
            torch.cuda.set_rng_state_all(found.random[1:])

    def finish(self, progress: Progress | None) -> None:
        """Take the remaining steps."""
        steps, since, seen = self.settings.steps, time.monotonic(), self.samples
        if self.step == steps:
            self._write_receipt(finished=False)  # unless the checkpoint's says that it was
            return
        batches = iter(self.loader)
        while self.step < steps:
            batch = next(batches)
            if batch.after.epoch > self.position.epoch:
                self._write_receipt(finished=True)
                self.uses = UseCounter.begin(self.loader.manifest, batch.after.epoch)
            self.position = batch.after
            self._count(batch)
            if not batch.uids:
                continue
            rate = learning_rate(self.settings, self.step)
            self.loss = self._update(batch, rate)
            self.step += 1
            self.window.append(self.loss)
            if self.step % self.settings.log_every == 0 or self.step == steps:
                now = time.monotonic()
                self._write_line(rate, (self.samples - seen) / max(now - since, 1e-9))
                since, seen = now, self.samples
            if self.step % self.settings.checkpoint_every == 0 or self.step == steps:
                final = self.step == steps
                self._check_failures(final=final)
                self._save(epoch_ends=final and _ends_epoch(batch, batches))
            if progress is not None:
                progress(self.step, steps)

    def _count(self, batch: Batch) -> None:
        self.samples += len(batch.uids)
        self.failures.update(failure.reason for failure in batch.failures)
        self.uses.count(batch.uses)
        self.uses.count(batch.unused, failed=True)
        self._check_failures(final=False)

    def _check_failures(self, *, final: bool) -> None:
        """Stop when too many failed: of all samples so far, or of one pass if that is more."""
        failed = self.failures.total()
        tried = self.samples + failed
        of = tried if final else max(tried, self.loader.manifest.total_rows)
        if failed > self.settings.max_failures * of:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.failures.items())
            raise InputError(
                f"{self.settings.manifest}: {failed} of {tried} samples could not be used, more "
                f"than max_failures {self.settings.max_failures:g} allows ({reasons}); mend the "
                "shards, run annotate and apply again, or raise max_failures"
            )

    def _update(self, batch: Batch, rate: float) -> float:
        """One optimiser step; returns the loss."""
        device = self.settings.device
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with _computing(self.settings):
            images = self.model.encode_image(batch.images.to(device), normalize=True)
            texts = self.model.encode_text(batch.tokens.to(device), normalize=True)
        rest = [self.model.logit_scale.exp()]
        if self.model.logit_bias is not None:
            rest.append(self.model.logit_bias)
        loss = self.criterion(images.float(), texts.float(), *rest)
        number = loss.item()
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.settings.gradient_clip, foreach=True
        ).item()
        if not (math.isfinite(number) and math.isfinite(norm)):
            raise InputError(
                f"{self.settings.out}: step {self.step + 1}: the loss is {number} and the norm of "
                f"its gradient {norm}; lower learning_rate ({self.settings.learning_rate:g}) or "
                "raise warmup_steps, and use another folder"
            )
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, LARGEST_LOGIT_SCALE)
        return number

    def _write_line(self, rate: float, speed: float) -> None:
        mean = math.fsum(self.window) / len(self.window)
        scale = self.model.logit_scale.exp().item()
        epoch = self.position.epoch
        self.log.add(LogLine(self.step, epoch, self.samples, mean, rate, scale, speed))
        self.window.clear()

    def _write_receipt(self, *, finished: bool) -> Receipt:
        """Write what was read of this epoch. A run that is taken up again writes it anew."""
        receipt = self.uses.receipt(finished=finished)
        receipt.write(str(receipt_path(Path(self.settings.out), self.position.epoch)))
        return receipt

    def _save(self, *, epoch_ends: bool) -> None:
        cuda = self.settings.device == "cuda"
        generators = torch.cuda.get_rng_state_all() if cuda else []
        self.log.secure()
        save_checkpoint(
            Path(self.settings.out),
            Checkpoint(
                step=self.step,
                settings=_record(self.settings),
                manifest=self.loader.manifest.fingerprint,
                model=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                random=[torch.get_rng_state(), *generators],
                epoch=self.position.epoch,
                batch=self.position.batch,
                samples=self.samples,
                loss=self.loss,
                window=list(self.window),
                failures=dict(self.failures),
                receipt=self._write_receipt(finished=epoch_ends).model_dump(mode="json"),
            ),
            final=self.step == self.settings.steps,
        )


def _record(settings: TrainSettings) -> dict[str, Any]:
    """The settings as they stand in a checkpoint; the folder may be moved."""
    return settings.model_dump(mode="json", exclude={"out"})
