"""The verb `verify-policy`: what it prints, and exit codes 0, 1 and 2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from commands.main import main
from m4.policy import Policy

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def once(counted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(counted, tmp_path_factory.mktemp("solved") / "run"))
    here = ["--catalogue", str(run / "catalogue.yaml"), "--run", str(run)]
    assert main(["solve", *here, "--eta", "0.6", "--quiet", "--json"]) == 0
    return run


@pytest.fixture
def solved(once: Path, tmp_path: Path) -> Path:
    """A solved run, to be changed."""
    return Path(shutil.copytree(once, tmp_path / "run"))


@pytest.fixture
def verify(solved: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the verb on the run; exit code, output and errors."""

    def call(*options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        here = ["--catalogue", str(solved / "catalogue.yaml"), "--run", str(solved), "--quiet"]
        code = main(["verify-policy", *here, *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def change(run: Path, **changes: object) -> Policy:
    path = run / "policy.json"
    policy = Policy.load(path).model_copy(update=changes)
    path.write_text(policy.to_json())
    return policy


def test_a_policy_that_holds(verify: Call, solved: Path) -> None:
    code, out, errors = verify()
    assert code == 0 and errors == ""
    assert "600 examples of 3 shards" in out and "NO" not in out
    assert max(map(len, out.splitlines())) <= 80
    policy = Policy.load(solved / "policy.json")
    for name, figure in (
        ("primal", policy.certificate.primal),
        ("effective sample size", policy.effective_sample_size),
        ("association bias after", policy.after.association_bias),
    ):
        line = next(line for line in out.splitlines() if f"│ {name} " in line)
        assert line.count(f"{figure:.6g}") == 2 and "yes" in line


def test_as_json(verify: Call, solved: Path) -> None:
    code, out, _ = verify("--json")
    found = json.loads(out)
    assert code == 0 and found["holds"] and found["faults"] == []
    assert found["catalogue"] == Policy.load(solved / "policy.json").catalogue
    assert {claim["name"] for claim in found["claims"]} >= {"primal", "dual", "gap", "rate_error"}
    assert all(claim["agrees"] for claim in found["claims"])
    assert verify("--json")[1] == out


def test_a_changed_multiplier(verify: Call, solved: Path) -> None:
    policy = Policy.load(solved / "policy.json")
    name = next(iter(policy.duals))
    change(solved, duals={**policy.duals, name: policy.duals[name] + 0.1})
    code, out, errors = verify()
    assert code == 1 and "NO" in out
    assert errors.startswith(
        "the policy does not hold on these annotations: it states another primal, "
    )
    assert "no upper bound" in errors and len(errors.splitlines()) == 1
    code, out, _ = verify("--json")
    found = json.loads(out)
    assert code == 1 and not found["holds"]
    wrong = {claim["name"]: claim for claim in found["claims"] if not claim["agrees"]}
    assert wrong["primal"]["stated"] == policy.certificate.primal
    assert abs(wrong["primal"]["recomputed"] - policy.certificate.primal) > 1e-4


def test_a_changed_certificate(verify: Call, solved: Path) -> None:
    policy = Policy.load(solved / "policy.json")
    better = policy.certificate.model_copy(update={"gap": -1e-6})
    change(solved, certificate=better)
    code, out, errors = verify()
    assert code == 1
    assert errors == ("the policy does not hold on these annotations: it states another gap\n")
    assert next(line for line in out.splitlines() if " NO " in line).startswith("│ gap ")


def test_annotations_that_were_changed_after_solving(verify: Call, solved: Path) -> None:
    for name in ("00001.json", "00001.parquet"):
        (solved / "annotations" / name).unlink()
    code, out, errors = verify()
    assert code == 1 and "examples" in errors and "2 shards" in out


def test_what_cannot_be_verified_is_said_in_one_sentence(verify: Call, solved: Path) -> None:
    catalogue = solved / "catalogue.yaml"
    kept = catalogue.read_text()
    catalogue.write_text(kept.replace("a test", "another test"))
    code, out, errors = verify()
    assert (code, out) == (2, "") and "policy.json: made with catalogue" in errors
    catalogue.write_text(kept)
    code, _, errors = verify("--policy", str(solved / "none.json"))
    assert code == 2 and "none.json: no such policy" in errors
    shutil.rmtree(solved / "annotations")
    code, _, errors = verify()
    assert code == 2 and "annotations: no committed tables" in errors
