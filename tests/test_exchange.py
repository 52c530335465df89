"""Files of other libraries, by their own code where they are installed, and what cannot be said in them."""
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

import archsae
from archsae.core import seeded
from archsae.exchange import FORMATS, read_overcomplete
from archsae.sae import SAE, BatchTopKSAE, JumpSAE, QSAE, RABatchTopKSAE, RAJumpSAE, RATopKSAE, TopKSAE
from archsae.transcoder import SAEConfig, Transcoder

PEERS = Path(__file__).with_name('peers')
SCRIPTS = {'overcomplete': 'overcomplete_files.py', 'dictionary_learning': 'dictionary_learning_files.py',
           'sparsify': 'sparsify_files.py'}


@pytest.mark.parametrize('library', SCRIPTS)
def test_their_own_code_agrees(library):
    env = dict(os.environ, SPARSIFY_DISABLE_TRITON='1', OMP_NUM_THREADS='1')
    if subprocess.run([sys.executable, '-c', f'import {library}'], env=env, capture_output=True).returncode:
        pytest.skip(f'{library} cannot be imported here')
    done = subprocess.run([sys.executable, PEERS/SCRIPTS[library]], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_the_large_file_was_read_within_three_times_its_size():
    "The committed numbers of a file in the public layout with 32 000 concepts."
    told = json.loads((PEERS/'rasae_file.json').read_text())
    assert told['concepts'] == told['points'] == 32_000
    for row in told['ways']:
        assert row['file_bytes'] > 4e9
        assert row['memory_over_file'] < 3
        assert row['same_support'] and row['codes_away'] == 0
    by_way = {row['way']: row for row in told['ways']}
    assert max(by_way[way]['x_hat_away'] for way in ('dense', 'free')) < 1e-6
    assert by_way['free']['memory_over_file'] < .5 and by_way['support']['memory_over_file'] < .5
    assert by_way['support']['atoms_away'] == pytest.approx(by_way['support']['error_told'], rel=.1)


def models():
    "A name and a model of each kind, with numbers that are not those that it starts with."
    with seeded(0), torch.no_grad():
        x, C = torch.randn(64, 6), torch.randn(9, 6)
        kinds = dict(
            SAE=SAE(6, 12), TopK=TopKSAE(6, 12, top_k=3), Jump=JumpSAE(6, 12), BatchTopK=BatchTopKSAE(6, 12, top_k=3),
            RATopK=RATopKSAE(6, 12, C, top_k=3, delta=.2), RAJump=RAJumpSAE(6, 12, C),
            RABatchTopK=RABatchTopKSAE(6, 12, C, top_k=3), sparse=RATopKSAE(6, 12, C, top_k=3, support=4, init='near'))
        for model in kinds.values():
            for v in model.parameters():
                v.add_(.1 * torch.randn(v.shape))
            if isinstance(model, BatchTopKSAE):
                model.calibrate([x])
    return {name: model.eval() for name, model in kinds.items()}, x


def answers(model, x):
    with torch.no_grad():
        if isinstance(model, SAE):
            _, codes, x_hat = model(x)
            return codes, x_hat
        return model.encode(x), model(x)


@pytest.mark.parametrize('format', [name for name, kind in FORMATS.items() if kind.write is not None])
def test_there_and_back_by_the_front_door(tmp_path, format):
    written, x = models()
    done = 0
    for name, model in written.items():
        if format == 'sparsify' and not isinstance(model, TopKSAE):
            with pytest.raises(ValueError, match='model: expected one that sparsify can represent'):
                archsae.save(model, tmp_path/name, format=format)
            continue
        back = archsae.load(archsae.save(model, tmp_path/name, format=format))
        for a, b in zip(answers(model, x), answers(back, x)):
            assert ((a != 0) == (b != 0)).all()
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        done += 1
    assert done >= 3


@pytest.mark.parametrize('format', ['dictionary_learning', 'sparsify'])
def test_raw_activations_are_read_where_a_model_knows_their_standardisation(tmp_path, format):
    written, x = models()
    mean, std = torch.linspace(-30, 50, 6), torch.linspace(.5, 4, 6)
    for name, model in written.items():
        if format == 'sparsify' and not isinstance(model, TopKSAE):
            continue
        model.set_standardisation(mean, std)
        if isinstance(model, BatchTopKSAE):
            model.set_threshold(.3)  # not a number that is there, which rounding would move over the threshold
        raw = x * std + mean
        back = archsae.load(archsae.save(model, tmp_path/name, format=format))
        codes, x_hat = answers(model, model.from_raw(raw))
        codes2, x_hat2 = answers(back, raw)
        torch.testing.assert_close(codes, codes2, rtol=1e-3, atol=2e-4)
        torch.testing.assert_close(x_hat * std + mean, x_hat2, rtol=1e-3, atol=1e-3)


REFUSED = {
    ('dictionary_learning', 'q'): 'a selection of another kind',
    ('dictionary_learning', 'mlp'): 'encoder is mlp_ln_1, not linear',
    ('dictionary_learning', 'whole batch'): 'top_k counts numbers of a whole batch',
    ('dictionary_learning', 'transcoder'): 'a transcoder from in to out',
    ('dictionary_learning', 'glu'): 'a GLU encoder',
    ('dictionary_learning', 'norm'): "norm_activation is 'dataset-wise'",
    ('dictionary_learning', 'not known'): 'no threshold for inference yet',
    ('dictionary_learning', 'no SAE'): 'no SAE',
    ('dictionary_learning', 'NaN'): 'NaN or Inf in dictionary._weights',
    ('sparsify', 'NaN'): 'NaN or Inf in dictionary._weights',
    ('overcomplete', 'NaN'): 'NaN or Inf in dictionary._weights',
    ('sparsify', 'relu'): 'its selection is relu, and sparsify has topk only',
    ('sparsify', 'q'): 'a selection of another kind',
    ('overcomplete', 'standardised'): 'its standardisation needs a bias of the decoder',
    ('overcomplete', 'transcoder'): 'no SAE of its kinds',
    ('overcomplete', 'attention'): 'its encoder is attention_1b',
    ('overcomplete', 'no SAE'): 'no SAE',
}


def unusual(name):
    "A model that some library cannot represent."
    base = dict(d_model=6, expansion_factor=2, act_fn='topk', top_k=3, hook_point_in='in', norm_activation='inference')
    if name in ('transcoder', 'glu', 'norm', 'not known'):
        changes = dict(transcoder=dict(hook_point_out='out'), glu=dict(use_glu_encoder=True),
                       norm=dict(norm_activation='dataset-wise'))
        changes['not known'] = dict(act_fn='batchtopk', sparsity_include_decoder_norm=False)
        return Transcoder(SAEConfig(**base | changes[name]))
    made = {
        'q': lambda: QSAE(6, 12), 'mlp': lambda: TopKSAE(6, 12, encoder_module='mlp_ln_1'),
        'whole batch': lambda: BatchTopKSAE(6, 12, top_k=30, k_per='batch').set_threshold(.1),
        'relu': lambda: SAE(6, 12), 'no SAE': lambda: TopKSAE(6, 12).dictionary,
        'standardised': lambda: TopKSAE(6, 12).set_standardisation(torch.ones(6), torch.ones(6)),
        'NaN': lambda: TopKSAE(6, 12, dictionary_params=dict(initializer=torch.ones(12, 6))),
        'attention': lambda: TopKSAE((5, 8), 12, encoder_module='attention_1b')}
    model = made[name]()
    if name == 'NaN':
        with torch.no_grad():
            model.dictionary._weights[3, 2] = torch.nan
    return model


@pytest.mark.parametrize('format,name', REFUSED)
def test_what_cannot_be_represented_is_refused_with_the_reason(tmp_path, format, name):
    with pytest.raises(ValueError) as e:
        archsae.save(unusual(name), tmp_path/'model', format=format)
    assert str(e.value).startswith(f'model: expected one that {format} can represent; got ')
    assert REFUSED[format, name] in str(e.value)
    assert not (tmp_path/'model').exists()


class Named:
    "Classes under overcomplete's names, there while a file is written; their own are not needed to write its layout."

    def __init__(self, monkeypatch):
        self.patch = monkeypatch

    def make(self, where, name, **facts):
        "An object of `where.name` with these attributes and parts."
        parts = where.split('.')
        for n in range(1, len(parts) + 1):
            module = '.'.join(parts[:n])
            if module not in sys.modules:
                self.patch.setitem(sys.modules, module, types.ModuleType(module))
        kind = type(name, (torch.nn.Module,), dict(__module__=where))
        setattr(sys.modules[where], name, kind)
        made = kind()
        for key, value in facts.items():
            if isinstance(value, torch.Tensor) and key != 'C':
                value = torch.nn.Parameter(value)
            if key == 'C':
                made.register_buffer(key, value)
            else:
                setattr(made, key, value)
        return made


def public_layout(path, monkeypatch, k=12, d=6, p=9):
    "A file as the public RA-SAE of 32 000 concepts is, and what it computes, by the formulas."
    named = Named(monkeypatch)
    with seeded(1):
        linear, norm = torch.nn.Linear(d, k), torch.nn.LayerNorm(k)
        C, W, Relax = torch.randn(p, d), torch.randn(k, p), torch.randn(k, d)
        x = torch.randn(40, d)
    m, delta, threshold = torch.tensor(.2), .5, .4
    encoder = named.make(
        'overcomplete.sae.modules', 'MLPEncoder', mlp_blocks=torch.nn.ModuleList(), residual=False,
        final_block=torch.nn.Sequential(linear, norm), final_activation=torch.nn.ReLU())
    dictionary = named.make(
        'overcomplete.sae.archetypal_dictionary', 'RelaxedArchetypalDictionary', C=C, W=W, Relax=Relax, multiplier=m,
        delta=delta, _fused_dictionary=None)
    sae = named.make(
        'overcomplete.sae.batchtopk_sae', 'BatchTopKSAE', encoder=encoder, dictionary=dictionary, top_k=100,
        threshold_momentum=.9, running_threshold=None, nb_concepts=k)
    torch.save(torch.nn.DataParallel(sae), path)
    path.with_name('config.json').write_text(json.dumps(dict(threshold=threshold, layer=11)))
    with torch.no_grad():
        z = norm(linear(x)).relu()
        z = z * (z >= threshold)
        W = W.relu()
        W = W / (W.sum(1, keepdim=True) + 1e-8)
        atoms = m.exp() * (W @ C + Relax * (delta / Relax.norm(dim=1, keepdim=True)).clamp(max=1))
    return x, z, atoms


def test_the_public_layout_without_overcomplete(tmp_path, monkeypatch):
    with monkeypatch.context() as there:
        x, z, atoms = public_layout(tmp_path/'RA-SAE-32k.pth', there)
    for path in (tmp_path, tmp_path/'RA-SAE-32k.pth'):
        model = archsae.load(path)
        assert type(model) is RABatchTopKSAE and model.dictionary.delta == .5 and model.top_k == 100
        codes, x_hat = answers(model, x)
        assert torch.equal(codes, z)
        torch.testing.assert_close(model.get_dictionary(), atoms)
        torch.testing.assert_close(x_hat, z @ atoms)
    free = read_overcomplete(tmp_path, free=True)
    torch.testing.assert_close(free.get_dictionary(), atoms)
    assert torch.equal(answers(free, x)[0], z)
    few = read_overcomplete(tmp_path, support=3)
    away = ((few.get_dictionary() - atoms).norm() / atoms.norm()).item()
    assert torch.equal(answers(few, x)[0], z) and 0 < away < 1.5 * few.dictionary.support_error


def test_without_a_threshold_the_public_layout_asks_for_one(tmp_path, monkeypatch):
    with monkeypatch.context() as there:
        x, _, _ = public_layout(tmp_path/'sae.pth', there)
    (tmp_path/'config.json').unlink()
    with pytest.raises(ValueError, match='running_threshold: not calibrated'):
        archsae.load(tmp_path/'sae.pth')(x)


def test_a_state_dict_alone_does_not_tell_its_class(tmp_path):
    torch.save(TopKSAE(6, 12).state_dict(), tmp_path/'sae.pth')
    with pytest.raises(ValueError, match='sae.pth: class: expected a config.json beside'):
        read_overcomplete(tmp_path/'sae.pth')


def test_few_weights_are_asked_for_within_what_there_is(tmp_path):
    model = models()[0]['RATopK']
    archsae.save(model, tmp_path, format='overcomplete')
    for support in (0, 10, -1):
        with pytest.raises(ValueError, match='support: expected a whole number from 1 to the number of points'):
            read_overcomplete(tmp_path, support=support)
    few = read_overcomplete(tmp_path, support=9)
    assert few.dictionary.support.shape == (12, 9) and few.dictionary.support_error < 1e-6
    torch.testing.assert_close(few.get_dictionary(), model.get_dictionary())
