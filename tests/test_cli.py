"`archsae` from the terminal: the installed command in a process of its own, and the rest of it in this one."
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
import numpy as np
import pytest
import torch
import archsae
from archsae.cli import command, main
from archsae.sources import absent, in_data
from archsae.vision import data_folder

DATA = data_folder()  # found from the project's folder, which the tests leave


@pytest.fixture
def rows(tmp_path, monkeypatch):
    "A folder to work in, with activations that have something to learn: mixtures of a few directions."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('NO_COLOR', '1')
    if DATA:
        monkeypatch.setenv('ARCHSAE_DATA', str(DATA.resolve()))
    g = torch.Generator().manual_seed(0)
    D = torch.nn.functional.normalize(torch.randn(24, 16, generator=g))
    Z = torch.rand(200, 8, 24, generator=g) * (torch.rand(200, 8, 24, generator=g) < .15)
    np.save('acts.npy', (Z @ D + .01 * torch.randn(200, 8, 16, generator=g)).numpy())
    return tmp_path


def asked(*argv):
    "Exit code and JSON of a command."
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main([*argv, '--json'])
    return code, json.loads(said.getvalue())


SHORT = ('--steps', '60', '-k', '24', '--active', '4')


def test_the_installed_command(shell, rows):
    "In a process of its own, a file of activations becomes a model; standard output has the JSON and nothing else."
    r = shell('archsae', 'fit', 'acts.npy', '--out', 'model', *SHORT, '--json', cwd=rows)
    assert r.returncode == 0, r.stderr
    told = json.loads(r.stdout)
    assert told['settings']['atoms'] == 24 and told['held_out_tokens'] == 160 and 'traceback' not in r.stderr.lower()
    model = archsae.load(rows/'model')
    raw = torch.from_numpy(np.load(rows/'acts.npy')).flatten(0, 1)
    assert model(model.from_raw(raw)).codes.count_nonzero(1).max() <= 4


def test_help_and_refusals_do_not_wait_for_torch(shell, rows):
    look = "import sys; from archsae.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    for argv, said in ((['--help'], '0 False'), (['fit', '--help'], '0 False'), (['fit', 'nothing.npy'], '2 False'),
                       (['fti'], '2 False'), (['fit', 'acts.npy', '--kind', 'tpok', '--out', 'x'], '2 False')):
        r = shell('python', '-c', look, *argv, cwd=rows)
        assert r.stdout.splitlines()[-1] == said, (argv, r.stdout, r.stderr)


def every_command(group=command, before=()):
    for name, inner in group.commands.items():
        yield (*before, name), inner
        if hasattr(inner, 'commands'):
            yield from every_command(inner, (*before, name))


def test_every_help_has_an_example_and_every_option_a_word(capsys):
    for path, inner in every_command():
        if path in (('figures',), ('bench',)):
            continue
        assert main([*path, '--help']) == 0
        assert f"archsae {' '.join(path)} " in capsys.readouterr().out, path
        assert not [p.name for p in inner.params if p.param_type_name == 'option' and not p.help], path


def test_a_run_can_be_repeated_from_its_toml(rows):
    assert asked('fit', 'acts.npy', '--out', 'a', '--seed', 3, *SHORT)[0] == 0
    told = tomllib.loads((rows/'a/run.toml').read_text())
    assert told['fit']['seed'] == 3 and told['fit']['points'] == 24 and {'archsae', 'torch'} <= set(told['versions'])
    assert asked('fit', '--config', 'a/run.toml', '--out', 'b')[0] == 0
    assert asked('fit', '--config', 'a/run.toml', '--seed', 4, '--out', 'c')[0] == 0
    a, b, c = (archsae.load(rows/name).get_dictionary() for name in 'abc')
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_stable_with_trust_show_and_report(rows):
    code, told = asked('fit', 'acts.npy', '--stable', '--trust', 2, '-k', 24, '--active', 4, '--out', 'stable')
    assert code == 0 and 0 <= told['recurring'] <= 1
    assert asked('fit', 'acts.npy', '--kind', 'topk', '--out', 'free', *SHORT)[0] == 0
    code, told = asked('show', 'stable', 0)
    assert code == 0 and 0 <= told['recurs'] <= 1 and told['rows'] and told['parent'] >= -1
    code, told = asked('report', 'stable', 'free', '--out', 'report')
    assert code == 0 and {'null_numbers', 'null_rows'} <= set(told['pairs'][0])
    kept = json.loads((rows/'report/report.json').read_text())
    assert kept['models'] == told['models'] and kept['models'][0]['r2_held_out'] > 0
    page = (rows/'report/report.html').read_text()
    assert 'random rows' in page and not re.search(r'(src|href)="(?!data:)', page)


