"archsae_figures from the command line, on real chapters and on broken ones, and what is committed in figures/."
import json, shutil
import nbformat, pytest
from archsae.book.scales import SCALES
from archsae.book.figures import archsae_figures, chapters, declared_figures

KEYS = {'name', 'chapter', 'scale', 'source', 'params', 'seeds', 'rows', 'volatile'}
CHEAP = ('04_sparsity',)  # seconds

def check_figure(json_path):
    "The JSON beside a picture says what the picture shows and where it comes from."
    about = json.loads(json_path.read_text(encoding='utf-8'))
    assert set(about) == KEYS and about['name'] == json_path.stem and about['scale'] in SCALES
    assert {'versions', 'device', 'commit', 'seconds'} <= set(about['volatile'])
    assert about['rows'] and not [r for r in about['rows'] if any(isinstance(v, (list, dict)) for v in r.values())]
    assert json_path.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    return about

def test_two_runs_agree(shell, root, tmp_path):
    "A chapter, twice: the same pictures to the byte, the same numbers."
    todo = [p for p in chapters(root/'nbs') if p.stem in CHEAP]
    names = {n for p in todo for n in declared_figures(p)}
    assert names
    for run in 'ab':
        r = shell('archsae_figures', '--only', ','.join(p.stem for p in todo), '--figures', tmp_path/run, '--out', tmp_path/'out', cwd=root)
        assert r.returncode == 0, r.stdout + r.stderr
        assert {p.stem for p in (tmp_path/run).glob('*.png')} == names
    assert f"{len(todo)} chapters passed, 0 failed; {len(names)} figures" in r.stdout.splitlines()[-1]
    assert 'cells |' in r.stderr  # the progress bar
    for p in (tmp_path/'a').glob('*.json'):
        a, b = check_figure(p), check_figure(tmp_path/'b'/p.name)
        assert a.pop('volatile') and b.pop('volatile') and a == b and a['scale'] == 'smoke'
        assert p.with_suffix('.png').read_bytes() == (tmp_path/'b'/p.name).with_suffix('.png').read_bytes()
    assert {p.name for p in (tmp_path/'out').iterdir()} == {p.name for p in todo}  # the executed notebooks

@pytest.mark.parametrize('options, message', [
    (['--scale', 'tiny'], "scale: expected one of smoke, laptop, paper; got 'tiny'"),
    (['--source', 'dreams'], "source: expected"), (['--device', 'cuda:99'], "device: expected"), (['--jobs', '0'], "jobs: expected"),
    (['--only', 'poetry'], "only: expected chapters that draw figures"), (['--param', 'no_such=1'], "got no_such")])
def test_bad_options_stop_before_anything_runs(monkeypatch, capsys, root, tmp_path, options, message):
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as e: archsae_figures(['--figures', str(tmp_path/'figures'), *options])
    assert e.value.code == 2 and message in capsys.readouterr().err and not (tmp_path/'figures').exists()

def test_outside_of_a_checkout(shell):
    r = shell('archsae_figures', '--scale', 'smoke')
    assert r.returncode == 2 and 'inside a checkout of archsae' in r.stderr

def chapter(folder, name, *code):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("scale: str = 'smoke'", metadata=dict(tags=['parameters'])), *map(nbformat.v4.new_code_cell, code)])
    nb.metadata['kernelspec'] = dict(name='python3', display_name='python3', language='python')
    nbformat.write(nb, folder/f'{name}.ipynb')

