"nbdev_test runs with the project on `sys.path`, which hides a broken installation: these tests import from elsewhere."
import re
import warnings

PROBE = "import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\nprint(*sys.modules)"
HEAVY = {'timm', 'torchvision', 'transformers', 'papermill', 'matplotlib', 'seaborn', 'sklearn', 'pandas', 'nbformat',
         'IPython', 'PIL', 'hypothesis', 'fastcore', 'jaxtyping'}
LIGHT = HEAVY - {'jaxtyping'}  # core asks for it where it is installed


def modules(root, folder='archsae'):
    found = []
    for path in sorted((root/folder).rglob('*.py')):
        parts = path.relative_to(root).with_suffix('').parts
        if not parts[-1].startswith('_'):
            found.append('.'.join(parts))
    return found


def test_installed_package_imports_from_elsewhere(shell, settings):
    code = "import archsae, importlib.metadata as md, archsae.core; print(archsae.__version__, md.version('archsae'))"
    r = shell('python', '-c', code)
    assert r.returncode == 0, r.stderr
    assert r.stdout.split() == [settings['version']] * 2


def test_import_archsae_needs_nothing(shell):
    r = shell('python', '-c', "import sys, archsae; print(*sys.modules)")
    assert r.returncode == 0, r.stderr
    assert not (HEAVY | {'torch', 'numpy', 'scipy'}) & set(r.stdout.split())


def test_sae_imports_nothing_heavy(shell):
    r = shell('python', '-c', PROBE.format(modules=['archsae.sae']))
    assert r.returncode == 0, r.stderr
    assert not (LIGHT | {'scipy', 'scipy.optimize'}) & set(r.stdout.split())


def test_no_module_imports_anything_heavy(shell, root):
    r = shell('python', '-c', PROBE.format(modules=modules(root)))
    assert r.returncode == 0, r.stderr
    assert not LIGHT & set(r.stdout.split())


HIDE = '''import sys, torch, numpy, scipy
hidden = {hidden!r}

class Hide:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split('.')[0] in hidden else self.finder.find_spec(name, path, target)

for m in [m for m in sys.modules if m.split('.')[0] in hidden]:
    del sys.modules[m]
sys.meta_path[:] = map(Hide, sys.meta_path)
'''
TRAIN = '''import torch, archsae
A = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
sae = archsae.RATopKSAE(8, 16, A[:16], top_k=4)
archsae.fit(sae, A, epochs=2)
print(archsae.evaluate(sae, A)['l0'])
'''


def test_training_needs_torch_numpy_scipy_only(shell):
    "A machine with a GPU often has these and nothing else."
    hidden = HEAVY | {'tqdm', 'nbdev', 'execnb', 'safetensors', 'ipykernel'}
    r = shell('python', '-W', 'ignore', '-c', HIDE.format(hidden=hidden) + TRAIN)
    assert r.returncode == 0, r.stderr
    assert 0 < float(r.stdout) <= 4


def test_a_missing_extra_is_named(shell):
    code = "import archsae\narchsae.load_source('imagenet')"
    r = shell('python', '-c', HIDE.format(hidden={'timm', 'torchvision', 'PIL'}) + code)
    assert r.returncode == 1 and "pip install 'archsae[vision]'" in r.stderr, r.stderr


def test_import_computes_and_writes_nothing(shell, root, tmp_path):
    "No download, no cache folder, no device query."
    look = "\nimport torch; assert not torch.cuda.is_initialized()"
    env = dict(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path/'cache'), HF_HUB_OFFLINE='1')
    r = shell('python', '-c', PROBE.format(modules=modules(root)) + look, **env)
    assert r.returncode == 0, r.stderr
    assert not [p for p in tmp_path.rglob('*') if 'archsae' in p.name]


def test_console_script_helps(shell):
    r = shell('archsae_figures', '--help')
    assert r.returncode == 0, r.stderr
    for option in ('scale', 'source', 'device', 'seed', 'only', 'skip', 'out', 'figures', 'jobs', 'param'):
        assert f'--{option}' in r.stdout


def test_every_module_has_a_notebook(root):
    exported = set()
    for path in (root/'nbs').glob('*.ipynb'):
        exported |= set(re.findall(r'#\|\s*(?:default_exp|exporti?) ([\w.]+)', path.read_text(encoding='utf-8')))
    assert {m.removeprefix('archsae.') for m in modules(root)} <= exported


def test_modules_compile_without_warnings(root):
    "A backslash in a summary (`> ...`) becomes an invalid escape in the module's docstring."
    for p in sorted((root/'archsae').rglob('*.py')):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            compile(p.read_text(encoding='utf-8'), str(p), 'exec')
