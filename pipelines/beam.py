"""Running a transform on a Beam runner: options, refusals, progress."""

import argparse
import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from m4.catalogue import Model
from m4.errors import InputError
from pipelines import storage

if TYPE_CHECKING:
    import apache_beam as beam

Progress = Callable[[int, int], None]

ADDED_BY_BEAM = re.compile(r" \[while running '|\n\nDuring handling of ")  # to an error's text

REFUSED = {
    "DaskRunner": "it computes only the last of several outputs and ignores output tags",
    "DirectRunner": "it may try to download another runner and hang; use FnApiRunner",
}


# Options of Flink's job server, which describes them to Beam only once it has started. A bundle
# must be small: its default is made for rows, and our elements are shards.
FLINK_OPTIONS = (
    "checkpointing_interval",
    "max_bundle_size",
    "max_bundle_time_mills",
    "number_of_execution_retries",
)


class BeamSettings(Model):
    """Where and how wide a job runs."""

    runner: str = Field(default="FnApiRunner", description="Beam runner")
    processes: int = Field(default=1, ge=1, description="worker processes of the FnApiRunner")
    options: tuple[str, ...] = Field(
        default=(), description="further Beam options, name=value, passed through as they are"
    )

    def flags(self) -> list[str]:
        """Beam's options. Raises `InputError` for a refused runner or an option Beam ignores."""
        # Beam takes a runner's name in any case, without "Runner", and as a dotted path.
        short = self.runner.rpartition(".")[2].lower().removesuffix("runner")
        for refused, reason in REFUSED.items():
            if short == refused.lower().removesuffix("runner"):
                raise InputError(f"runner {self.runner} is refused: {reason}")
        options = [f"--{option.removeprefix('--')}" for option in self.options]
        if any(option.partition("=")[0] == "--runner" for option in options):
            raise InputError("--runner is among the further Beam options; set `runner` instead")
        flags = [f"--runner={self.runner}", *options]
        if self.processes > 1:
            if self.runner != "FnApiRunner":
                raise InputError(
                    f"processes={self.processes} has no effect on {self.runner}; set the number "
                    "of workers by its own options"
                )
            flags += [
                "--direct_running_mode=multi_processing",
                f"--direct_num_workers={self.processes}",
            ]
        return flags


def run(transform: "beam.PTransform", settings: BeamSettings) -> None:
    """Run a transform that starts from nothing, and wait for its end.

    Raises `InputError` for unknown options, and what the runner raises for a failed job.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = settings.flags()
    of_server = FLINK_OPTIONS if settings.runner == "FlinkRunner" else ()
    unknown = _unknown(flags, of_server)
    if unknown:
        raise InputError(f"Beam knows no option {' '.join(unknown)}; correct or remove it")
    quieten_beam()
    try:
        with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
            _ = pipeline | transform
    except Exception as error:
        sentence = _said_by_worker(error)
        if sentence is None:
            raise
        raise InputError(sentence) from None


def _said_by_worker(error: Exception) -> str | None:
    """What an `InputError` of a worker says; None where the error is another one.

    Beam adds to its text where it was raised; from another process nothing but text comes back.
    """
    name = f"{InputError.__module__}.{InputError.__qualname__}: "
    _, found, text = f"{name if isinstance(error, InputError) else ''}{error}".partition(name)
    return ADDED_BY_BEAM.split(text)[0] if found else None


def quieten_beam() -> None:
    """Keep Beam from logging what is no error, and the stacks of errors that a sentence tells.

    Beam installs a root handler on import, in its workers too; a library's warnings belong to the
    caller.
    """
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    for name in ("common", "worker.sdk_worker", "portability.local_job_service"):
        logging.getLogger(f"apache_beam.runners.{name}").addFilter(_is_no_input_error)


def _is_no_input_error(record: logging.LogRecord) -> bool:
    raised = record.exc_info[0] if record.exc_info else None
    if raised is not None and issubclass(raised, InputError):
        return False
    return InputError.__module__ not in record.getMessage()


def _unknown(flags: Sequence[str], of_server: Sequence[str] = ()) -> list[str]:
    """Options that neither a class of Beam declares nor a job server; Beam would only warn."""
    from apache_beam.options.pipeline_options import PipelineOptions

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    declare: Any = parser
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(declare)
    for name in of_server:
        parser.add_argument(f"--{name}")
    return parser.parse_known_args(list(flags))[1]


@contextlib.contextmanager
def watch(folder: str, stems: Sequence[str], progress: Progress | None) -> Iterator[None]:
    """Report how many of the shards are committed while the block runs, whatever the runner."""
    if progress is None:
        yield
        return
    ended = threading.Event()
    waiting = list(stems)

    def look() -> None:
        waiting[:] = [
            stem for stem in waiting if not storage.exists(storage.join(folder, f"{stem}.json"))
        ]
        progress(len(stems) - len(waiting), len(stems))

    def loop() -> None:
        while not ended.wait(0.5):
            look()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()