def test_a_chapter_that_fails(shell, root, tmp_path):
    "It shows its cell and the traceback; the others, beside it and after it, run; the exit code says it."
    (tmp_path/'nbs').mkdir(); shutil.copy(root/'settings.ini', tmp_path)
    chapter(tmp_path/'nbs', '01_wrong', 'numbers = [1, 2]', 'numbers[7]  # too far')
    chapter(tmp_path/'nbs', '02_silent', "if False: save_figure(None, 'silent_one', [])")
    chapter(tmp_path/'nbs', '03_right', '''import matplotlib.pyplot as plt
from archsae.book.scales import begin, save_figure
about = begin('right', scale); fig, ax = plt.subplots()
save_figure(fig, 'right_one', [dict(x=1)], **about)''')
    r = shell('archsae_figures', '--figures', 'figures', '--out', 'out', '--jobs', 2)
    assert r.returncode == 1
    assert 'FAILED 01_wrong' in r.stdout and '    numbers[7]  # too far' in r.stdout and 'IndexError: list index out of range' in r.stdout
    assert '\x1b' not in r.stdout
    assert 'FAILED 02_silent' in r.stdout and 'did not write what it declares: silent_one' in r.stdout
    assert r.stdout.splitlines()[-1].startswith('1 chapters passed, 2 failed; 1 figures in')
    check_figure(tmp_path/'figures/right_one.json')

SHRUNK = dict(ks=[8, 16], p=24, top_k=4, runs=2, epochs=1, batch_size=256, rates=[3e-3, 1e-2])

def photo_folder(folder, side=128):
    "Two photographs, cut into tiles: a folder of images with two classes."
    from PIL import Image
    from sklearn.datasets import load_sample_images
    for name, x in zip('ab', load_sample_images().images):
        (folder/name).mkdir(parents=True)
        for i in range(12): r, c = divmod(i, 4); Image.fromarray(x[r * side:(r + 1) * side, c * side:(c + 1) * side]).save(folder/name/f'{i}.png')
    return folder

def test_scale_paper_end_to_end(shell, root, tmp_path, monkeypatch):
    "The paper's sizes, shrunk by parameters, on a folder of images and a timm model, with the activations on disk: first the estimate and a refusal, then with --yes the run."
    monkeypatch.setenv('ARCHSAE_MEMORY', '0')
    import timm, torch
    weights = tmp_path/'weights.pth'; torch.manual_seed(0); torch.save(timm.create_model('resnet10t', pretrained=False).state_dict(), weights)
    options = ['--scale', 'paper', '--only', 'plausibility', '--source', f"images:resnet10t:{photo_folder(tmp_path/'photos')}:{weights}", '--device', 'cpu', '--param', f'sizes={SHRUNK}',
               '--figures', tmp_path/'figures', '--out', tmp_path/'out']
    r = shell('archsae_figures', *options, cwd=root)
    assert r.returncode == 2 and 'yes: expected --yes' in r.stderr and not (tmp_path/'figures').exists(), r.stdout + r.stderr
    row = next(l.split() for l in r.stdout.splitlines() if l.startswith('resnet10t  16_plausibility'))
    assert int(row[2]) == 6 * (2 + 2 * 2)  # methods, times rates to choose from and sizes by runs
    assert all(word in r.stdout for word in ('tokens seen', 'operations', 'bytes moved', 'hours on cpu', 'for the activations of', 'on disk in', 'measured on cpu', 'left out'))
    r = shell('archsae_figures', *options, '--yes', cwd=root)
    assert r.returncode == 0, r.stdout + r.stderr
    about = check_figure(tmp_path/'figures/table2_plausibility.resnet10t.json')
    assert about['scale'] == 'paper' and about['params']['k'] == SHRUNK['ks'] and (about['params']['p'], about['params']['epochs']) == (24, 1)
    assert {r['k'] for r in about['rows'] if r.get('kind') == 'run'} == {8, 16} and about['source'].startswith('images:resnet10t')

def test_committed_figures(root):
    "Every figure that a chapter declares is committed at laptop scale, with its numbers, and nothing else is."
    declared = {n: p.stem.split('_', 1)[1] for p in chapters(root/'nbs') for n in declared_figures(p)}
    committed = {p.stem: check_figure(p) for p in (root/'figures').glob('*.json') if p.stem != 'claims'}  # the ledger is no figure
    assert set(declared) <= set(committed)
    assert {p.stem for p in (root/'figures').glob('*.png')} == set(committed)
    for name, about in committed.items():
        assert about['scale'] == 'laptop' and declared[name.split('.')[0]] == about['chapter'], name