def test_a_stable_dictionary_is_exported_with_an_encoder_that_says_its_price(rows):
    "No other library's file holds a pursuit: it is refused, or its atoms get a linear encoder, learned on its data."
    assert asked('fit', 'acts.npy', '--stable', '-k', 24, '--active', 4, '--out', 'stable')[0] == 0
    code, told = asked('export', 'stable', '--to', 'saelens', '--out', 'theirs')
    assert code == 2 and 'found by pursuit' in told['error'] and '--encoder' in told['error']
    assert not (rows/'theirs').exists()
    code, told = asked('export', 'stable', '--to', 'saelens', '--encoder', '--out', 'theirs')
    assert code == 0 and told['difference'] < 1e-4
    assert .5 < told['r2_encoder'] < told['r2_pursuit'] < 1
    ours, theirs = archsae.load('stable'), archsae.load('theirs')
    on_its_scale = ours.get_dictionary() * ours.standardisation[1]  # that of the network, as their atoms are
    assert torch.cosine_similarity(on_its_scale, theirs.W_D).min() > 1 - 1e-5
    assert asked('export', 'stable', '--to', 'archsae', '--out', 'copy')[0] == 0  # where nothing is lost
    assert asked('fit', 'acts.npy', '--kind', 'topk', '--out', 'free', *SHORT)[0] == 0
    code, told = asked('export', 'free', '--to', 'saelens', '--encoder', '--out', 'x')
    assert code == 2 and 'expected a model without one' in told['error']


@pytest.mark.parametrize('kind', ['topk', 'stable'])
def test_what_fit_says_to_type_next_works(rows, capsys, kind):
    "Each of its commands, one after the other; a second model is of the same kind, and only what is named differs."
    assert main(['fit', 'acts.npy', '--kind', kind, '--out', 'model', *SHORT]) == 0
    said = [line.removeprefix('next').strip() for line in capsys.readouterr().out.splitlines()]
    commands = [line.partition('#')[0].split()[1:] for line in said if line.startswith('archsae ')]
    assert len(commands) == 4 - (kind == 'stable')
    for argv in commands:
        code, told = asked(*argv)
        assert code == 0, (argv, told)
    changed = dict(seed=1) if kind == 'topk' else dict(trust=6)
    another = 'model-seed1' if kind == 'topk' else 'model-trust'
    a, b = (tomllib.loads((rows/name/'run.toml').read_text())['fit'] for name in ('model', another))
    assert b == a | changed
    use = next(line.removeprefix('python: ') for line in said if line.startswith('python: '))
    rows_of_it = torch.from_numpy(np.load('acts.npy')).flatten(0, 1)
    exec(use.replace('; model(', '; found = model('), names := dict(archsae=archsae, rows=rows_of_it))
    assert names['found'].shape == (1600, 24)


@pytest.mark.parametrize('data, things', [('digits', 'images'), ('acts.npy', 'groups')])
def test_things_are_called_what_they_are(rows, capsys, data, things):
    few = ['--limit', 300] if data == 'digits' else []
    assert main(['fit', data, *few, '--out', 'model', *SHORT]) == 0
    assert f'whole {things})' in capsys.readouterr().out
    assert main(['show', 'model']) == 0
    assert things in capsys.readouterr().out.splitlines()[0]


def test_double_precision_is_welcome(rows):
    "What scikit-learn and numpy make by default."
    np.save('double.npy', np.load('acts.npy').astype(np.float64))
    assert asked('fit', 'double.npy', '--out', 'model', *SHORT)[0] == 0
    code, told = asked('show', 'model', 3)
    assert code == 0 and told['archetypes']


def test_what_is_there_is_not_written_over(rows):
    assert asked('fit', 'acts.npy', '--out', 'model', *SHORT)[0] == 0
    before = (rows/'model/model.safetensors').read_bytes()
    code, told = asked('fit', 'acts.npy', '--out', 'model', '--seed', 5, *SHORT)
    assert code == 2 and '--overwrite' in told['error']
    assert (rows/'model/model.safetensors').read_bytes() == before
    assert asked('fit', 'acts.npy', '--out', 'model', '--seed', 5, '--overwrite', *SHORT)[0] == 0
    assert (rows/'model/model.safetensors').read_bytes() != before


