import os
import subprocess
import sys
import textwrap
from pathlib import Path

from vision.torchvision_guard import ensure_torchvision

# What torchvision does when it is imported, and what goes wrong beside a torch it was not built
# for: the operators it registers fakes for are not there.
BROKEN = """
import torch
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold): ...
@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold): ...
"""


def run(code: str, *, torchvision: Path | None = None, text: str = "") -> str:
    """Run code in a process of its own, with a torchvision of this text if a folder is given."""
    path = [os.getcwd(), os.environ.get("PYTHONPATH", "")]
    if torchvision is not None:
        (torchvision / "torchvision").mkdir()
        (torchvision / "torchvision" / "__init__.py").write_text(text)
        path.insert(0, str(torchvision))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_broken_pair_is_made_importable(tmp_path: Path):
    shown = run(
        """
        import torch
        try:
            import torchvision
        except RuntimeError as error:
            print(error)
        from vision.torchvision_guard import ensure_torchvision
        ensure_torchvision()
        import torchvision
        ensure_torchvision()
        try:
            torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        except NotImplementedError:
            print("no kernel")
        """,
        torchvision=tmp_path,
        text=BROKEN,
    )
    assert shown == "operator torchvision::nms does not exist\nno kernel\n"


def test_sound_install_is_left_alone(tmp_path: Path):
    shown = run(
        """
        import torch
        from vision.torchvision_guard import ensure_torchvision
        ensure_torchvision()
        import torchvision
        print(torchvision.imports, hasattr(torch.ops.torchvision, "nms"))
        """,
        torchvision=tmp_path,
        text="imports = 1",
    )
    assert shown == "1 False\n"


def test_other_problems_are_not_hidden(tmp_path: Path):
    shown = run(
        """
        from vision.torchvision_guard import ensure_torchvision
        try:
            ensure_torchvision()
        except RuntimeError as error:
            print(error)
        """,
        torchvision=tmp_path,
        text="raise RuntimeError('another')",
    )
    assert shown == "another\n"


def test_open_clip_can_be_imported_with_what_is_installed():
    ensure_torchvision()
    import open_clip
    import torchvision

    assert torchvision.__version__ and open_clip.CLIP.__name__ == "CLIP"
