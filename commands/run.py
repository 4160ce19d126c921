"""m4-balance run: all stages of one settings file."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from pydantic import BaseModel, Field, ValidationError, model_validator

from commands.console import Shown, console, record_table
from commands.gallery import EvaluateCommand, evaluate
from commands.solve import data_table
from evaluation.compare import comparison_table
from m4.catalogue import Model, explain, load_catalogue, read_yaml
from m4.errors import InputError
from pipelines.agreement import agreement, write_agreement
from pipelines.beam import BeamSettings, Progress
from pipelines.record import Tally, digest_of, read_run
from pipelines.settings import (
    USED_BY,
    AnnotateSettings,
    AnnotatorName,
    ApplySettings,
    CountSettings,
    SolveSettings,
)
from pipelines.stages import annotate, apply, count, solve
from reporting.contents import Contents, read_contents
from reporting.page import ReportSettings, report
from training.loader import Decoded
from training.trainer import TrainResult, TrainSettings, train

ARMS = {"original": "manifest-original", "balanced": "manifest"}
Options = Mapping[str, Any]
Stage = TypeVar("Stage", bound=BaseModel)


class RunSettings(Model):
    """All stages of a run. Paths are relative to the working directory.

    Attributes
    ----------
    run, catalogue, shards : as of the stages; the catalogue is copied into the run directory
    annotate, solve, apply, train, evaluate : further settings of those stages, by name
    truth : annotators whose marks count as true; the others are then compared with them
    gallery : held-out shards; without them nothing is trained
    seeds : a model is trained on the original and on the balanced data from each
    parallel : trainings at a time, each on one thread where there are several
    pictures : show sample pictures in the report
    """

    run: str
    catalogue: str
    shards: tuple[str, ...]
    annotate: Options = Field(default_factory=dict)
    truth: tuple[AnnotatorName, ...] = ()
    solve: Options = Field(default_factory=dict)
    apply: Options = Field(default_factory=dict)
    train: Options = Field(default_factory=dict)
    gallery: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    parallel: int = Field(default=1, ge=1)
    evaluate: Options = Field(default_factory=dict)
    pictures: bool = False
    beam: BeamSettings = BeamSettings()

    @model_validator(mode="after")
    def _usable(self) -> "RunSettings":
        """Make the settings of every stage, so that a mistake is found before any work."""
        self.annotating(self.annotators)
        self.solving()
        self.applying("balanced")
        self.training("balanced", 0)
        self.evaluating("balanced", 0)
        return self

    @property
    def folder(self) -> Path:
        return Path(self.run)

    @property
    def annotators(self) -> tuple[AnnotatorName, ...]:
        return tuple(self.annotate.get("annotators", ("captions",)))

    @property
    def kept_catalogue(self) -> str:
        return str(self.folder / "catalogue.yaml")

    def annotating(
        self, annotators: tuple[AnnotatorName, ...], folder: str = ""
    ) -> AnnotateSettings:
        own = {
            "shards": self.shards,
            "catalogue": self.catalogue,
            "run": str(self.folder / folder),
            "beam": self.beam,
        }
        given = {**self.annotate, "annotators": annotators}
        if annotators != self.annotators:  # those that are asked for the truth have other options
            idle = {name for name, users in USED_BY.items() if not users & set(annotators)}
            given = {name: value for name, value in given.items() if name not in idle | {"fusion"}}
        return _stage(AnnotateSettings, "annotate", own, given)

    def counting(self, *, drawn: bool) -> CountSettings:
        return CountSettings(
            run=self.run, catalogue=self.kept_catalogue, drawn=drawn, beam=self.beam
        )

    def solving(self) -> SolveSettings:
        own = {"run": self.run, "catalogue": self.kept_catalogue}
        return _stage(SolveSettings, "solve", own, self.solve)

    def applying(self, arm: str) -> ApplySettings:
        own = {
            "run": self.run,
            "catalogue": self.kept_catalogue,
            "beam": self.beam,
            "manifest": ARMS[arm],
            "policy": str(self.folder / "policy.json") if arm == "balanced" else None,
        }
        return _stage(ApplySettings, "apply", own, self.apply)

    def training(self, arm: str, seed: int) -> TrainSettings:
        own = {
            "manifest": str(self.folder / ARMS[arm]),
            "out": str(self.folder / "checkpoints" / f"{arm}-{seed}"),
            "seed": seed,
            **({"threads": 1} if self.parallel > 1 else {}),
        }
        return _stage(TrainSettings, "train", own, self.train)

    def evaluating(self, arm: str, seed: int) -> EvaluateCommand:
        own = {
            "checkpoint": str(self.folder / "checkpoints" / f"{arm}-{seed}"),
            "shards": self.gallery,
            "catalogue": self.kept_catalogue,
            "run": self.run,
            "name": f"{arm}-{seed}",
            "beam": self.beam,
        }
        return _stage(EvaluateCommand, "evaluate", own, self.evaluate)


def _stage(kind: type[Stage], name: str, own: Options, given: Options) -> Stage:
    """Settings of a stage, from what the run decides and what its file gives."""
    decided = own.keys() & given.keys()
    if decided:
        raise ValueError(
            f"{name}: {', '.join(sorted(decided))}: the run decides this; leave it out"
        )
    try:
        return kind.model_validate({**given, **own})
    except ValidationError as error:
        raise ValueError(f"{name}: {explain(error)}") from None


def load_settings(path: Path | str) -> RunSettings:
    """Read a settings file. Raises `InputError` naming the file and the key that is wrong."""
    content = read_yaml(Path(path))
    try:
        return RunSettings.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None


def run(settings: RunSettings, shown: Shown = Shown(quiet=True)) -> Contents:
    """Run every stage and write the report; what is done already is not done again.

    Returns what the run directory then holds. Raises `InputError` for unusable input.
    """
    catalogue = load_catalogue(settings.catalogue)
    with shown.progress("annotate") as progress:
        annotate(settings.annotating(settings.annotators), progress=progress)
    if settings.truth:
        with shown.progress("check the annotators") as progress:
            annotate(settings.annotating(settings.truth, "truth"), progress=progress)
        found, true = settings.folder / "annotations", settings.folder / "truth" / "annotations"
        table = agreement(str(found), str(true), catalogue)
        write_agreement(settings.folder / "agreement.json", table)
    with shown.progress("count") as progress:
        count(settings.counting(drawn=False), progress=progress)
    solve(settings.solving())
    for arm in ARMS:
        with shown.progress(f"apply: {arm}") as progress:
            apply(settings.applying(arm), progress=progress)
    with shown.progress("count what was drawn") as progress:
        count(settings.counting(drawn=True), progress=progress)
    if settings.gallery:
        with shown.progress("train") as progress:
            _train_all(settings, progress)
        with shown.progress("evaluate") as progress:
            jobs = list(_jobs(settings))
            for done, (arm, seed) in enumerate(jobs, start=1):
                evaluate(settings.evaluating(arm, seed))
                progress(done, len(jobs))
    report(ReportSettings(run=settings.run, pictures=settings.pictures))
    return read_contents(settings.folder)


def _jobs(settings: RunSettings) -> Iterator[tuple[str, int]]:
    for seed in settings.seeds:
        for arm in ARMS:
            yield arm, seed


def _train_all(settings: RunSettings, progress: Progress) -> None:
    """Train every arm from every seed, `parallel` at a time, each in a process of its own."""
    jobs = {f"{arm}-{seed}": settings.training(arm, seed) for arm, seed in _jobs(settings)}
    total = sum(job.steps for job in jobs.values())
    with ProcessPoolExecutor(settings.parallel, mp_context=get_context("spawn")) as pool:
        trainings = {name: pool.submit(_train, job) for name, job in jobs.items()}
        waiting: set[Future[Any]] = set(trainings.values())
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when="FIRST_EXCEPTION")
            progress(sum(_steps_done(job) for job in jobs.values()), total)
            if any(training.exception() for training in done):
                pool.shutdown(cancel_futures=True)
                break
        results = {name: training.result() for name, training in trainings.items()}
    progress(total, total)
    for name, result in results.items():
        inputs = digest_of(jobs[name].manifest)
        tally = Tally(f"train {name}", settings.run, jobs[name], inputs)
        tally.add_rows(result.samples)
        tally.finish(seconds=result.seconds)


_decoded: Decoded = {}  # all trainings of a process read the same shards for the same model


def _train(job: TrainSettings) -> TrainResult:
    return train(job, decoded=_decoded)


def _steps_done(job: TrainSettings) -> int:
    """The last step in a training's log."""
    try:
        lines = (Path(job.out) / "log.jsonl").read_text().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, IndexError, ValueError):  # not begun, or a line is just being written
        return 0


def command(
    settings: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="YAML file")],
    /,
    shown: Shown = Shown(),
) -> None:
    """Run all stages of one settings file, and write the report."""
    show(run(load_settings(settings), shown), shown)


def show(contents: Contents, shown: Shown) -> None:
    """Print what a run has come to."""
    policy, comparison = contents.policy, contents.comparison
    result = {
        "report": str(contents.run / "report.html"),
        "policy": policy.model_dump(mode="json", exclude={"duals", "problem"}),
        "within": contents.data.planned.all_within,
        "comparison": None if comparison is None else comparison.model_dump(mode="json"),
    }
    records = read_run(str(contents.run)).values()
    tables = [record_table(*records), data_table(policy, contents.data.planned)]
    if comparison is not None:
        tables.append(comparison_table(comparison))
    shown.result(result, *tables)
    if not shown.json:
        console.print(f"report: {contents.run / 'report.html'}")
