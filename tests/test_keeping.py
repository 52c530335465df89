"A folder of a model, opened by a program that has nothing else; folders nobody should believe; the way to the Hub."
import copy
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
import pytest
import torch
from safetensors.torch import load_file, save_file
import kept
from archsae import keeping, sae
from archsae.files import sha256_of

HERE = Path(__file__).resolve().parent


def run(code, *arguments, **changes):
    "A program of its own; what it prints."
    env = {name: v for name, v in os.environ.items() if name not in ('PYTHONPATH', 'ARCHSAE_CHECK_SHAPES')}
    done = subprocess.run([sys.executable, '-c', code, *map(str, arguments)], capture_output=True, text=True,
                          env=env | dict(OMP_NUM_THREADS='1') | changes, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


READ_ALL = f"""
import sys, torch
sys.path.insert(0, {str(HERE)!r})
import archsae
folder, count = sys.argv[1], int(sys.argv[2])
models = [archsae.load(f'{{folder}}/{{i}}') for i in range(count)]  # before anything else of archsae is imported
import kept
torch.save([kept.codes_of(model, kept.raw_for(model)) for model in models], f'{{folder}}/codes.pt')
"""


@pytest.fixture(scope='module')
def models():
    return dict(kept.zoo())


def test_every_kind_of_model_comes_back_in_a_fresh_process_to_the_last_bit(models, tmp_path):
    assert len(models) > 60
    for i, model in enumerate(models.values()):
        model.record['note'] = f'number {i}'
        model.save(tmp_path/str(i))
    run(READ_ALL, tmp_path, len(models))
    found = torch.load(tmp_path/'codes.pt')
    for (name, model), codes in zip(models.items(), found):
        assert torch.equal(codes, kept.codes_of(model, kept.raw_for(model))), name


def test_what_a_model_is_comes_back(models, tmp_path):
    for name, model in models.items():
        again = keeping.load_model(model.save(tmp_path/'one'))
        assert again.config == model.config, name
        assert keeping.counters_of(again) == keeping.counters_of(model), name
        trained = {n: p.requires_grad for n, p in model.named_parameters()}
        assert {n: p.requires_grad for n, p in again.named_parameters()} == trained, name
        kinds = {n: v.dtype for n, v in model.state_dict().items()}
        assert {n: v.dtype for n, v in again.state_dict().items()} == kinds, name
        again.save(tmp_path/'two')  # nothing is lost on the way
        for file in ('model.safetensors', 'config.json'):
            assert (tmp_path/'two'/file).read_bytes() == (tmp_path/'one'/file).read_bytes(), name


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_precision_comes_back(tmp_path, dtype):
    for name, model in kept.saes():
        model = kept.finished(model).to(dtype)
        mean, _ = model.standardisation
        assert mean.dtype == torch.float32
        again = keeping.load_model(model.save(tmp_path/'one'))
        for key, v in model.state_dict().items():
            assert again.state_dict()[key].dtype == v.dtype and torch.equal(again.state_dict()[key], v), (name, key)
        assert torch.equal(again.get_dictionary(), model.get_dictionary()), name


def test_a_training_goes_on_where_it_was(models, tmp_path):
    "The place in the cycle of a moving support is a counter, and no tensor."
    model = copy.deepcopy(models['RABatchTopKSAE'])
    for _ in range(11):
        with torch.no_grad():
            model.dictionary.W.add_(.01 * torch.rand_like(model.dictionary.W))
        model.dictionary.retract_()
    again = keeping.load_model(model.save(tmp_path))
    assert again.dictionary._steps == model.dictionary._steps > 10


# ---- folders that nobody should believe

BAD_JSON = {  # name -> bytes of config.json
    'empty': b'',
    'no JSON': b'weights',
    'a list': b'[1, 2]',
    'cut': b'{"format": "arch', 'not UTF-8': b'{"format": "\xff"}',
    'NaN': b'{"format": NaN}', 'twice': b'{"format": 1, "format": 2}', 'deep': b'{"a":' * 10**5 + b'1' + b'}' * 10**5,
    'large': b'{"a": "' + b' ' * 2**25 + b'"}',
    'other': b'{"model_type": "bert"}',
    'long number': b'{"a": ' + b'1' * 5000 + b'}',
    'empty object': b'{}',
}


def put(*path, value):
    "A change of what config.json says: the value at a path."
    def change(stored):
        for name in path[:-1]:
            stored = stored[name]
        stored[path[-1]] = value
    return change


def drop(*path):
    def change(stored):
        for name in path[:-1]:
            stored = stored[name]
        del stored[path[-1]]
    return change


def nested(stored):
    "SAEs whose dictionaries are SAEs, a hundred deep."
    inner = stored['config']
    for _ in range(100):
        inner = dict(stored['config'], dictionary=inner)
    stored['config'] = inner


DICT = 'config', 'dictionary'
MLP = dict(encoder='MLPEncoder', input_shape=8, n_components=12)
CHANGES = [
    ('format', put('format', value='pickle')), ('format', put('format', value=1)), ('format', drop('format')),
    ('version', put('version', value=2)),
    ('version', put('version', value='1')),
    ('version', put('version', value=True)),
    ('config', drop('config')),
    ('config', put('config', value=[])),
    ('config', put('config', value='SAE')),
    ('dictionary', nested),
    ('class', drop('config', 'class')), ('class', put('config', 'class', value='os.system')),
    ('class', put('config', 'class', value='__import__')), ('class', put('config', 'class', value=None)),
    ('class', put('config', 'class', value=['SAE'])), ('config', put('config', 'class', value='NMF')),
    ('config', put('config', 'class', value='TopKSAE')), ('config', put(*DICT, 'class', value='DictionaryLayer')),
    ('class', put(*DICT, 'class', value='subprocess.Popen')), ('config', put(*DICT, value=None)),
    ('nb_concepts', put('config', 'nb_concepts', value='12')), ('nb_concepts', put('config', 'nb_concepts', value=12.)),
    ('nb_concepts', put('config', 'nb_concepts', value=True)), ('nb_concepts', put('config', 'nb_concepts', value=-1)),
    ('config', put('config', 'nb_concepts', value=10**12)), ('config', put('config', 'nb_concepts', value=2**62)),
    ('nb_concepts', put('config', 'nb_concepts', value=10**30)), ('nb_concepts', drop('config', 'nb_concepts')),
    ('config', put('config', 'input_shape', value=10**12)),
    ('input_shape', put('config', 'input_shape', value=[1, 2, 3, 4])),
    ('config', put('config', 'input_shape', value=[[8]])), ('top_k', put('config', 'top_k', value=10**12)),
    ('top_k', put('config', 'top_k', value='false')), ('config', put('config', 'top_k', value=4)),
    ('k_per', put('config', 'k_per', value='token')), ('k_per', drop('config', 'k_per')),
    ('threshold_momentum', put('config', 'threshold_momentum', value=2)), ('more', put('config', 'more', value=1)),
    ('encoder_module', put('config', 'encoder_module', value='os')),
    ('encoder_module', put('config', 'encoder_module', value=3)),
    ('encoder_bias', put('config', 'encoder_bias', value='false')),
    ('encoder_bias', put('config', 'encoder_bias', value=1)),
    ('config', put('config', 'encoder_module', value=MLP | dict(nb_blocks=10**9))),
    ('config', put('config', 'encoder_module', value=MLP | dict(norm_layer='Module'))),
    ('config', put('config', 'encoder_module', value=MLP | dict(encoder='Popen'))),
    ('config', put('config', 'encoder_module', value=MLP | dict(hidden_dim='8'))),
    ('config', put('config', 'encoder_module', value=MLP | dict(residual='false'))),
    ('delta', put(*DICT, 'delta', value=-1)),
    ('delta', put(*DICT, 'delta', value='0.1')),
    ('delta', put(*DICT, 'delta', value=None)),
    ('delta', put(*DICT, 'delta', value={'number': 'nan'})), ('delta', put(*DICT, 'delta', value={'number': 'inf'})),
    ('config', put(*DICT, 'delta', value=.3)),
    ('rule', put(*DICT, 'rule', value='none')),
    ('rule', put(*DICT, 'rule', value=0)),
    ('use_multiplier', put(*DICT, 'use_multiplier', value='false')),
    ('use_multiplier', put(*DICT, 'use_multiplier', value=1)),
    ('delta_unit', put(*DICT, 'delta_unit', value='miles')), ('config', put(*DICT, 'points', value=[10**9, 10**9])),
    ('config', put(*DICT, 'points', value=[20])),
    ('points', put(*DICT, 'points', value='all')),
    ('config', put(*DICT, 'points', value=[-1, 8])),
    ('dictionary.C', put(*DICT, 'points', value=[21, 8])), ('config', put(*DICT, 'points', value=[1] * 10**5)),
    ('config', put(*DICT, 'support', value=10**9)),
    ('config', put(*DICT, 'support', value=None)),
    ('support', put(*DICT, 'support', value='4')),
    ('refresh', put(*DICT, 'refresh', value=-1)), ('points', put(*DICT, 'in_dimensions', value=7)),
    ('counters', drop('counters')),
    ('counters', put('counters', value=[])),
    ('counters', put('counters', 'encoder', value=dict(steps=1))),
    ('steps', put('counters', 'dictionary', 'steps', value=-1)),
    ('steps', put('counters', 'dictionary', 'steps', value=2**70)),
    ('steps', put('counters', 'dictionary', 'steps', value=1.5)), ('counters', put('counters', 'dictionary', value=3)),
    ('frozen', drop('frozen')),
    ('frozen', put('frozen', value='dictionary.W')),
    ('frozen', put('frozen', value=['nothing'])),
    ('frozen', put('frozen', value=['dictionary.W'] * 2)), ('frozen', put('frozen', value=[3])),
    ('tensors', drop('tensors')),
    ('tensors', put('tensors', value=[])),
    ('tensors', put('tensors', 'dictionary.W', 'dtype', value='float64')),
    ('tensors', put('tensors', 'dictionary.W', 'shape', value=[1])), ('tensors', drop('tensors', 'dictionary.W')),
    ('tensors', put('tensors', 'more', value=dict(dtype='float32', shape=[1]))),
    ('tensors', put('tensors', 'dictionary.W', value=7)),
    ('standardisation', drop('standardisation')), ('standardisation', put('standardisation', value={})),
    ('tensors', put('standardisation', value=[])),
    ('tensors', put('standardisation', value=['blocks.3'])),
    ('tensors', put('standardisation', value=['', 'x'])),
    ('record', put('record', value=[])),
    ('record', put('record', value='note')),
    ('metrics', put('metrics', value=[1])),
    ('weights', drop('weights')),
    ('file', put('weights', 'file', value='/etc/passwd')),
    ('file', put('weights', 'file', value='../a')),
    ('bytes', put('weights', 'bytes', value='many')),
    ('size', put('weights', 'bytes', value=1)),
    ('sha256', put('weights', 'sha256', value='0' * 64)),
    ('sha256', put('weights', 'sha256', value='0' * 63)), ('sha256', drop('weights', 'sha256')),
]


def numbers(name, change):
    "A change of one tensor."
    def changed(state):
        state[name] = change(state[name].clone())
        return state
    return changed


def filled(value):
    def change(v):
        v.view(-1)[0] = value
        return v
    return change


def with_more(state):
    return state | dict(more=torch.zeros(3))


def without_slack(state):
    return {name: v for name, v in state.items() if name != 'dictionary.Relax'}


def nothing(state):
    return {}


WEIGHTS = [
    ('dictionary.W', numbers('dictionary.W', filled(torch.nan))),
    ('dictionary.C', numbers('dictionary.C', filled(torch.inf))),
    ('running_threshold', numbers('running_threshold', filled(torch.inf))),
    ('support', numbers('dictionary.support', filled(20))),
    ('support', numbers('dictionary.support', filled(-1))), ('std', numbers('standardisation/std/', filled(0))),
    ('std', numbers('standardisation/std/', filled(-1))),
    ('standardisation/mean/', numbers('standardisation/mean/', filled(torch.nan))),
    ('dictionary.W', numbers('dictionary.W', lambda v: v[:, :3])),
    ('dictionary.W', numbers('dictionary.W', lambda v: v[None])),
    ('encoder.final_block.0.bias', numbers('encoder.final_block.0.bias', lambda v: v[:1])),
    ('dictionary.W', numbers('dictionary.W', lambda v: v.long())),
    ('dictionary.support', numbers('dictionary.support', lambda v: v.float())),
    ('dictionary.W', numbers('dictionary.W', lambda v: v.to(torch.float8_e4m3fn))),
    ('more', with_more), ('dictionary.Relax', without_slack),
    ('tensors', nothing), ('mean', numbers('standardisation/mean/', lambda v: v[:4])),
]


class Boom:
    def __reduce__(self):
        return os.system, ('touch "$KEEPING_MARK"',)


BAD_BYTES = {
    'empty': lambda raw: b'',
    'cut': lambda raw: raw[:-1],
    'longer': lambda raw: raw + b'\0',
    'header only': lambda raw: raw[:100],
    'length': lambda raw: (2**63).to_bytes(8, 'little') + raw[8:], 'no length': lambda raw: bytes(8) + raw[8:],
    'pickle': lambda raw: pickle.dumps(Boom()), 'a bit': lambda raw: raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:],
    'offsets': lambda raw: raw.replace(b'"data_offsets":[0,', b'"data_offsets":[8,', 1),
    'shape': lambda raw: raw.replace(b'"shape":[12,4]', b'"shape":[99,4]', 1),
    'dtype': lambda raw: raw.replace(b'"F32"', b'"F64"', 1),
}


