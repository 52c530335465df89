"What all tests share: the project's folder, its settings, a shell; shapes are checked (see shapes.py)."
import configparser
import os
import subprocess
import sys
from pathlib import Path
import pytest
import shapes

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
shapes.install()


@pytest.fixture
def root():
    return ROOT


@pytest.fixture
def settings():
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']


@pytest.fixture
def shell(tmp_path):
    """Run a command (a script of this environment, or python) as a user would, from another folder.

    Returns the finished process."""
    def run(script, *args, cwd=tmp_path, **env):
        ours = ('PYTHONPATH', 'IN_TEST', 'ARCHSAE_FIGURES', 'ARCHSAE_CHECK_SHAPES')
        clean = {k: v for k, v in os.environ.items() if k not in ours}
        command = [sys.executable if script == 'python' else str(BIN/script), *map(str, args)]
        return subprocess.run(command, cwd=cwd, env=clean | env, text=True, capture_output=True, timeout=600)
    return run
