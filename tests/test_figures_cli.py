"archsae_figures from the command line, on real chapters and on broken ones, and what is committed in figures/."
import json
import math
import os
import pty
import shutil
import subprocess
import nbformat
import pytest
from conftest import BIN
from archsae.book.estimate import WORK, declared_parameters, estimate, show_estimate
from archsae.book.figures import (
    absolute_source, archsae_figures, chapters, declared_figures, draw_figures, name_of, plan,
)
from archsae.book.scales import SCALES
from archsae.sources import absent

KEYS = {'name', 'chapter', 'scale', 'source', 'params', 'seeds', 'rows', 'volatile'}
CHEAP = ('06_sparsity',)  # seconds


def check_figure(json_path):
    "The JSON beside a picture says what the picture shows and where it comes from."
    about = json.loads(json_path.read_text(encoding='utf-8'))
    assert set(about) - {'smallest_text_px'} == KEYS  # which figures drawn before it was measured do not say
    assert about['name'] == json_path.stem and about['scale'] in SCALES
    assert {'versions', 'device', 'commit', 'seconds'} <= set(about['volatile'])
    assert about['rows']
    assert not [r for r in about['rows'] if any(isinstance(v, (list, dict)) for v in r.values())]
    assert json_path.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
    return about


def test_two_runs_agree(shell, root, tmp_path):
    "A chapter, twice: the same pictures to the byte, the same numbers."
    todo = [p for p in chapters(root/'nbs') if p.stem in CHEAP]
    names = {n for p in todo for n in declared_figures(p)}
    assert names
    only = ','.join(p.stem for p in todo)
    for run in 'ab':
        options = ('--only', only, '--figures', tmp_path/run, '--out', tmp_path/'out')
        r = shell('archsae_figures', *options, cwd=root)
        assert r.returncode == 0, r.stdout + r.stderr
        assert {p.stem for p in (tmp_path/run).glob('*.png')} == names
    assert f'{len(todo)} chapters passed, 0 failed; {len(names)} figures' in r.stdout.splitlines()[-1]
    assert 'cells |' in r.stderr  # the progress bar
    for p in (tmp_path/'a').glob('*.json'):
        a, b = check_figure(p), check_figure(tmp_path/'b'/p.name)
        assert a.pop('volatile') and b.pop('volatile')
        assert a == b and a['scale'] == 'smoke'
        assert p.with_suffix('.png').read_bytes() == (tmp_path/'b'/p.name).with_suffix('.png').read_bytes()
    assert {p.name for p in (tmp_path/'out').iterdir()} == {p.name for p in todo}  # the executed notebooks


@pytest.mark.parametrize('options, message', [
    (['--scale', 'tiny'], "scale: expected one of smoke, laptop, paper; got 'tiny'"),
    (['--source', 'dreams'], 'source: expected'),
    (['--device', 'cuda:99'], 'device: expected'),
    (['--jobs', '0'], 'jobs: expected'),
    (['--only', 'poetry'], 'only: expected a chapter that draws figures'),
    (['--only', 'sparsty'], "got 'sparsty'; did you mean sparsity or"),
    (['--skip', '06_sparsty'], "got '06_sparsty'; did you mean 06_sparsity or"),
    (['--param', 'no_such=1'], 'got no_such'),
    (['--only', 'delta', '--param', "sizes={'epoch': 1}"], "chapter delta; got 'epoch'; did you mean epochs or"),
    (['--only', 'delta', '--param', 'sizes=small'], "sizes: expected a dict such as {'k': 8}; got 'small'"),
    (['--source', 'images:resnet10t'], 'source: expected images:MODEL:FOLDER[:CHECKPOINT]'),
    (['--source', 'images:resnet10t:/no/such'], 'folder: expected a folder of images'),
    (['--source', 'images:resnet10tt:~'], 'model: expected a name that timm knows, such as resnet10t'),
    (['--source', 'text:gpt2:/no/such.txt'], "there is no file '/no/such.txt'"),
    (['--imagenet', '/no/such'], 'folder: expected a folder of images'),
])
def test_bad_options_stop_before_anything_runs(monkeypatch, capsys, root, tmp_path, options, message):
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as e:
        archsae_figures(['--figures', str(tmp_path/'figures'), *options])
    said = capsys.readouterr().err
    assert e.value.code == 2 and message in said and len(said.splitlines()) == 1
    assert not (tmp_path/'figures').exists()


