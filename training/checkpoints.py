"""Checkpoints: written whole or not at all, and read back only by the settings that made them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from m4.errors import InputError
from pipelines import storage

NAME = re.compile(r"step-(\d{8,})\.pt")
KEPT = 2  # beside the final one


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that decides how training goes on after a step.

    Attributes
    ----------
    step : optimiser steps taken; also the place in the learning rate's schedule
    settings : of the run, as json
    manifest : fingerprint of the manifest
    model, optimizer : their state
    random : states of torch's generators, of the CPU and of each CUDA device
    epoch, batch : the place in the stream
    samples : that the model has seen
    loss, window : the last loss, and the losses since the last line of the log
    failures : samples set aside, by reason
    receipt : what was read so far of this epoch, as json
    """

    step: int
    settings: dict[str, Any]
    manifest: str
    model: dict[str, Any]
    optimizer: dict[str, Any]
    random: list[torch.Tensor]
    epoch: int
    batch: int
    samples: int
    loss: float
    window: list[float]
    failures: dict[str, int]
    receipt: dict[str, Any]


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


def checkpoint_steps(folder: Path) -> list[int]:
    """Steps of all checkpoints of a folder, ascending."""
    found = (NAME.fullmatch(path.name) for path in folder.glob("step-*.pt"))
    return sorted(int(match.group(1)) for match in found if match)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, final: bool) -> Path:
    """Write a checkpoint, then delete all but the last two; the final one counts extra."""
    path = checkpoint_path(folder, checkpoint.step)
    content = {name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}
    with storage.atomic_output(str(path)) as stream:
        torch.save(content, stream)
    kept = KEPT + final
    for step in checkpoint_steps(folder)[:-kept]:
        checkpoint_path(folder, step).unlink()
    return path


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint to the CPU; no code of the file is run.

    Raises `InputError` where the file is missing or is no checkpoint of this package.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(**content)
    except FileNotFoundError:
        raise InputError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch.load raises whatever the damaged part of the file leads to
        raise InputError(
            f"{path}: not a checkpoint of m4-balance, or damaged ({type(error).__name__}); give "
            "another, or move it away to go on training from the one before"
        ) from None


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The last checkpoint of a folder; files that a killed run left half written are deleted."""
    for partial in folder.glob("step-*.pt.*.partial"):
        partial.unlink()
    steps = checkpoint_steps(folder)
    return read_checkpoint(checkpoint_path(folder, steps[-1])) if steps else None


def check_same_run(
    folder: Path, checkpoint: Checkpoint, settings: dict[str, Any], manifest: str
) -> None:
    """Raise `InputError` unless a checkpoint was made with these settings and this manifest."""
    before, now = _flat(checkpoint.settings), _flat(settings)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise InputError(
                f"{folder}: holds a run with {name} {before.get(name)!r}, but {now.get(name)!r} is "
                "given; use the same settings to go on, or another folder to start anew"
            )
    if checkpoint.manifest != manifest:
        raise InputError(
            f"{folder}: holds a run on another content of manifest {now['manifest']} "
            f"({checkpoint.manifest[:12]}, now {manifest[:12]}); use another folder to start anew"
        )


def _flat(settings: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{name}.")
        else:
            flat[above + name] = value
    return flat
