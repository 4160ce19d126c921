"""The training log: one line of JSON every few steps."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from pipelines import storage


@dataclass(frozen=True)
class LogLine:
    """How training stands at a step.

    Attributes
    ----------
    step, epoch, samples : so far
    loss : mean over the steps since the line before
    learning_rate, logit_scale : at this step; the scale as it multiplies the similarities
    samples_per_second : since the line before
    """

    step: int
    epoch: int
    samples: int
    loss: float
    learning_rate: float
    logit_scale: float
    samples_per_second: float


class TrainingLog:
    """`log.jsonl` of a run. Lines after `step`, which a killed run left, are cut off."""

    def __init__(self, path: Path, *, step: int):
        kept = [line for line in read_log(path) if line.step <= step]
        content = "".join(_text(line) for line in kept)
        storage.write_bytes(str(path), content.encode())
        self._stream: TextIO = path.open("a")

    def add(self, line: LogLine) -> None:
        self._stream.write(_text(line))
        self._stream.flush()

    def secure(self) -> None:
        """Have the lines on the disk before a checkpoint says that they are there."""
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        self._stream.close()


def _text(line: LogLine) -> str:
    return json.dumps(asdict(line)) + "\n"


def read_log(path: Path) -> list[LogLine]:
    """All whole lines of a log; none where there is no file yet."""
    if not path.exists():
        return []
    whole = path.read_text().split("\n")[:-1]  # what follows the last line break is half a line
    return [LogLine(**json.loads(line)) for line in whole]