@pytest.mark.parametrize('answer', ['n', '\x04'])
def test_somebody_who_is_asked_and_says_no(root, tmp_path, answer):
    "At a real terminal: one plain sentence, no usage, no error."
    ours, theirs = pty.openpty()
    command = [BIN/'archsae_figures', '--scale', 'paper', '--only', 'sparsity', '--figures', tmp_path/'figures']
    run = subprocess.Popen(command, cwd=root, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    os.close(theirs)
    os.write(ours, f'{answer}\n'.encode())
    said, _ = run.communicate(timeout=300)
    os.close(ours)
    assert run.returncode == 0 and said.endswith('nothing was run\n'), said
    assert 'usage' not in said and 'rror' not in said and 'left out' in said
    assert not (tmp_path/'figures').exists()


OWN = 'the source of each chapter itself'


@pytest.mark.parametrize('source', [OWN, 'minilm', 'vit', 'photos', 'images:resnet10t:photos'])
def test_every_chapter_is_estimated_at_the_papers_sizes(root, tmp_path, source):
    "At full sizes; only the steps whose speed is measured are small. The largest stands first."
    if absent(source):
        pytest.skip(absent(source))
    if source.startswith('images'):
        source = source.replace('photos', str(photo_folder(tmp_path/'photos')))
    given = {} if source == OWN else dict(source=source)
    jobs = plan(chapters(root/'nbs'), dict(scale='paper') | given)
    if source != OWN and not source.startswith('minilm'):  # what language chapters read is no image
        jobs = [job for job in jobs if declared_parameters(job.path).get('source') != 'text']
    rows, about = estimate(jobs, 'cpu', most=1e6)
    of_chapters = [row for row in rows if not row['chapter'].startswith('(')]
    assert [row['chapter'] for row in of_chapters] == [job.path.stem for job in jobs]  # nothing is left out
    counted = {row['chapter'] for row in of_chapters if row['by'] == 'count'}
    assert counted == {job.path.stem for job in jobs if name_of(job.path) in WORK}
    for row in rows:
        assert math.isfinite(row['hours']) and row['hours'] > 0, row
        if row['by'] == 'count' and 'distillation' not in row['chapter']:
            numbers = [row[name] for name in ('tokens', 'operations', 'bytes')]
            assert all(math.isfinite(number) and number > 0 for number in numbers), row
    lines = show_estimate(rows, about).splitlines()
    shown = [line.split()[1] for line in lines[1:len(rows) + 1]]
    by_hours = [row['chapter'].split()[0] for row in sorted(rows, key=lambda row: -row['hours'])]
    assert shown == by_hours and lines[len(rows) + 1].split()[1] == 'total'


def test_dry_run_says_where_the_hours_go_and_ends(monkeypatch, capsys, root, tmp_path):
    monkeypatch.chdir(root)
    folder = tmp_path/'figures'
    for scale in ('paper', 'laptop'):
        options = ['--scale', scale, '--only', 'sparsity,concepts', '--dry-run', '--figures', str(folder)]
        assert archsae_figures(options) == 0
        said = capsys.readouterr().out.splitlines()
        chapters_of = [line.split()[1] for line in said[1:3]]
        assert chapters_of == ['23_concepts', '06_sparsity'] and said[3].startswith('all') and '100.0%' in said[3]
        assert ('clock' in said[1]) == (scale == 'laptop') and 'clock' in said[2]
    assert not folder.exists()


def test_all_committed_figures_again_by_one_command(monkeypatch, capsys, root):
    "Each chapter, for every source that figures of it are committed of."
    monkeypatch.chdir(root)
    assert archsae_figures(['--scale', 'laptop', '--again', '--dry-run']) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    planned = {(line[1].split('_', 1)[1], line[0]) for line in lines if len(line) > 2 and '_' in line[1]}
    committed = set()
    for path in (root/'figures').glob('*.png'):
        about = json.loads(path.with_suffix('.json').read_text(encoding='utf-8'))
        if about['chapter'] != 'atlas':  # photographed in a browser, by .ci/atlas_pages.py and .ci/atlas_speed.py
            committed.add((about['chapter'], about['source']))
    assert committed <= planned
    with pytest.raises(SystemExit):
        archsae_figures(['--again', '--source', 'vit'])
    assert 'source: expected none beside --again' in capsys.readouterr().err


def test_a_tilde_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    photo_folder(tmp_path/'photos')
    assert absolute_source('images:resnet10t:~/photos') == f"images:resnet10t:{tmp_path/'photos'}"
    (tmp_path/'nbs').mkdir()
    chapter(tmp_path/'nbs', '03_right', RIGHT)
    done = draw_figures(figures='~/figures', out='~/out', nbs='~/nbs')
    assert [r.error for r in done] == [None]
    assert (tmp_path/'out/03_right.ipynb').is_file() and (tmp_path/'figures/right_one.png').is_file()


def test_outside_of_a_checkout(shell):
    r = shell('archsae_figures', '--scale', 'smoke')
    assert r.returncode == 2 and 'inside a checkout of archsae' in r.stderr


def chapter(folder, name, *code):
    first = nbformat.v4.new_code_cell("scale: str = 'smoke'", metadata=dict(tags=['parameters']))
    nb = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, code)])
    nb.metadata['kernelspec'] = dict(name='python3', display_name='python3', language='python')
    nbformat.write(nb, folder/f'{name}.ipynb')
    return folder/f'{name}.ipynb'