@pytest.fixture(scope='module')
def good(models, tmp_path_factory):
    "A folder with something of everything."
    model = copy.deepcopy(models['RABatchTopKSAE'])
    model.record['note'] = 'as it was'
    return model.save(tmp_path_factory.mktemp('good'), metrics=dict(r2=.5))


def refused(folder, where):
    "The message of the one error that there may be; it comes soon, and without much memory."
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(ValueError) as caught:
        keeping.load_model(folder)
    assert type(caught.value) is ValueError
    said = str(caught.value)
    assert said.startswith(f'{folder}/') and where in said and ': expected ' in said and '; got ' in said, said
    assert len(said) < 3000 and time.monotonic() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # kB
    return said


@pytest.mark.parametrize('name', BAD_JSON)
def test_a_config_that_is_none(good, tmp_path, name):
    folder = shutil.copytree(good, tmp_path/'it')
    (folder/'config.json').write_bytes(BAD_JSON[name])
    refused(folder, 'config.json: ')


@pytest.mark.parametrize('i', range(len(CHANGES)), ids=lambda i: f'{i} {CHANGES[i][0]}')
def test_a_config_that_says_something_else(good, tmp_path, i):
    where, change = CHANGES[i]
    folder = shutil.copytree(good, tmp_path/'it')
    stored = json.loads((folder/'config.json').read_text())
    change(stored)
    (folder/'config.json').write_text(json.dumps(stored))
    refused(folder, where)


