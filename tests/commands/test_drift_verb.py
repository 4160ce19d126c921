"""The verb `drift`: what it prints, and exit codes 0, 1 and 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from commands.drift import json_content, summary_table, worst_table
from commands.main import main
from m4.certificate import Certificate
from m4.drift import Drift, Finding
from synthetic.shards import write_shards
from synthetic.world import WorldSettings

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def policy(counted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy of the small run, in a run of its own."""
    run = Path(shutil.copytree(counted, tmp_path_factory.mktemp("old") / "run"))
    here = ["--catalogue", str(run / "catalogue.yaml"), "--run", str(run)]
    assert main(["solve", *here, "--eta", "0.6", "--quiet", "--json"]) == 0
    return run / "policy.json"


@pytest.fixture
def check(policy: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the verb on a run with the old policy; exit code, output and errors."""

    def call(run: Path, *options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        given = ["--catalogue", str(policy.parent / "catalogue.yaml"), "--run", str(run)]
        code = main(["drift", *given, "--policy", str(policy), "--quiet", *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_on_its_own_annotations_a_policy_holds(check: Call, policy: Path) -> None:
    code, out, errors = check(policy.parent)
    assert (code, errors) == (0, "")
    line = next(line for line in out.splitlines() if "verdict" in line)
    assert "holds" in line and max(map(len, out.splitlines())) <= 80


def test_new_shards_of_the_same_world_are_no_alarm(
    check: Call, policy: Path, tmp_path: Path
) -> None:
    run = annotated(tmp_path, policy, WorldSettings(pictures=300, picture_size=32, seed=5))
    code, out, _ = check(run, "--json")
    found = json.loads(out)
    assert code == 0 and found["verdict"] == "within noise" and found["examples"] == 300
    assert found["rate"]["name"] == "rate" and found["solved_on"] == 600


def test_a_world_of_men_is_an_alarm(check: Call, policy: Path, tmp_path: Path) -> None:
    """All portraits are of men, and there is nothing but portraits."""
    world = WorldSettings(
        pictures=600,
        picture_size=32,
        portraits=1.0,
        off_duty=0.0,
        empty=0.0,
        men_share_of_portraits=1.0,
    )
    code, out, errors = check(annotated(tmp_path, policy, world))
    assert code == 1 and "solve again" in out
    assert errors.startswith("solve again: ") and len(errors.splitlines()) == 1
    assert "gender.man" in errors
    code, out, _ = check(tmp_path / "run", "--json")
    assert code == 1 and json.loads(out)["verdict"] == "solve again"


def annotated(folder: Path, policy: Path, world: WorldSettings) -> Path:
    write_shards(folder / "shards", world)
    here = ["--catalogue", str(policy.parent / "catalogue.yaml"), "--run", str(folder / "run")]
    shards = ["--shards", str(folder / "shards")]
    assert main(["annotate", *shards, *here, "--quiet", "--json"]) == 0
    return folder / "run"


def test_what_cannot_be_checked_is_said_in_one_sentence(check: Call, tmp_path: Path) -> None:
    code, out, errors = check(tmp_path)
    assert (code, out) == (2, "") and "annotations: no committed tables" in errors
    assert len(errors.splitlines()) == 1


def finding(name: str, **figures: float) -> Finding:
    given = {"examples": 500.0, "found": 0.1, "allowed": 0.05, "excess": 0.05, "noise": 0.2}
    return Finding(name=name, **{"deviation": 0.05, **given, **figures})


@pytest.fixture
def some_drift() -> Drift:
    """A constraint about 19 examples, and 21 about 500."""
    perfect = Certificate(
        primal=0.5, dual=0.4, gap=0.1, max_violation=0.0, price=1.0, rate_error=0.0
    )
    return Drift(
        examples=1000.0,
        solved_on=2000.0,
        margin=0.0,
        rate=finding("rate", found=0.01, excess=0.0, allowed=0.02),
        constraints=(
            finding("few", examples=19.0, found=0.4321, excess=0.3),
            finding("many", excess=0.1),
            *(finding(f"inside {i:02d}", found=0.001 * i, excess=0.0) for i in range(20)),
        ),
        unseen=("a", "b", "c", "d"),
        lost=(),
        effective_share=0.5,
        stated_effective_share=0.6,
        certificate=perfect,
    )


def test_the_json_tells_nothing_of_a_few_examples(some_drift: Drift) -> None:
    content = json_content(some_drift)
    few, many, *inside = content["constraints"]
    assert few == {"name": "few", "fewer_examples_than": 20}
    assert "0.4321" not in json.dumps(content)
    assert many == some_drift.constraints[1].model_dump(mode="json")
    assert len(inside) == 20 and inside[0]["found"] == 0.0
    assert content["verdict"] == "solve again" and content["rate"]["found"] == 0.01


def test_tables_tell_nothing_of_a_few_examples(some_drift: Drift) -> None:
    found = some_drift
    table = worst_table(found)
    names, values, *_ = (list(column.cells) for column in table.columns)
    assert names == ["rate", "few", "many", *(f"inside {i:02d}" for i in range(19, 11, -1))]
    assert values[1] == "< 20" and "+0.4321" not in values and values[2] == "+0.1000"
    rows = dict(
        zip(*(list(column.cells) for column in summary_table(found).columns[::2]), strict=True)
    )
    assert rows["verdict"] == "solve again" and rows["solving again gains at most"] == "20.0%"
    assert rows["constraints without examples"] == "4: a, b, c"
    assert "constraints without weight" not in rows