RIGHT = '''import matplotlib.pyplot as plt
from archsae.book.scales import begin, save_figure
about = begin('right', scale)
fig, ax = plt.subplots()
save_figure(fig, 'right_one', [dict(x=1)], **about)'''


def test_a_chapter_that_fails(shell, root, tmp_path):
    "It shows its cell and the traceback; the others, beside it and after it, run; the exit code says it."
    (tmp_path/'nbs').mkdir()
    shutil.copy(root/'settings.ini', tmp_path)
    chapter(tmp_path/'nbs', '01_wrong', 'numbers = [1, 2]', 'numbers[7]  # too far')
    chapter(tmp_path/'nbs', '02_silent', "if False: save_figure(None, 'silent_one', [])")
    chapter(tmp_path/'nbs', '03_right', RIGHT)
    r = shell('archsae_figures', '--figures', 'figures', '--out', 'out', '--jobs', 2)
    assert r.returncode == 1
    assert 'FAILED 01_wrong' in r.stdout and '    numbers[7]  # too far' in r.stdout
    assert 'IndexError: list index out of range' in r.stdout
    assert '\x1b' not in r.stdout
    assert 'FAILED 02_silent' in r.stdout and 'did not write what it declares: silent_one' in r.stdout
    assert r.stdout.splitlines()[-1].startswith('1 chapters passed, 2 failed; 1 figures in')
    check_figure(tmp_path/'figures/right_one.json')


def test_a_chapter_run_by_hand_spoils_nothing(shell, root, tmp_path):
    "Not a figure of a larger scale, and no folder is left behind."
    (tmp_path/'nbs').mkdir()
    (tmp_path/'figures').mkdir()
    shutil.copy(root/'settings.ini', tmp_path)
    committed = tmp_path/'figures/right_one.json'
    committed.write_text('{"scale": "laptop"}')
    path = chapter(tmp_path/'nbs', '03_right', RIGHT)
    elsewhere = tmp_path/'elsewhere'
    elsewhere.mkdir()
    shutil.copy(path, elsewhere)
    by_hand = ('jupyter', 'nbconvert', '--to', 'notebook', '--execute', '--output', 'ran', '03_right.ipynb')
    for cwd in (tmp_path/'nbs', elsewhere):
        r = shell(*by_hand, cwd=cwd)
        assert r.returncode == 0, r.stderr
    assert committed.read_text() == '{"scale": "laptop"}'
    assert {p.name for p in tmp_path.iterdir()} == {'nbs', 'figures', 'settings.ini', 'elsewhere'}
    assert {p.name for p in elsewhere.iterdir()} == {'03_right.ipynb', 'ran.ipynb'}
    committed.write_text('{"scale": "smoke"}')
    shell(*by_hand, cwd=tmp_path/'nbs')
    check_figure(committed)


