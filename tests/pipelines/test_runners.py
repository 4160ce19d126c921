"""The same bytes on every runner: threads, processes, workers over the portable protocol."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.beam import BeamSettings
from pipelines.settings import AnnotateSettings
from pipelines.stages import annotate

Pairs = list[list[tuple[str, bytes]]]


def content(run: Path) -> dict[str, bytes]:
    """Every file of a run's tables, evidence and failures."""
    folders = [run / name for name in ("annotations", "evidence", "failures")]
    files = [path for folder in folders for path in sorted(folder.glob("*"))]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def annotate_by(
    tmp_path_factory: pytest.TempPathFactory,
    catalogue_path: Path,
    people: Callable[[int], Pairs],
    write_shards: Callable[..., object],
    tar_bytes: Callable[..., bytes],
) -> Callable[[str, BeamSettings], dict[str, bytes]]:
    """Annotates 6 shards, one of which lost a sample, on a runner."""
    folder = tmp_path_factory.mktemp("runners")
    write_shards(folder / "shards", people(90), 5)
    (folder / "shards" / "00005.tar").write_bytes(tar_bytes([("alone.txt", b"no picture")]))

    def by(name: str, beam: BeamSettings) -> dict[str, bytes]:
        annotate(
            AnnotateSettings(
                shards=(str(folder / "shards"),),
                catalogue=str(catalogue_path),
                run=str(folder / name),
                annotators=("captions", "fields"),
                max_failures=0.2,
                beam=beam,
            )
        )
        return content(folder / name)

    return by


@pytest.fixture(scope="module")
def here(annotate_by: Callable[[str, BeamSettings], dict[str, bytes]]) -> dict[str, bytes]:
    return annotate_by("here", BeamSettings())


def test_there_is_something_to_compare(here: dict[str, bytes]) -> None:
    assert len(here) == 6 * 3 + 1  # table, marker and evidence of each; and one lost something
    assert "failures/00005.parquet" in here


def test_threads(
    annotate_by: Callable[[str, BeamSettings], dict[str, bytes]], here: dict[str, bytes]
) -> None:
    options = ("--direct_running_mode=multi_threading", "--direct_num_workers=3")
    assert annotate_by("threads", BeamSettings(options=options)) == here


def test_processes(
    annotate_by: Callable[[str, BeamSettings], dict[str, bytes]], here: dict[str, bytes]
) -> None:
    assert annotate_by("processes", BeamSettings(processes=2)) == here


@pytest.fixture(scope="module")
def worker_pool() -> Iterator[str]:
    """Address of a pool that starts a worker process whenever a job asks for one."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    # The pool starts workers by the bare word "python".
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    pool = subprocess.Popen(
        [
            *(sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"),
            *("--service_port", str(port)),
        ],
        env={**os.environ, "PATH": path},
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            assert pool.poll() is None and time.monotonic() < deadline, "the pool did not start"
            with socket.socket() as probe:
                if probe.connect_ex(("localhost", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        pool.terminate()
        pool.wait()


def test_a_pool_of_workers_over_the_portable_protocol(
    annotate_by: Callable[[str, BeamSettings], dict[str, bytes]],
    here: dict[str, bytes],
    worker_pool: str,
) -> None:
    """What Flink and other portable runners speak with workers, here without a cluster."""
    beam = BeamSettings(
        runner="PortableRunner",
        options=(
            "--job_endpoint=embed",
            "--environment_type=EXTERNAL",
            f"--environment_config={worker_pool}",
        ),
    )
    assert annotate_by("pool", beam) == here
