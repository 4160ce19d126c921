"""m4-balance demo: the whole chain on pictures that it draws."""

from functools import partial
from importlib.resources import files
from pathlib import Path

from pydantic import Field

from commands.console import Shown
from commands.run import RunSettings, run, show
from m4.catalogue import Model
from m4.errors import InputError
from pipelines.beam import Progress
from reporting.contents import Contents
from synthetic.shards import write_shards
from synthetic.world import WorldSettings

GALLERY_SEED = 1_000_003  # far from the seeds of the training pictures


class DemoSettings(Model):
    """Settings of the demonstration."""

    run: str = Field(default="runs/demo", description="run directory")
    pictures: int = Field(default=14_000, ge=1000, description="training pictures to draw")
    gallery: int = Field(default=1200, ge=200, description="held-out pictures to draw")
    steps: int = Field(default=800, ge=1, description="training steps of each model")
    processes: int = Field(default=2, ge=1, description="processes for drawing and training")
    seed: int = Field(default=0, ge=0, description="of the pictures")


def demo(settings: DemoSettings, shown: Shown = Shown(quiet=True)) -> Contents:
    """Draw shards with planted stereotypes, balance them, train on both and compare.

    The gallery has as many women as men in every occupation and among the people without one.
    """
    folder = Path(settings.run)
    world = WorldSettings(
        pictures=settings.pictures,
        seed=settings.seed,
        portraits=0.38,
        off_duty=0.12,
        empty=0.05,
        gender_named=0.90,
        gender_hidden=0.10,
        portraits_hidden=0.45,
        men_share_of_portraits=0.85,
    )
    gallery = WorldSettings(
        pictures=settings.gallery,
        shards=2,
        seed=settings.seed + GALLERY_SEED,
        skewed=False,
        portraits=0.80,
        empty=0.05,
        gender_hidden=0.10,
        portraits_hidden=0.50,
    )
    for name, drawn in (("shards", world), ("gallery-shards", gallery)):
        _draw(folder / name, drawn, settings.processes, shown)
    return run(run_settings(settings), shown)


def _draw(folder: Path, world: WorldSettings, processes: int, shown: Shown) -> None:
    """Draw a world's shards, unless they stand already."""
    marker = folder.with_suffix(".json")
    if marker.exists():
        if marker.read_text() == world.model_dump_json():
            return
        raise InputError(
            f"{folder}: holds pictures drawn with other settings; name another run directory "
            "with --run, or delete this one"
        )
    with shown.progress(f"draw {folder.name}") as progress:
        tell = partial(_tell, progress, world.pictures)
        write_shards(folder, world, processes=processes, progress=tell)
    marker.write_text(world.model_dump_json())


def _tell(progress: Progress, total: int, done: int) -> None:
    progress(done, total)


def run_settings(settings: DemoSettings) -> RunSettings:
    """The settings of the chain on the drawn shards."""
    folder = Path(settings.run)
    return RunSettings(
        run=settings.run,
        catalogue=str(files("synthetic") / "catalogue.yaml"),
        shards=(str(folder / "shards"),),
        annotate={"annotators": ("captions", "fields")},
        solve={"eta": 0.9, "cap": 4.0},
        train={
            "steps": settings.steps,
            "batch_size": 64,
            "learning_rate": 1.5e-3,
            "cache_images": True,
            "precision": "auto",
            "model": {"context_length": 18},
            "checkpoint_every": settings.steps,
        },
        gallery=(str(folder / "gallery-shards"),),
        parallel=settings.processes,
        evaluate={
            "protocol": {
                "value_templates": ["{}", "portrait of {}", "{} smiling at the camera"],
                "pairs": [
                    ("nurse", "doctor"),
                    ("librarian", "scientist"),
                    ("teacher", "farmer"),
                    ("secretary", "construction worker"),
                    ("nurse", "firefighter"),
                ],
            }
        },
        pictures=True,
    )


def command(settings: DemoSettings, shown: Shown = Shown()) -> None:
    """Show the whole chain on pictures it draws; about three minutes on two cores."""
    show(demo(settings, shown), shown)
