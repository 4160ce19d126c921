"""open_clip's own training command reads resharded output, and sees every sample of an epoch."""

import json
import re
import subprocess
import sys
from pathlib import Path

from pipelines.exports import ExportSettings, export
from pipelines.resharding import ReshardSettings, reshard
from pipelines.settings import ApplySettings
from pipelines.stages import apply

# open_clip wants webdataset 0.2.86 or older: from 0.2.96 on, the end of a shard is yielded too, and
# its reader does not expect that (https://github.com/webdataset/webdataset/issues/384).
TRAIN = """
import functools
import inspect
import sys
from vision.torchvision_guard import ensure_torchvision
ensure_torchvision()
import open_clip
from open_clip_train import data
from open_clip_train.main import main
if "eof_value" in inspect.signature(data.tar_file_expander).parameters:
    data.tar_file_expander = functools.partial(data.tar_file_expander, eof_value=None)
open_clip.add_model_config(sys.argv[1])
main(sys.argv[2:])
"""
ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 12, "width": 16, "heads": 1, "layers": 1},
}


def test_open_clip_trains_on_new_shards(run: Path, catalogue_path: Path, tmp_path: Path) -> None:
    apply(ApplySettings(run=str(run), catalogue=str(catalogue_path)))
    out = tmp_path / "out"
    settings = ReshardSettings(run=str(run), out=str(out), shard_size=60)
    assert reshard(settings).kept == 240
    data = export(ExportSettings(format="open-clip", shards=str(out))).text
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny-reshard.json").write_text(json.dumps(ARCHITECTURE))
    options = {
        "--model": "tiny-reshard",
        "--batch-size": "24",
        "--epochs": "1",
        "--workers": "1",
        "--warmup": "2",
        "--precision": "fp32",
        "--log-every-n-steps": "1",
        "--logs": str(tmp_path / "logs"),
        "--name": "test",
    }
    arguments = [word for pair in options.items() for word in pair]
    ended = subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path / "models"), *data, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    log = (tmp_path / "logs" / "test" / "out.log").read_text()
    losses = [float(found) for found in re.findall(r"Loss: ([\d.]+)", log)]
    assert len(losses) == 10
    assert (tmp_path / "logs" / "test" / "checkpoints" / "epoch_1.pt").stat().st_size > 0
