"""All tests: notebooks and package in step, nbdev_test, pytest. Every step runs, whatever became of the one before it.
The last line is `N passed, M failed`; the exit code is 1 if M > 0."""
import os, re, shutil, subprocess, sys, tempfile, time
from pathlib import Path
from xml.etree import ElementTree

ROOT, BIN, START = Path(__file__).resolve().parent.parent, Path(sys.executable).parent, time.time()
ENV = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}", OMP_NUM_THREADS='1', MPLBACKEND='agg', JUPYTER_PLATFORM_DIRS='1',
           PYDEVD_DISABLE_FILE_VALIDATION='1', PYTHONUNBUFFERED='1')
for k in ('IN_TEST', 'ARCHSAE_FIGURES'): ENV.pop(k, None)
if not shutil.which('nvidia-smi'): ENV.setdefault('TRITON_INTERPRET', '1')  # before any notebook of a worker imports Triton; later is too late, and its tests would be skipped

def run(*command):  # -> exit code, everything it printed
    "Run a command, show what it prints as it prints it, and keep it."
    p = subprocess.Popen([str(c) for c in command], cwd=ROOT, env=ENV, text=True, errors='replace', stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = []
    for line in p.stdout:
        lines.append(line)
        if 'running over TCP' not in line and 'KeyboardInterrupt caught in kernel' not in line: print(line, end='', flush=True)  # chatter of kernels
    return p.wait(), ''.join(lines)

def sync():  # -> passed, failed
    code, out = run(sys.executable, '.ci/sync.py')
    ok = len(re.findall('^ok: ', out, re.M))
    return ok, max(len(re.findall('^FAILED: ', out, re.M)), int(code != 0))

def notebooks():
    "nbdev_test counts nothing: a notebook passed if it was completed and is not in the list of failures at the end."
    expected = {p.name for p in (ROOT/'nbs').rglob('[!_]*.ipynb') if '.ipynb_checkpoints' not in p.parts}
    code, out = run(BIN/'nbdev_test', '--do_print', '--timing', '--n_workers', '2')
    completed = set(re.findall(r'- Completed \S*?([^/\\\s]+\.ipynb)', out))
    failed = set(re.findall(r'^\t(\S+\.ipynb)$', out.partition('=' * 50)[2], re.M)) | (expected - completed)
    if expected - completed: print('not completed:', ', '.join(sorted(expected - completed)))
    return len(expected - failed), len(failed) or int(code != 0 or not expected)

def pytest():
    with tempfile.TemporaryDirectory() as t:
        code, _ = run(sys.executable, '-m', 'pytest', '-q', '-rs', f'--junitxml={t}/report.xml')
        try: counts = [s.attrib for s in ElementTree.parse(f'{t}/report.xml').iter('testsuite')]
        except (OSError, ElementTree.ParseError): counts = []
    n = {k: sum(int(c[k]) for c in counts) for k in ('tests', 'failures', 'errors', 'skipped')}
    failed = n['failures'] + n['errors']
    if n['skipped']: print(f"{n['skipped']} skipped, for the reasons above; they count as neither")
    return max(0, n['tests'] - failed - n['skipped']), failed or int(code != 0)

def main() -> int:
    passed = failed = 0
    for name, step in (('in step?', sync), ('notebooks', notebooks), ('pytest', pytest)):
        print(f'\n== {name}', flush=True)
        ok, bad = step()
        print(f'== {name} {ok} ok, {bad} not ok ({time.time() - START:.0f} s since the start)', flush=True)
        passed, failed = passed + ok, failed + bad
    print(f'\n{passed} passed, {failed} failed')
    return int(failed > 0)

if __name__ == '__main__': sys.exit(main())
