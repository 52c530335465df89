"""Small deliberate bugs, one at a time, and whether a test notices each.

The bugs are in tests/mutants.toml. For each, a copy of the tree gets it, in the exported module and in the cell of the
notebook that the module came from; then the notebook is tested, and after it the other tests that the table names,
until one fails. What nobody noticed has survived: it needs a test, or the table's `explained` says why no test can.

    make mutants                    all of them; the result is tests/soak/mutants.json
    make mutants ARGS='--only hull' those whose name or module begins so; the others keep their rows
    make mutants ARGS='--new'       those that are not in the result yet, or whose module or tests have changed since
"""
import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TABLE = ROOT/'tests/mutants.toml'
RESULT = ROOT/'tests/soak/mutants.json'
COPIED = ('archsae', 'nbs', 'tests', 'figures', 'docs', '.ci', 'settings.ini', 'pyproject.toml', 'setup.py',
          'Makefile', 'README.md', '.ruff.toml')


def notebooks_by_module() -> dict:
    "Module -> notebook, by what the notebooks say they export."
    found = {}
    for path in sorted((ROOT/'nbs').glob('*.ipynb')):
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            source = ''.join(cell['source'])
            if source.startswith('#| default_exp '):
                found[source.split()[2]] = path.stem
    return found


NOTEBOOKS = notebooks_by_module()


def read_table() -> list:
    "The mutants, each with its module's notebook."
    rows = tomllib.loads(TABLE.read_text(encoding='utf-8'))['mutant']
    names = [row['name'] for row in rows]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        sys.exit(f'names stand twice: {sorted(twice)}')
    return [row | dict(notebook=NOTEBOOKS[row['module']]) for row in rows]


def module_file(root: Path, row: dict) -> Path:
    return root/'archsae'/f"{row['module'].replace('.', '/')}.py"


def notebook_file(root: Path, row: dict) -> Path:
    return root/'nbs'/f"{row['notebook']}.ipynb"


def places(row: dict) -> tuple[int, int]:
    "How often the line stands in the module, and in cells of the notebook."
    in_module = module_file(ROOT, row).read_text(encoding='utf-8').count(row['find'])
    cells = json.loads(notebook_file(ROOT, row).read_text(encoding='utf-8'))['cells']
    return in_module, sum(''.join(cell['source']).count(row['find']) for cell in cells)


def state_of(row: dict, root: Path) -> str:
    "A hash of what the outcome depends on: the bug, the module and the tests."
    h = hashlib.sha256(json.dumps([row['find'], row['replace']]).encode())
    files = [module_file(root, row), notebook_file(root, row)]
    files += [root/test.split('::')[0] for test in row.get('tests', ()) if test.startswith('tests/')]
    for path in files:
        h.update(path.read_bytes())
    return h.hexdigest()[:16]


def put(root: Path, row: dict, old: str, new: str):
    "Replace the one place in the module and in the notebook of a copy."
    path = module_file(root, row)
    path.write_text(path.read_text(encoding='utf-8').replace(old, new), encoding='utf-8')
    path = notebook_file(root, row)
    notebook = json.loads(path.read_text(encoding='utf-8'))
    for cell in notebook['cells']:
        source = ''.join(cell['source'])
        if old in source:
            cell['source'] = source.replace(old, new).splitlines(True)
    path.write_text(json.dumps(notebook), encoding='utf-8')


def environment(root: Path) -> dict:
    env = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}", PYTHONPATH=str(root), OMP_NUM_THREADS='1')
    return env | dict(MPLBACKEND='agg', TRITON_INTERPRET='1', JUPYTER_PLATFORM_DIRS='1', HF_HUB_OFFLINE='1')


