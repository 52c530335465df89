"""All tests: notebooks and package in step, ruff, nbdev_test, pytest.

Every step runs, whatever became of the one before it. The last line is `N passed, M failed`; the exit code is 1 if
M > 0."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
START = time.time()
CHATTER = ('running over TCP', 'KeyboardInterrupt caught in kernel')  # of kernels


def environment() -> dict:
    "What the tests see."
    env = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}", OMP_NUM_THREADS='1', MPLBACKEND='agg')
    env |= dict(JUPYTER_PLATFORM_DIRS='1', PYDEVD_DISABLE_FILE_VALIDATION='1', PYTHONUNBUFFERED='1')
    env |= dict(ARCHSAE_CHECK_SHAPES='1', PYTHONPATH=str(ROOT/'tests/hooks'))  # see tests/shapes.py
    for name in ('IN_TEST', 'ARCHSAE_FIGURES'):
        env.pop(name, None)
    if not shutil.which('nvidia-smi'):
        # before any notebook of a worker imports Triton; later is too late, and its tests would be skipped
        env.setdefault('TRITON_INTERPRET', '1')
    return env


def run(*command) -> tuple:
    "Run a command, show what it prints as it prints it; its exit code, and everything it printed."
    p = subprocess.Popen([str(c) for c in command], cwd=ROOT, env=environment(), text=True, errors='replace',
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = []
    for line in p.stdout:
        lines.append(line)
        if not any(c in line for c in CHATTER):
            print(line, end='', flush=True)
    return p.wait(), ''.join(lines)


def sync() -> tuple:
    code, out = run(sys.executable, '.ci/sync.py')
    ok = len(re.findall('^ok: ', out, re.M))
    return ok, max(len(re.findall('^FAILED: ', out, re.M)), int(code != 0))


def style() -> tuple:
    code, _ = run(BIN/'ruff', 'check')
    return int(code == 0), int(code != 0)


def notebooks() -> tuple:
    "nbdev_test counts nothing: a notebook passed if it was completed and is not in the list of failures at the end."
    expected = {p.name for p in (ROOT/'nbs').rglob('[!_]*.ipynb') if '.ipynb_checkpoints' not in p.parts}
    code, out = run(BIN/'nbdev_test', '--do_print', '--timing', '--n_workers', '2')
    completed = set(re.findall(r'- Completed \S*?([^/\\\s]+\.ipynb)', out))
    failed = set(re.findall(r'^\t(\S+\.ipynb)$', out.partition('=' * 50)[2], re.M)) | (expected - completed)
    if expected - completed:
        print('not completed:', ', '.join(sorted(expected - completed)))
    return len(expected - failed), len(failed) or int(code != 0 or not expected)


def pytest() -> tuple:
    with tempfile.TemporaryDirectory() as t:
        code, _ = run(sys.executable, '-m', 'pytest', '-q', '-rs', f'--junitxml={t}/report.xml')
        try:
            counts = [s.attrib for s in ElementTree.parse(f'{t}/report.xml').iter('testsuite')]
        except (OSError, ElementTree.ParseError):
            counts = []
    n = {kind: sum(int(c[kind]) for c in counts) for kind in ('tests', 'failures', 'errors', 'skipped')}
    failed = n['failures'] + n['errors']
    if n['skipped']:
        print(f"{n['skipped']} skipped, for the reasons above; they count as neither")
    return max(0, n['tests'] - failed - n['skipped']), failed or int(code != 0)


def main() -> int:
    passed = failed = 0
    for name, step in (('in step?', sync), ('ruff', style), ('notebooks', notebooks), ('pytest', pytest)):
        print(f'\n== {name}', flush=True)
        ok, bad = step()
        print(f'== {name} {ok} ok, {bad} not ok ({time.time() - START:.0f} s since the start)', flush=True)
        passed, failed = passed + ok, failed + bad
    print(f'\n{passed} passed, {failed} failed')
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
