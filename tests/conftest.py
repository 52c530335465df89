import configparser, os, subprocess, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

@pytest.fixture
def root(): return ROOT

@pytest.fixture
def settings():
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']

@pytest.fixture
def shell(tmp_path):
    "Run a command (a script of this environment, or python) as a user would, from another folder; returns the finished process."
    def run(script, *args, cwd=tmp_path, **env):
        clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST', 'ARCHSAE_FIGURES')}
        command = [sys.executable if script == 'python' else str(BIN/script), *map(str, args)]
        return subprocess.run(command, cwd=cwd, env=clean | env, text=True, capture_output=True, timeout=600)
    return run
