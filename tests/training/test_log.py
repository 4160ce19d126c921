from pathlib import Path

from training.log import LogLine, TrainingLog, read_log


def line(step: int) -> LogLine:
    return LogLine(step, 0, 10 * step, 1 / step, 1e-3, 14.3, 100.0)


def test_lines_after_the_checkpoint_and_half_lines_are_cut_off(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    log = TrainingLog(path, step=0)
    for step in (1, 2, 3):
        log.add(line(step))
    log.secure()
    log.close()
    with path.open("a") as stream:
        stream.write('{"step": 4, "epo')  # killed while it wrote
    assert read_log(path) == [line(1), line(2), line(3)]
    log = TrainingLog(path, step=2)
    assert read_log(path) == [line(1), line(2)]
    log.add(line(3))
    log.close()
    assert read_log(path) == [line(1), line(2), line(3)]


def test_no_log_yet(tmp_path: Path):
    assert read_log(tmp_path / "log.jsonl") == []
    TrainingLog(tmp_path / "log.jsonl", step=0).close()
    assert (tmp_path / "log.jsonl").read_text() == ""
