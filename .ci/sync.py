"""Are notebooks, package and README in step? Exports and cleans a copy in a temporary folder and compares; changes nothing.
A hand edit in archsae/, a module whose notebook is gone and a notebook that was not cleaned all show. Exit code: the number of checks that failed."""
import difflib, os, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT, BIN = Path(__file__).resolve().parent.parent, Path(sys.executable).parent

def run(*command, **kw):
    r = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    return f"{' '.join(Path(c).name for c in command)}:\n{r.stdout}" if r.returncode else ''

def export(copy) -> str:  # what went wrong
    "A copy of the sources in `copy`, exported and cleaned. No archsae/ in it: what nbs/ does not export must be missing there."
    for f in ('settings.ini', 'pyproject.toml', 'README.md'): shutil.copy(ROOT/f, copy)
    shutil.copytree(ROOT/'nbs', copy/'nbs', ignore=shutil.ignore_patterns('.*', '_*'))
    env = dict(os.environ, PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    return run(BIN/'nbdev_export', cwd=copy, env=env) or run(BIN/'nbdev_clean', cwd=copy, env=env)

def difference(have, want, pattern) -> str:
    "What would have to change in folder `have` to make its files like those of `want`."
    a, b = ({p.relative_to(d).as_posix(): p.read_text(encoding='utf-8') for p in d.rglob(pattern) if '/.' not in p.as_posix().replace(d.as_posix(), '')}
            for d in (have, want))
    lines = [f'only in {have.name}/: {f}\n' for f in sorted(a.keys() - b.keys())] + [f'not in {have.name}/: {f}\n' for f in sorted(b.keys() - a.keys())]
    for f in sorted(a.keys() & b.keys()): lines += list(difflib.unified_diff(a[f].splitlines(True), b[f].splitlines(True), f'{have.name}/{f}', 'expected'))[:40]
    return ''.join(lines)

def check(name, problem) -> bool:
    print(f"{'FAILED' if problem else 'ok'}: {name}" + (f'\n{problem.rstrip()}' if problem else ''), flush=True)
    return bool(problem)

def main() -> int:
    with tempfile.TemporaryDirectory() as t:
        copy = Path(t)
        trouble = export(copy)
        return sum([check('archsae/ is what nbs/ exports (else: make export)', trouble or difference(ROOT/'archsae', copy/'archsae', '*.py')),
                    check('notebooks are clean (else: make export)', trouble or difference(ROOT/'nbs', copy/'nbs', '[!_]*.ipynb')),
                    check('README.md is the render of nbs/index.ipynb (else: make readme)', run(sys.executable, ROOT/'.ci/readme.py', '--check'))])

if __name__ == '__main__': sys.exit(main())
