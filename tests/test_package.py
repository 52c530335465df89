"""What is built can be installed and used: sdist and wheel, the wheel alone in an environment without extras, types.

The clean environment has the core requirements and what they require, and nothing else: they are linked from the
environment of the tests, which saves a download of several GB. `ARCHSAE_FULL_INSTALL=1` installs everything for real,
for each Python of the range that is on the path."""
import importlib.metadata as md
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
README_LINES = re.compile(r'```python\n(.*?)```', re.S)
PYTHONS = ('python3.11', 'python3.12', 'python3.13', 'python3.14')


def run(*command, cwd=None, **env):
    clean = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'IN_TEST', 'ARCHSAE_CHECK_SHAPES')}
    command = [str(c) for c in command]
    return subprocess.run(command, cwd=cwd, env=clean | env, text=True, capture_output=True, timeout=1800)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "The sdist, and the wheel that is built from it."
    folder = tmp_path_factory.mktemp('dist')
    source = tmp_path_factory.mktemp('source')/'archsae'
    tracked = run('git', 'ls-files', '--cached', '--others', '--exclude-standard', cwd=ROOT).stdout.splitlines()
    for name in tracked:
        if (ROOT/name).is_file() and not name.startswith('figures/'):
            (source/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT/name, source/name)
    r = run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder, source)
    assert r.returncode == 0, r.stdout + r.stderr
    return next(folder.glob('*.tar.gz')), next(folder.glob('*.whl'))


def test_sdist_has_the_sources(built):
    with tarfile.open(built[0]) as tar:
        names = {'/'.join(n.split('/')[1:]) for n in tar.getnames()}
    wanted = {'settings.ini', 'LICENSE', 'nbs/index.ipynb', 'nbs/00_core.ipynb', 'archsae/book/claims.toml'}
    assert wanted <= names


def test_wheel_has_the_package_and_its_tables(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    tables = {f'archsae/book/{p.relative_to(ROOT/"archsae/book")}' for p in (ROOT/'archsae/book').rglob('*.toml')}
    page = {p.relative_to(ROOT).as_posix() for p in (ROOT/'archsae/atlas_site').rglob('*') if p.is_file()}
    assert {'archsae/atlas_site/index.html', 'archsae/atlas_site/vendor/LICENSES.txt'} <= page <= names
    assert tables | {'archsae/py.typed', 'archsae/__init__.py', 'archsae/overcomplete/__init__.py'} <= names
    assert not [n for n in names if n.startswith(('nbs/', 'tests/'))]


def closure(requirements) -> dict:
    "Distributions that the requirements need, by name, without extras."
    found, todo = {}, list(requirements)
    while todo:
        requirement = Requirement(todo.pop())
        name = requirement.name.lower().replace('_', '-')
        if name in found or (requirement.marker and not requirement.marker.evaluate({'extra': ''})):
            continue
        try:
            found[name] = md.distribution(requirement.name)
        except md.PackageNotFoundError:
            continue  # of another platform
        todo += found[name].requires or []
    return found


@pytest.fixture(scope='module')
def clean(built, settings_of, tmp_path_factory):
    "Python of an environment with the core requirements and the wheel."
    folder = tmp_path_factory.mktemp('clean')
    venv.create(folder, with_pip=False, symlinks=True)
    site = folder/f'lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages'
    for distribution in closure(settings_of['requirements'].split()).values():
        for name in {f.parts[0] for f in distribution.files if f.parts[0] not in ('..', '__pycache__')}:
            target = Path(distribution.locate_file(name))
            if target.exists() and not (site/name).exists():
                (site/name).symlink_to(target)
    with zipfile.ZipFile(built[1]) as wheel:
        wheel.extractall(site)
    return folder/'bin/python'


@pytest.fixture(scope='module')
def settings_of():
    import configparser

    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    return cfg['DEFAULT']


def first_lines() -> str:
    "The first Python of the README."
    return README_LINES.search((ROOT/'README.md').read_text(encoding='utf-8'))[1]


def test_the_first_lines_run_without_extras(clean, tmp_path):
    r = run(clean, '-W', 'ignore', '-c', first_lines(), cwd=tmp_path)
    assert r.returncode == 0, r.stderr
    missing = run(clean, '-c', 'import matplotlib', cwd=tmp_path)
    assert 'No module named' in missing.stderr, 'the environment is not clean'


def test_every_module_imports_without_extras(clean, tmp_path):
    modules = ['.'.join(p.relative_to(ROOT).with_suffix('').parts) for p in sorted((ROOT/'archsae').rglob('*.py'))]
    modules = [m for m in modules if not m.split('.')[-1].startswith('_')]
    code = f'import importlib\nfor m in {modules!r}: importlib.import_module(m)'
    r = run(clean, '-c', code, cwd=tmp_path)
    assert r.returncode == 0, r.stderr


USER = '''import torch
import archsae

A = torch.randn(1000, 16)
C: torch.Tensor = archsae.distil(A, 32)
sae = archsae.RATopKSAE(16, 32, C, top_k=4)
log = archsae.fit(sae, A, epochs=1)
scores: dict = archsae.evaluate(sae, A)
D: torch.Tensor = sae.get_dictionary()
pre_codes, codes, x_hat = sae(A)
print(archsae.stability(D, D), codes.shape, sae.config)
archsae.save(sae, 'folder')
again = archsae.load('folder')
'''


def test_a_small_script_passes_a_type_checker(clean, tmp_path):
    (tmp_path/'user.py').write_text(USER)
    options = ('--follow-imports', 'silent', '--no-incremental', '--python-executable', clean)
    good = run(sys.executable, '-m', 'mypy', *options, 'user.py', cwd=tmp_path)
    assert good.returncode == 0, good.stdout
    (tmp_path/'wrong.py').write_text(USER.replace('top_k=4', 'topk=4'))
    bad = run(sys.executable, '-m', 'mypy', *options, 'wrong.py', cwd=tmp_path)
    assert bad.returncode == 1 and 'topk' in bad.stdout, bad.stdout


@pytest.mark.skipif('ARCHSAE_FULL_INSTALL' not in os.environ, reason='ARCHSAE_FULL_INSTALL=1 downloads several GB')
@pytest.mark.parametrize('python', [p for p in PYTHONS if shutil.which(p)])
def test_full_install(built, tmp_path, python):
    run(python, '-m', 'venv', tmp_path/'env')
    r = run(tmp_path/'env/bin/python', '-m', 'pip', 'install', '--quiet', built[1])
    assert r.returncode == 0, r.stderr
    r = run(tmp_path/'env/bin/python', '-W', 'ignore', '-c', first_lines(), cwd=tmp_path)
    assert r.returncode == 0, r.stderr