SHRUNK = dict(ks=[8, 16], p=24, top_k=4, runs=2, epochs=1, batch_size=256, rates=[3e-3, 1e-2])


def photo_folder(folder, side=128):
    "Two photographs, cut into tiles: a folder of images with two classes."
    from PIL import Image
    from sklearn.datasets import load_sample_images

    for name, photo in zip('ab', load_sample_images().images):
        (folder/name).mkdir(parents=True)
        for i in range(12):
            r, c = divmod(i, 4)
            tile = photo[r * side:(r + 1) * side, c * side:(c + 1) * side]
            Image.fromarray(tile).save(folder/name/f'{i}.png')
    return folder


SAID = ('tokens seen', 'operations', 'bytes moved', 'hours on cpu', 'for the activations of', 'on disk in',
        'measured on cpu', 'left out')


def test_scale_paper_end_to_end(shell, root, tmp_path, monkeypatch):
    """The paper's sizes, shrunk by parameters, on a folder of images and a timm model, with the activations on disk:
    first the estimate and a refusal, then with --yes the run."""
    import timm
    import torch

    monkeypatch.setenv('ARCHSAE_MEMORY', '0')
    weights = tmp_path/'weights.pth'
    torch.manual_seed(0)
    torch.save(timm.create_model('resnet10t', pretrained=False).state_dict(), weights)
    source = f"images:resnet10t:{photo_folder(tmp_path/'photos')}:{weights}"
    options = ['--scale', 'paper', '--only', 'plausibility', '--source', source, '--device', 'cpu',
               '--param', f'sizes={SHRUNK}', '--figures', tmp_path/'figures', '--out', tmp_path/'out']
    r = shell('archsae_figures', *options, cwd=root)
    assert r.returncode == 2 and 'yes: expected --yes' in r.stderr, r.stdout + r.stderr
    assert not (tmp_path/'figures').exists()
    row = next(line.split() for line in r.stdout.splitlines() if line.startswith('resnet10t  20_plausibility'))
    # methods, times sizes by rates to choose from and by runs; two methods for two numbers of epochs
    assert int(row[2]) == 6 * (2 * 2 + 2 * 2) + 2 * 2
    assert all(word in r.stdout for word in SAID)
    r = shell('archsae_figures', *options, '--yes', cwd=root)
    assert r.returncode == 0, r.stdout + r.stderr
    about = check_figure(tmp_path/'figures/table2_plausibility.resnet10t.json')
    assert about['scale'] == 'paper' and about['source'].startswith('images:resnet10t')
    assert about['params']['k'] == SHRUNK['ks']
    assert (about['params']['p'], about['params']['epochs']) == (24, 1)
    assert {r['k'] for r in about['rows'] if r.get('kind') == 'run'} == {8, 16}


NOT_RUN_YET = set()  # of any source; a figure that is run leaves this list


def test_committed_figures(root):
    """Every figure that a chapter declares is committed, of one source at least, and nothing else is; at laptop scale
    or larger."""
    declared = {n: name_of(p) for p in chapters(root/'nbs') for n in declared_figures(p)}
    declared['speed_gpu'] = 'bench'  # measured by make gpu
    atlases = ('photos', 'photos_atom', 'text', 'text_atom')  # pages in a browser, by .ci/atlas_pages.py
    declared |= {f'atlas_{name}': 'atlas' for name in ('speed', *atlases)}
    files = [p for p in (root/'figures').glob('*.json') if p.stem != 'claims']  # the ledger is no figure
    committed = {p.stem: check_figure(p) for p in files}
    drawn = {name.split('.')[0] for name in committed}
    assert set(declared) - drawn == NOT_RUN_YET
    assert {p.stem for p in (root/'figures').glob('*.png')} == set(committed)
    for name, about in committed.items():
        assert about['scale'] in ('laptop', 'paper'), name
        assert declared[name.split('.')[0]] == about['chapter'], name
