import os
import subprocess
import sys

import pytest

import vision


def test_every_public_name_is_there():
    for name in vision.__all__:
        assert getattr(vision, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vision.nothing  # noqa: B018


def test_importing_the_package_imports_no_torch():
    code = "import sys, vision; print({'torch', 'open_clip', 'apache_beam'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout == b"set()\n", done.stderr
