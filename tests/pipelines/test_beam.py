"""Beam's options, refusals and the progress of a job."""

import threading
from pathlib import Path

import apache_beam as beam
import pytest
from pydantic import ValidationError

from m4.errors import InputError
from pipelines.beam import FLINK_OPTIONS, BeamSettings, _unknown, run, watch
from pipelines.transforms import ForEach


def test_the_default_runs_in_this_process() -> None:
    assert BeamSettings().flags() == ["--runner=FnApiRunner"]


def test_processes_are_the_fn_api_runners_own() -> None:
    flags = BeamSettings(processes=3).flags()
    assert "--direct_running_mode=multi_processing" in flags
    assert "--direct_num_workers=3" in flags


def test_options_are_passed_through() -> None:
    settings = BeamSettings(runner="FlinkRunner", options=("--flink_master=host:8081",))
    assert settings.flags() == ["--runner=FlinkRunner", "--flink_master=host:8081"]


@pytest.mark.parametrize(
    ("runner", "reason"),
    [
        ("DaskRunner", "computes only the last of several outputs"),
        ("DirectRunner", "download another runner and hang; use FnApiRunner"),
        # Beam takes these names for the same runners.
        ("daskrunner", "computes only the last"),
        ("dask", "computes only the last"),
        ("Direct", "use FnApiRunner"),
        ("apache_beam.runners.dask.dask_runner.DaskRunner", "computes only the last"),
    ],
)
def test_a_refused_runner_is_told_why(runner: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        BeamSettings(runner=runner).flags()
    assert f"runner {runner} is refused" in str(error.value)


def test_options_need_no_dashes() -> None:
    """A command line takes what begins with dashes for options of its own."""
    settings = BeamSettings(runner="FlinkRunner", options=("flink_master=host:8081", "streaming"))
    assert settings.flags() == ["--runner=FlinkRunner", "--flink_master=host:8081", "--streaming"]


@pytest.mark.parametrize(
    "options", [("--runner=DaskRunner",), ("--runner", "DirectRunner"), ("runner=DaskRunner",)]
)
def test_a_runner_among_the_options_is_refused(options: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="set `runner` instead"):
        BeamSettings(options=options).flags()


def test_processes_with_another_runner_are_refused() -> None:
    with pytest.raises(InputError, match="processes=2 has no effect on FlinkRunner"):
        BeamSettings(runner="FlinkRunner", processes=2).flags()


def test_no_processes_are_refused() -> None:
    with pytest.raises(ValidationError):
        BeamSettings(processes=0)


@pytest.mark.parametrize("option", ["flink_mater=host", "--temp_locatio=x", "stray"])
def test_an_option_that_beam_does_not_know_is_an_error(option: str) -> None:
    settings = BeamSettings(options=("--flink_master=host:8081", option))
    told = f"Beam knows no option --{option.removeprefix('--')}; correct or remove it"
    with pytest.raises(InputError, match=told):
        run(beam.Create([1]), settings)


def test_options_of_flinks_job_server_are_known_with_flink_alone() -> None:
    flags = ["--flink_master=host:8081", "--max_bundle_size=1"]
    assert _unknown(flags, FLINK_OPTIONS) == []
    with pytest.raises(InputError, match="Beam knows no option --max_bundle_size=1"):
        run(beam.Create([1]), BeamSettings(options=("--max_bundle_size=1",)))


class Fails(beam.PTransform):
    """A job whose only element cannot be worked on."""

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return pipeline | beam.Create([0]) | beam.Map(lambda number: 1 // number)


def test_a_failed_job_raises() -> None:
    with pytest.raises(Exception, match=r"ZeroDivisionError|division"):
        run(Fails(), BeamSettings())


def test_progress_follows_the_commit_markers(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    one_seen = threading.Event()

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done:
            one_seen.set()

    with watch(str(tmp_path), ["a", "b", "c"], progress):
        (tmp_path / "a.json").write_text("{}")
        (tmp_path / "b.json.0123.partial").write_text("{}")
        assert one_seen.wait(timeout=30)
        (tmp_path / "b.json").write_text("{}")
    assert (1, 3) in seen
    assert seen[-1] == (2, 3)


def test_progress_is_told_the_end_of_a_job_that_fails(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with (
        pytest.raises(KeyError),
        watch(str(tmp_path), ["a"], lambda done, total: seen.append((done, total))),
    ):
        raise KeyError
    assert seen[-1] == (0, 1)


def test_without_progress_nothing_is_watched(tmp_path: Path) -> None:
    threads = threading.active_count()
    with watch(str(tmp_path), ["a"], None):
        assert threading.active_count() == threads


def _complain(element: str) -> None:
    raise InputError(f"{element}: cannot be used; mend it")


@pytest.mark.parametrize("processes", [1, 2])
def test_what_a_worker_complains_of_is_told_in_its_own_sentence(processes: int) -> None:
    with pytest.raises(InputError) as error:
        run(ForEach(("00000.tar",), _complain), BeamSettings(processes=processes))
    assert str(error.value) == "00000.tar: cannot be used; mend it"


def _fail(element: str) -> None:
    raise ZeroDivisionError(element)


@pytest.mark.parametrize("processes", [1, 2])
def test_other_errors_of_workers_stay_what_they_are(processes: int) -> None:
    with pytest.raises(Exception, match=r"ZeroDivisionError|00000") as error:
        run(ForEach(("00000.tar",), _fail), BeamSettings(processes=processes))
    assert not isinstance(error.value, InputError)