def written_again(folder, state):
    "The weights replaced, and everything that vouches for them made right."
    about = keeping.read_header(folder/'model.safetensors')[1]
    save_file({name: v.contiguous() for name, v in state.items()}, folder/'model.safetensors', about)
    stored = json.loads((folder/'config.json').read_text())
    stored['tensors'] = {name: dict(dtype=str(v.dtype).split('.')[1], shape=list(v.shape)) for name, v in state.items()}
    weights = folder/'model.safetensors'
    stored['weights'] |= dict(bytes=weights.stat().st_size, sha256=sha256_of(weights))
    (folder/'config.json').write_text(json.dumps(stored))


@pytest.mark.parametrize('i', range(len(WEIGHTS)), ids=lambda i: f'{i} {WEIGHTS[i][0]}')
def test_weights_that_no_training_gives(good, tmp_path, i):
    where, change = WEIGHTS[i]
    folder = shutil.copytree(good, tmp_path/'it')
    written_again(folder, change(load_file(good/'model.safetensors')))
    refused(folder, where)


@pytest.mark.parametrize('name', BAD_BYTES)
def test_weights_that_are_damaged(good, tmp_path, name, monkeypatch):
    monkeypatch.setenv('KEEPING_MARK', str(tmp_path/'mark'))
    folder = shutil.copytree(good, tmp_path/'it')
    (folder/'model.safetensors').write_bytes(BAD_BYTES[name]((good/'model.safetensors').read_bytes()))
    refused(folder, 'model.safetensors: ' if name != 'dtype' else '')
    assert not (tmp_path/'mark').exists()