def passes(root: Path, test: str, limit: float) -> bool:
    "Whether a notebook or a test of pytest passes in a copy; one that hangs does not."
    if test.startswith('tests/'):
        command = [sys.executable, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider', test]
    else:
        command = [BIN/'nbdev_test', '--path', f'nbs/{test}.ipynb', '--n_workers', '0']
    try:
        done = subprocess.run(command, cwd=root, env=environment(root), timeout=limit, capture_output=True)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def outcome(root: Path, row: dict, limit: float, whole: Path) -> dict:
    "What became of one mutant."
    start = time.time()
    put(root, row, row['find'], row['replace'])
    try:
        noticed = None
        for test in (row['notebook'], *row.get('tests', ())):
            if not passes(root, test, limit):
                noticed = test
                break
    finally:
        for path in (module_file, notebook_file):
            shutil.copyfile(path(whole, row), path(root, row))
    fields = ('name', 'module', 'find', 'replace')
    found = {name: row[name] for name in fields} | dict(noticed_by=noticed, seconds=round(time.time() - start, 1))
    if noticed is None and 'explained' in row:
        found['explained'] = row['explained']
    return found | dict(state=state_of(row, whole))


def write(rows: list, order: list):
    "The result as far as it is known."
    rows = sorted(rows, key=lambda row: order.index(row['name']))
    survivors = [row for row in rows if row['noticed_by'] is None]
    unexplained = [row['name'] for row in survivors if 'explained' not in row]
    about = dict(mutants=len(rows), noticed=len(rows) - len(survivors), explained=len(survivors) - len(unexplained),
                 survivors=unexplained, torch=version('torch'), python=platform.python_version())
    part = RESULT.with_suffix('.part')
    part.write_text(json.dumps(dict(about=about, rows=rows), indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    os.replace(part, RESULT)
    return about


def copy_tree(root: Path, goal: Path):
    "What tests need of a tree."
    goal.mkdir()
    for name in COPIED:
        if (root/name).is_dir():
            shutil.copytree(root/name, goal/name, ignore=shutil.ignore_patterns('__pycache__', '*.part'))
        else:
            shutil.copyfile(root/name, goal/name)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--only', default='', help='those whose name or module begins so')
    p.add_argument('--new', action='store_true', help='those without an up-to-date row in the result')
    p.add_argument('--check', action='store_true', help='only whether every place is found once')
    p.add_argument('--jobs', type=int, default=2)
    p.add_argument('--limit', type=float, default=900., help='seconds a test may take')
    a = p.parse_args()

    table = read_table()
    order = [row['name'] for row in table]
    lost = [(row['name'], places(row)) for row in table if places(row) != (1, 1)]
    if lost:
        sys.exit('places (in the module, in the notebook) that are not found once:\n' + '\n'.join(map(str, lost)))
    if a.check:
        return print(f'{len(table)} mutants, every place is found once')

    known = json.loads(RESULT.read_text(encoding='utf-8'))['rows'] if RESULT.exists() else []
    known = {row['name']: row for row in known if row['name'] in order}
    chosen = [row for row in table if row['name'].startswith(a.only) or row['module'].startswith(a.only)]
    if a.new:
        chosen = [row for row in chosen if known.get(row['name'], {}).get('state') != state_of(row, ROOT)]

    with tempfile.TemporaryDirectory() as t:
        whole, copies = Path(t)/'whole', SimpleQueue()
        copy_tree(ROOT, whole)  # the tree may change while this runs
        for i in range(a.jobs):
            copy_tree(whole, Path(t)/str(i))
            copies.put(Path(t)/str(i))

        def with_copy(work, *arguments):
            root = copies.get()
            try:
                return work(root, *arguments)
            finally:
                copies.put(root)

        with ThreadPoolExecutor(a.jobs) as pool:
            # what fails without a bug cannot notice one
            tests = sorted({test for row in chosen for test in (row['notebook'], *row.get('tests', ()))})
            sound = dict(zip(tests, pool.map(lambda test: with_copy(passes, test, a.limit), tests)))
            failing = {test for test, ok in sound.items() if not ok}
            print(f"{len(tests)} tests, {len(failing)} of them fail without a bug: {', '.join(failing)}", flush=True)
            chosen = [row for row in chosen if not failing & {row['notebook'], *row.get('tests', ())}]
            for found in pool.map(lambda row: with_copy(outcome, row, a.limit, whole), chosen):
                known[found['name']] = found
                print(f"{found['noticed_by'] or 'SURVIVED':24} {found['name']}  {found['seconds']} s", flush=True)
                about = write(list(known.values()), order)
    about = write(list(known.values()), order)
    print(f"{about['mutants']} mutants: {about['noticed']} noticed, {about['explained']} explained, "
          f"{len(about['survivors'])} survived: {', '.join(about['survivors']) or 'none'}")
    sys.exit(1 if about['survivors'] or failing else 0)


if __name__ == '__main__':
    main()
