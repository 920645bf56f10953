"""What importing MLX leaves behind in the process."""

import resource
import subprocess
import sys

import pytest

from backends.base import BackendError
from backends.mlx.importing import import_mlx


def test_without_mlx_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlx_lm", None)
    with pytest.raises(BackendError) as caught:
        import_mlx()
    assert "pip install mlx-lm" in caught.value.message


@pytest.mark.slow
def test_importing_mlx_leaves_the_process_as_it_was():
    script = (
        "import resource; before = resource.getrlimit(resource.RLIMIT_NOFILE);"
        "from backends.mlx.importing import import_mlx; import_mlx();"
        "import logging, mlx_vlm.utils; assert not logging.getLogger().handlers;"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == before"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_limit_on_open_files_can_still_be_set_afterwards():
    import_mlx()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert resource.setrlimit.__name__ == "setrlimit"


@pytest.mark.slow
def test_importing_mlx_vlm_changes_no_variable(monkeypatch):
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    monkeypatch.setenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", "0")
    script = (
        "import os;"
        "from backends.mlx.importing import environment_kept, import_mlx; import_mlx();"
        "wanted = dict(os.environ)\n"
        "with environment_kept(): import mlx_vlm\n"
        "changed = {name: (value, wanted.get(name)) for name, value in os.environ.items()"
        " if wanted.get(name) != value}\n"
        "assert (changed, os.environ.keys()) == ({}, wanted.keys()), changed"
    )
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True)


@pytest.mark.slow
def test_what_transformers_logs_comes_in_the_style_of_the_process(monkeypatch):
    # Tests that compare with mlx-vlm import it, and it sets this for whoever comes after it.
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    script = (
        "import logging\n"
        "from backends.mlx.importing import import_mlx\n"
        "logging.basicConfig(format='ours: %(message)s')\n"
        "import_mlx()\n"
        "from transformers.utils import logging as theirs\n"
        "theirs.get_logger('transformers.some').warning('look')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "ours: look\n"