def test_every_flipped_bit_of_the_weights_is_found(good, tmp_path):
    folder = shutil.copytree(good, tmp_path/'it')
    raw = (good/'model.safetensors').read_bytes()
    for i in torch.randperm(len(raw) * 8, generator=torch.Generator().manual_seed(0))[:200].tolist():
        changed = bytearray(raw)
        changed[i // 8] ^= 1 << i % 8
        (folder/'model.safetensors').write_bytes(changed)
        with pytest.raises(ValueError, match='it/'):
            keeping.load_model(folder)


def test_things_that_are_no_files(good, tmp_path):
    for name in ('config.json', 'model.safetensors'):
        folder = shutil.copytree(good, tmp_path/name)
        (folder/name).unlink()
        with pytest.raises(FileNotFoundError, match=name):
            keeping.load_model(folder)
        (folder/name).symlink_to(folder/name)
        refused(folder, name)
        (folder/name).unlink()
        os.mkfifo(folder/name)
        refused(folder, name)
        (folder/name).unlink()
        (folder/name).mkdir()
        refused(folder, name)


LEAVES = 'false', -1, 10**12, None, {}, 1.5, True, [10**9, 10**9]


def leaves(value, path=()):
    "Paths of all values that are no dicts."
    if isinstance(value, dict):
        for name, v in value.items():
            yield from leaves(v, (*path, name))
    else:
        yield path


@pytest.mark.parametrize('name', [
    'encoder of its own', 'QSAE', 'OMPSAE', 'tied', 'Transcoder, archetypal', 'Lorsa, archetypal',
    'CrossLayerTranscoder, archetypal 0.1', 'ConvexNMF of points', 'SkPCA', 'ArchetypalDictionary'])
def test_no_field_of_any_kind_is_taken_for_another(models, tmp_path, name):
    folder = models[name].save(tmp_path)
    good = json.loads((folder/'config.json').read_text())
    for path in leaves({n: good[n] for n in ('config', 'counters', 'frozen', 'standardisation', 'weights')}):
        for value in LEAVES:
            stored = copy.deepcopy(good)
            put(*path, value=value)(stored)
            if stored == good and str(stored) == str(good):
                continue
            (folder/'config.json').write_text(json.dumps(stored))
            with pytest.raises(ValueError) as caught:
                keeping.load_model(folder)
            assert type(caught.value) is ValueError and str(caught.value).startswith(f'{folder}/'), (path, value)


# ---- folders of before, and saves that fail

def test_a_folder_of_version_0_2_is_read(tmp_path):
    for name, model in kept.saes():
        model = kept.finished(model)
        save_file({n: v.contiguous() for n, v in model.state_dict().items()}, tmp_path/'model.safetensors')
        (tmp_path/'config.json').write_text(json.dumps(dict(archsae='0.2.0', config=model.config)))
        again = keeping.load_model(tmp_path)
        assert torch.equal(again.get_dictionary(), model.get_dictionary()), name
    stored = dict(archsae='0.2.0', config=model.config | dict(nb_concepts=10**12))
    (tmp_path/'config.json').write_text(json.dumps(stored))
    refused(tmp_path, 'config')


def test_a_save_that_fails_leaves_the_one_before(good, tmp_path):
    folder = shutil.copytree(good, tmp_path/'it')
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    model = keeping.load_model(folder)
    with pytest.raises(ValueError, match='record.f'):
        model.record['f'] = print
        model.save(folder)
    model.record.pop('f')
    model.record['long'] = ' ' * 2**24
    with pytest.raises(ValueError, match='record: expected at most'):
        model.save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_loading_is_quiet(good):
    "It draws no numbers, and leaves the model in evaluation, trainable and outside inference mode."
    state = torch.get_rng_state()
    with torch.inference_mode():
        model = keeping.load_model(good)
    assert torch.equal(torch.get_rng_state(), state) and not model.training
    assert not any(p.is_inference() for p in model.parameters())
    model.train()(kept.RAW - 100).x_hat.square().sum().backward()
    with pytest.raises(ValueError, match='device'):
        keeping.load_model(good, 'abacus')


# ---- the Hub

@pytest.fixture
def hub():
    "The address of a server that speaks the Hub's protocol."
    pytest.importorskip('huggingface_hub')
    server = subprocess.Popen([sys.executable, HERE/'hub_stand_in.py'], stdout=subprocess.PIPE, text=True)
    yield server.stdout.readline().strip()
    server.kill()
    server.wait()


PUSH_AND_PULL = f"""
import sys, torch
sys.path.insert(0, {str(HERE)!r})
import archsae, kept
assert 'huggingface_hub' not in sys.modules
sae = dict(kept.zoo())['RATopKSAE']
raw = kept.raw_for(sae)
codes = kept.codes_of(sae, raw)
address = sae.push_to_hub('me/ra', token='hf_x', license='mit', metrics=dict(r2=.5), data='noise')
assert '/me/ra/commit/' in address, address
again = archsae.SAE.from_pretrained('me/ra')
assert torch.equal(kept.codes_of(again, raw), codes) and again.record['data'] == 'noise'
sae.dictionary.delta = .1
sae.push_to_hub('me/ra', token='hf_x', branch='tight')
assert archsae.RATopKSAE.from_pretrained('me/ra', revision='tight').dictionary.delta == .1
assert archsae.RATopKSAE.from_pretrained('me/ra').dictionary.delta == .3
for name, how in (('me/nobody', dict()), ('me/ra', dict(revision='no'))):
    try:
        archsae.SAE.from_pretrained(name, **how)
    except ConnectionError as e:
        assert 'nor to be had from the Hub' in str(e)
try:
    archsae.JumpSAE.from_pretrained('me/ra')
except ValueError as e:
    assert 'expected JumpSAE' in str(e)
from huggingface_hub import ModelCard
card = ModelCard.load('me/ra')
assert card.data.library_name == 'archsae' and card.data.license == 'mit' and 'RATopKSAE' in card.data.tags
assert "archsae.load('me/ra')" in card.text and '| r2 | 0.5 |' in card.text
"""
BY_NAME = f"""
import sys, torch
sys.path.insert(0, {str(HERE)!r})
import archsae, kept
one, two = archsae.SAE.from_pretrained('me/ra', local_files_only=True), archsae.load('me/ra')
raw = kept.raw_for(one)
assert torch.equal(kept.codes_of(one, raw), kept.codes_of(two, raw))
"""


def test_a_model_goes_to_the_hub_and_comes_back(hub, tmp_path):
    online = dict(HF_ENDPOINT=hub, HF_HUB_OFFLINE='0', HF_HUB_DISABLE_XET='1', HF_HUB_DISABLE_TELEMETRY='1')
    run(PUSH_AND_PULL, HF_HOME=str(tmp_path), **online)
    run(BY_NAME, HF_HOME=str(tmp_path), HF_HUB_OFFLINE='1')  # from what was downloaded, by its name


def test_a_model_is_found_by_name_in_the_cache(good, tmp_path):
    "The layout of huggingface_hub's cache, with the model in a subfolder of a branch."
    pytest.importorskip('huggingface_hub')
    repo, commit = tmp_path/'models--somebody--saes', 'c' * 40
    shutil.copytree(good, repo/'snapshots'/commit/'layer'/'3')
    (repo/'refs').mkdir()
    (repo/'refs'/'best').write_text(commit)
    how = dict(revision='best', subfolder='layer/3', cache_dir=tmp_path, local_files_only=True)
    model = sae.BatchTopKSAE.from_pretrained('somebody/saes', **how)
    assert model.record['note'] == 'as it was'
    with pytest.raises(ConnectionError, match='somebody/nothing'):
        sae.SAE.from_pretrained('somebody/nothing', **how)
    (repo/'snapshots'/commit/'layer'/'3'/'config.json').write_bytes(b'[' * 10**5)
    with pytest.raises(ValueError, match='config.json: content: expected JSON'):
        sae.SAE.from_pretrained('somebody/saes', **how)
