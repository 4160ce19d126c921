"""m4-balance train."""

from dataclasses import asdict

from commands.console import Shown, table_of
from training.trainer import TrainSettings, train


def command(settings: TrainSettings, shown: Shown = Shown()) -> None:
    """Train a CLIP or SigLIP on the shards, each sample as often as the manifest says."""
    with shown.progress("train") as progress:
        result = train(settings, progress=progress)
    rows = [
        ("checkpoint", result.checkpoint),
        ("steps", f"{result.steps:,}"),
        ("samples", f"{result.samples:,}"),
        ("epochs begun", f"{result.epochs:,}"),
        ("loss of the last step", f"{result.loss:.4f}"),
        ("seconds", f"{result.seconds:.1f}"),
    ]
    shown.result(asdict(result), table_of("Training", ("", ""), rows))