def test_a_dry_run_writes_nothing(rows):
    code, told = asked('fit', 'acts.npy', '--out', 'model', *SHORT, '--dry-run')
    assert code == 0 and told['dry_run'] and told['seconds'] > 0 and told['bytes'] > 10**8
    assert [p.name for p in rows.iterdir()] == ['acts.npy']


@pytest.fixture(scope='module')
def digits_model(tmp_path_factory):
    "A small dictionary of the digits, which have pictures."
    folder = tmp_path_factory.mktemp('digits')/'model'
    code, told = asked('fit', 'digits', '--limit', 300, '--out', folder, *SHORT)
    assert code == 0, told
    return folder


def test_an_atlas_of_a_model(rows, digits_model):
    "The command makes the site that `archsae.atlas` makes: a page for every atom, and what was held out."
    code, told = asked('atlas', digits_model, '--out', 'site', '--title', 'Digits', '--items', 40)
    assert code == 0 and told['atlas'] == 'site/index.html' and (rows/'site/index.html').is_file()
    text = (rows/'site/data/index.js').read_text()
    index = json.loads(text[text.index(',') + 1:text.rindex(')')])
    assert (index['title'], index['k'], len(index['items'])) == ('Digits', 24, 40)
    assert 0 < sum(index['heldOut']) < 40  # a tenth of all images was held out by fit
    assert tomllib.loads((rows/'site/run.toml').read_text())['atlas']['items'] == 40
    code, told = asked('atlas', digits_model, '--out', 'site')
    assert code == 2 and '--overwrite' in told['error']
    assert asked('atlas', digits_model, digits_model, '--out', 'site', '--items', 9, '--overwrite')[0] == 0
    assert len(list((rows/'site/data/items').iterdir())) == 1  # the earlier one is gone


def test_an_atlas_takes_what_can_be_shown(rows):
    assert asked('fit', 'acts.npy', '--out', 'model', *SHORT)[0] == 0
    code, told = asked('atlas', 'model', '--out', 'site')
    assert code == 2 and 'expected images or texts' in told['error'] and not (rows/'site').exists()


@pytest.mark.parametrize('command', ['report', 'atlas'])
def test_a_dry_run_says_what_it_would_make(rows, digits_model, command):
    "And the time within a factor that other work on the machine explains; nothing is written."
    code, told = asked(command, digits_model, '--dry-run')
    assert code == 0 and told['dry_run'] and not list(rows.glob('*/'))
    assert told['models'][0] == dict(model='model', kind='RATopKSAE', atoms=24, dimensions=64)
    assert (told['tokens'], told['items']) == (300 * 16, 300)
    began = time.perf_counter()
    assert asked(command, digits_model, '--out', 'made')[0] == 0
    taken = time.perf_counter() - began
    assert taken / 8 < told['seconds'] < 8 * taken
    if command == 'atlas':
        size = sum(path.stat().st_size for path in rows.glob('made/**/*') if path.is_file())
        assert size / 2 < told['disk'] < 2 * size and told['pages'] == 300
    code, told = asked(command, digits_model, '--out', 'made', '--dry-run')
    assert code == 2 and '--overwrite' in told['error']  # what would be refused is refused by the dry run


def test_bad_numbers_are_wrong_input(rows):
    bad = np.load('acts.npy')
    bad[3, 1, 2] = np.nan
    np.save('bad.npy', bad)
    code, told = asked('fit', 'bad.npy', '--out', 'x', *SHORT)
    assert code == told['exit_code'] == 2 and 'NaN or Inf' in told['error']


def test_a_disk_that_takes_no_more_is_a_failure(rows):
    resource = pytest.importorskip('resource', reason='limits of a process are those of Unix')
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # bytes of a file
    try:
        code, told = asked('fit', 'acts.npy', '--out', 'x', '--steps', 5, '-k', 24)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == told['exit_code'] == 1 and told['error']
    assert not (rows/'x/config.json').exists()


LONG = ('--steps', '700', '-k', '24', '--active', '4')


