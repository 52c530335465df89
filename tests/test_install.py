"nbdev_test runs with the project on `sys.path`, which hides a broken installation: these tests import from elsewhere."
import re, warnings

PROBE = "import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\nprint(*sys.modules)"
HEAVY = {'timm', 'torchvision', 'transformers', 'papermill', 'matplotlib', 'seaborn', 'sklearn', 'pandas', 'nbformat', 'IPython', 'PIL', 'hypothesis'}

def modules(root): return [f'archsae.{p.stem}' for p in sorted((root/'archsae').glob('*.py')) if not p.stem.startswith('_')]

def test_installed_package_imports_from_elsewhere(shell, root, settings):
    r = shell('python', '-c', "import archsae, importlib.metadata as md, archsae.core; print(archsae.__version__, md.version('archsae'))")
    assert r.returncode == 0, r.stderr
    assert r.stdout.split() == [settings['version']] * 2

def test_sae_imports_nothing_heavy(shell):
    r = shell('python', '-c', PROBE.format(modules=['archsae.sae']))
    assert r.returncode == 0, r.stderr
    assert not (HEAVY | {'scipy', 'scipy.optimize'}) & set(r.stdout.split())

def test_no_module_imports_anything_heavy(shell, root):
    r = shell('python', '-c', PROBE.format(modules=modules(root)))
    assert r.returncode == 0, r.stderr
    assert not HEAVY & set(r.stdout.split())

def test_training_needs_torch_numpy_scipy_only(shell):
    "A machine with a GPU often has these and nothing else."
    block = f'''import sys, torch, numpy, scipy
hidden = {HEAVY | {'tqdm', 'nbdev', 'execnb', 'safetensors', 'ipykernel'}!r}
class Hide:
    def __init__(self, finder): self.finder = finder
    def __getattr__(self, name): return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None): return None if name.split('.')[0] in hidden else self.finder.find_spec(name, path, target)
for m in [m for m in sys.modules if m.split('.')[0] in hidden]: del sys.modules[m]
sys.meta_path[:] = map(Hide, sys.meta_path)
'''
    train = '''import torch
from archsae.sae import RATopKSAE
from archsae.training import fit
A = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
fit(RATopKSAE(8, 16, A[:16], top_k=4), A)
'''
    r = shell('python', '-c', block + train)
    assert r.returncode == 0, r.stderr

def test_import_computes_and_writes_nothing(shell, root, tmp_path):
    "No download, no cache folder, no device query."
    look = "\nimport torch; assert not torch.cuda.is_initialized()"
    r = shell('python', '-c', PROBE.format(modules=modules(root)) + look, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path/'cache'), HF_HUB_OFFLINE='1')
    assert r.returncode == 0, r.stderr
    assert not [p for p in tmp_path.rglob('*') if 'archsae' in p.name]

def test_console_script_helps(shell):
    r = shell('archsae_figures', '--help')
    assert r.returncode == 0, r.stderr
    for option in ('scale', 'source', 'device', 'seed', 'only', 'skip', 'out', 'figures', 'jobs', 'param'): assert f'--{option}' in r.stdout

def test_every_module_has_a_notebook(root):
    exported = {m for p in (root/'nbs').glob('*.ipynb') for m in re.findall(r'#\|\s*default_exp (\w+)', p.read_text(encoding='utf-8'))}
    assert {m.split('.')[1] for m in modules(root)} == exported

def test_modules_compile_without_warnings(root):
    "A backslash in a summary (`> ...`) becomes an invalid escape in the module's docstring."
    for p in sorted((root/'archsae').glob('*.py')):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            compile(p.read_text(encoding='utf-8'), str(p), 'exec')
