"""Are notebooks, package and README in step? Exports and cleans a copy in a temporary folder and compares.

It changes nothing. A hand edit in archsae/, a module whose notebook is gone and a notebook that was not cleaned all
show. Exit code: the number of checks that failed."""
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def run(*command, **kw) -> str:
    "What a command printed, if it failed."
    r = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    return f"{' '.join(Path(c).name for c in command)}:\n{r.stdout}" if r.returncode else ''


def export(copy) -> str:
    """A copy of the sources in `copy`, exported and cleaned; what went wrong.

    There is no archsae/ in it: what nbs/ does not export must be missing there."""
    for name in ('settings.ini', 'pyproject.toml', 'README.md'):
        shutil.copy(ROOT/name, copy)
    shutil.copytree(ROOT/'nbs', copy/'nbs', ignore=shutil.ignore_patterns('.*', '_*'))
    env = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    return run(BIN/'nbdev_export', cwd=copy, env=env) or run(BIN/'nbdev_clean', cwd=copy, env=env)


def files(folder, pattern) -> dict:
    "Name below the folder -> text."
    found = {}
    for path in folder.rglob(pattern):
        name = path.relative_to(folder).as_posix()
        if not any(part.startswith('.') for part in name.split('/')):
            found[name] = path.read_text(encoding='utf-8')
    return found


def difference(have, want, pattern) -> str:
    "What would have to change in folder `have` to make its files like those of `want`."
    a, b = files(have, pattern), files(want, pattern)
    lines = [f'only in {have.name}/: {name}\n' for name in sorted(a.keys() - b.keys())]
    lines += [f'not in {have.name}/: {name}\n' for name in sorted(b.keys() - a.keys())]
    for name in sorted(a.keys() & b.keys()):
        old, new = a[name].splitlines(True), b[name].splitlines(True)
        lines += list(difflib.unified_diff(old, new, f'{have.name}/{name}', 'expected'))[:40]
    return ''.join(lines)


def check(name, problem) -> bool:
    print(f"{'FAILED' if problem else 'ok'}: {name}" + (f'\n{problem.rstrip()}' if problem else ''), flush=True)
    return bool(problem)


def main() -> int:
    with tempfile.TemporaryDirectory() as t:
        copy = Path(t)
        trouble = export(copy)
        package = trouble or difference(ROOT/'archsae', copy/'archsae', '*.py')
        clean = trouble or difference(ROOT/'nbs', copy/'nbs', '[!_]*.ipynb')
        readme = run(sys.executable, ROOT/'.ci/readme.py', '--check')
        return sum([
            check('archsae/ is what nbs/ exports (else: make export)', package),
            check('notebooks are clean (else: make export)', clean),
            check('README.md is the render of nbs/index.ipynb (else: make readme)', readme),
        ])


if __name__ == '__main__':
    sys.exit(main())