@pytest.fixture
def killed(rows):
    "A training in a process of its own that was killed after its first checkpoint."
    argv = [sys.executable, '-c', 'import sys; from archsae.cli import main; sys.exit(main(sys.argv[1:]))', 'fit',
            'acts.npy', '--out', 'model', *LONG]
    process = subprocess.Popen(argv, cwd=rows, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list((rows/'model').glob('unfinished/step-*')) and time.monotonic() < until and process.poll() is None:
        time.sleep(.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL, 'it had ended before it could be killed'
    assert not (rows/'model/run.toml').exists()
    return rows


@pytest.mark.skipif(os.name != 'posix', reason='kills a process')
def test_a_killed_fit_goes_on_with_the_same_command(killed):
    "And becomes what it would have become, to the last bit; what it went on from is gone then."
    code, told = asked('fit', 'acts.npy', '--out', 'model', *LONG)
    assert code == 0 and any('goes on after step' in note for note in told['notes']), told
    assert not (killed/'model/unfinished').exists()
    assert asked('fit', 'acts.npy', '--out', 'whole', *LONG)[0] == 0
    assert torch.equal(archsae.load('model').get_dictionary(), archsae.load('whole').get_dictionary())
    code, told = asked('fit', 'acts.npy', '--out', 'model', *LONG)
    assert code == 2 and '--overwrite' in told['error']  # a model that is done is not gone on with


@pytest.mark.skipif(os.name != 'posix', reason='kills a process')
def test_an_unfinished_fit_with_other_settings_is_refused(killed):
    "With what differs, and both ways out, which work."
    code, told = asked('fit', 'acts.npy', '--out', 'model', *LONG, '--seed', 4)
    assert code == 2 and 'seed was 0 and is 4' in told['error'] and '--overwrite begins anew' in told['error']
    code, told = asked('fit', 'acts.npy', '--out', 'model', *LONG, '--no-checkpoint')
    assert code == 2 and 'has something in it' in told['error']
    np.save('acts.npy', np.load('acts.npy') + 1)  # the same file, other numbers
    code, told = asked('fit', 'acts.npy', '--out', 'model', *LONG)
    assert code == 2 and 'expected the training that' in told['error']
    np.save('acts.npy', np.load('acts.npy') - 1)
    code, told = asked('fit', 'acts.npy', '--out', 'model', *SHORT, '--seed', 4, '--overwrite')
    assert code == 0 and not any('goes on' in note for note in told['notes'])
    assert not (killed/'model/unfinished').exists()


def interrupted(seconds, *argv):
    "A command that Ctrl-C stops."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        return asked(*argv)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_says_how_to_go_on(rows):
    code, told = interrupted(4, 'fit', 'acts.npy', '--out', 'x', '--steps', 10**5, '-k', 24)
    assert code == told['exit_code'] == 130
    said = next(note for note in told['notes'] if note.startswith('interrupted after step'))
    assert archsae.load(rows/'x').nb_concepts == 24  # as it was then
    argv = said.split('archsae ')[-1].split()
    step = int(re.search(r'after step (\d+)', said)[1])
    code, told = interrupted(4, *argv)
    assert code == 130 and any(f'goes on after step {step} of' in note for note in told['notes']), told


def test_an_interrupt_among_judges_is_no_judgement(rows):
    "A half trained judge would say that atoms do not come back; none of it is used, and those that are done stay."
    how = ('fit', 'acts.npy', '--out', 'x', '--trust', 2, '--steps', 20_000, '-k', 24)
    code, told = interrupted(5, *how)
    assert code == 130 and not (rows/'x/config.json').exists()
    assert any('it goes on with' in note for note in told['notes']) and (rows/'x/unfinished/run-0').is_dir()


def test_the_books_commands_are_the_console_scripts(capsys):
    with pytest.raises(SystemExit) as end:
        main(['figures', '--help'])
    assert end.value.code == 0 and 'usage: archsae_figures' in capsys.readouterr().out
    assert 'archsae.book' not in open(sys.modules['archsae.cli'].__file__, encoding='utf-8').read()


@pytest.mark.skipif(bool(absent('photos')), reason=absent('photos') or 'there')
def test_from_photos_to_another_process(shell, rows):
    "extract, fit, show, report, export; the model is used by a process that has the folder and raw numbers only."
    weights, photos = in_data('photos', 'mobilenetv2_100/model.safetensors', 'imagenet_1000')
    how = ('--checkpoint', weights, '--model-arg', 'pad_type=same', '--pixels', 'mean=(.5,.5,.5)', '--pixels',
           'std=(.5,.5,.5)', '--limit', 12)
    code, told = asked('extract', 'images', 'mobilenetv2_100', photos, *how, '--out', 'store')
    assert code == 0 and told['places'] == {'final': [12 * 49, 1280]}
    assert 'TQDM_DISABLE' not in os.environ  # bars of whoever called it are as before
    code, told = asked('fit', 'store', '-k', 16, '--steps', 40, '--out', 'model')
    assert code == 0, told
    code, told = asked('show', 'model', 2, '--out', 'atom.png')
    assert code == 0 and (rows/'atom.png').read_bytes().startswith(b'\x89PNG') and told['archetypes']
    assert asked('report', 'model', '--out', 'report')[0] == 0
    assert (rows/'report/report.html').read_text().count('data:image/png') == 2
    code, told = asked('export', 'model', '--to', 'sae-lens', '--out', 'theirs')
    assert code == 0 and told['difference'] < 1e-4
    use = ("import archsae; from safetensors.torch import load_file; m = archsae.load('model'); "
           "raw = load_file('store/final-00000.safetensors')['activations']; print(m(m.from_raw(raw)).codes.shape)")
    r = shell('python', '-c', use, cwd=rows)
    assert r.stdout.strip() == 'torch.Size([588, 16])', r.stderr


@pytest.mark.skipif(bool(absent('minilm')), reason=absent('minilm') or 'there')
def test_from_a_text_to_contexts(rows, capsys):
    model, texts = in_data('minilm', 'minilm_l6', 'wikitext2')
    code, told = asked('extract', 'text', model, texts/'wikitext2_valid.txt', '--limit', 24, '--context', 32,
                       '--place', 'blocks.2', '--out', 'store')
    assert code == 0 and told['places'] == {'blocks.2': [24 * 30, 384]}
    assert asked('fit', 'store', '--stable', '-k', 12, '--active', 3, '--out', 'model')[0] == 0
    code, told = asked('show', 'model', 1, '--count', 2)
    assert code == 0 and told['contexts'][0]['values'] and ''.join(told['contexts'][0]['words']).strip()
    capsys.readouterr()
    assert main(['show', 'model']) == 0 and 'contexts' in capsys.readouterr().out.splitlines()[0]
    code, told = asked('extract', 'text', model, texts/'wikitext2_valid.txt', '--place', 'blocks.7', '--out', 'x')
    assert code == 2 and 'from 0 to 5' in told['error']


@pytest.mark.parametrize('argv, said', [
    (['extract', 'image'], 'did you mean images'),
    (['extract', 'images', 'vit_smal_patch16_224', '.', '--out', 'x'], 'vit_small_patch16_224'),
    (['extract', 'text', './nowhere', 'acts.npy', '--out', 'x'], 'which is not there'),
    (['fit', 'act.npy', '--out', 'x'], 'did you mean acts.npy'),
    (['fit', 'acts.npy', '--atom', '3', '--out', 'x'], 'atoms'),
    (['fit', 'acts.npy', '--kind', 'ra-topkk', '--out', 'x'], 'did you mean ra-topk'),
    (['fit', 'acts.npy', '--held-out', '1', '--out', 'x'], '0.9'),
    (['fit', 'acts.npy', '--place', 'blocks.3', '--out', 'x'], 'place: expected'),
    (['fit', 'acts.npy', '--per', '7', '--out', 'x'], 'per: expected a number that divides'),
    (['fit', 'acts.npy', '-k', '99999', '--points', '99999', '--out', 'x'], 'points: expected at most'),
    (['fit', 'acts.npy', '--device', 'gpu', '--out', 'x'], 'device: expected'),
    (['report', 'acts.npy', '--out', 'x'], 'expected a folder'),
    (['report', '.', '--out', 'x'], 'expected a model'),
    (['export', '.', '--to', 'saelen', '--out', 'x'], 'did you mean saelens'),
])
def test_wrong_input_is_refused_with_the_nearest_name(rows, argv, said):
    code, told = asked(*argv)
    assert code == 2 and said in told['error'], told
    assert not (rows/'x').exists()


def test_what_the_terminal_says_is_what_is_written(shell, root):
    "The console blocks of quickstart and README are what the commands say, numbers aside."
    r = shell('python', root/'.ci/terminal.py', '--check', cwd=root)
    assert r.returncode == 0, r.stdout + r.stderr
