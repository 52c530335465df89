"""Files of overcomplete, both directions, by its own classes. In an environment that has overcomplete and archsae:

    python tests/peers/overcomplete_files.py

Each case prints a line; the last says how many agreed; `--write` puts them into a table beside this script.
`tests/test_exchange.py` runs it where overcomplete is."""
import tempfile

import torch
from overcomplete import sae as theirs
from report import Report

from archsae import sae as ours
from archsae.exchange import read_overcomplete, write_overcomplete
from archsae.relaxation import RelaxedArchetypalDictionary

D, K, N = 24, 60, 200
REPORT = Report(__file__, 'overcomplete')
g = torch.Generator().manual_seed(0)
X = torch.randn(N, D, generator=g)
C = torch.randn(40, D, generator=g)
KINDS = dict(
    SAE={}, TopKSAE=dict(top_k=7), BatchTopKSAE=dict(top_k=900), JumpSAE=dict(kernel='gaussian', bandwidth=.01),
    QSAE=dict(q=5), RATopKSAE=dict(points=C, top_k=7, delta=.3), RAJumpSAE=dict(points=C, delta=.3))
ENCODERS = 'linear', 'mlp_ln_1', 'mlp_ln_3', 'mlp_bn_1', 'mlp_bn_3', 'tied', 'untied'


def disturbed(model, by=.2):
    "A model whose numbers are not those that it starts with, W and Lambda infeasible among them."
    with torch.no_grad():
        for v in model.parameters():
            v.add_(by * torch.randn(v.shape, generator=g))
    return model


def make(module, kind, encoder, **kwargs):
    own = {} if encoder in ('tied', 'untied') else dict(encoder_module=encoder)
    if kind == 'BatchTopKSAE' and module is ours:
        own['k_per'] = 'batch'
    model = getattr(module, kind)(D, K, **kwargs, **own)
    return model if 'encoder_module' in own else getattr(model, encoder)()


def with_threshold(model, value=.4):
    "A threshold for inference, where one is needed."
    if hasattr(model, 'running_threshold'):
        if isinstance(model, ours.BatchTopKSAE):
            model.set_threshold(value)
        else:
            model.running_threshold = torch.tensor(value)
    return model


def agree(name, a, b):
    with torch.no_grad():
        REPORT.compare(name, a(X)[1:], b(X)[1:])


def ours_to_theirs(kind, encoder):
    mine = with_threshold(disturbed(make(ours, kind, encoder, **KINDS[kind]))).eval()
    with tempfile.TemporaryDirectory() as t:
        write_overcomplete(mine, t)
        other = make(theirs, kind, encoder, **KINDS[kind])
        other.load_state_dict(torch.load(f'{t}/model.pth', weights_only=True), strict=True)
        back = read_overcomplete(t)
    agree(f'{kind} {encoder}: ours, read by theirs', with_threshold(other).eval(), mine)
    agree(f'{kind} {encoder}: ours, there and back', mine, back)


def theirs_to_ours(kind, encoder, evaluating):
    other = disturbed(make(theirs, kind, encoder, **KINDS[kind]))
    with_threshold(other)
    if kind == 'BatchTopKSAE' and encoder == 'mlp_ln_1':  # the public one: an archetypal dictionary in a BatchTopKSAE
        other.dictionary = disturbed(theirs.RelaxedArchetypalDictionary(D, K, C, delta=.2))
    if evaluating:
        other.eval()
    saved = torch.nn.DataParallel(other) if encoder == 'linear' else other
    with tempfile.TemporaryDirectory() as t:
        torch.save(saved, f'{t}/sae.pth')
        mine = read_overcomplete(f'{t}/sae.pth')
    assert hasattr(mine.dictionary, 'C') == hasattr(other.dictionary, 'C')
    assert isinstance(mine.dictionary, RelaxedArchetypalDictionary) == hasattr(other.dictionary, 'C')
    agree(f'{kind} {encoder}: theirs, pickled as {"eval" if evaluating else "train"}', other.eval(), mine)


def main():
    for kind in KINDS:
        for encoder in ENCODERS:
            ours_to_theirs(kind, encoder)
            for evaluating in (False, True):
                theirs_to_ours(kind, encoder, evaluating)
    REPORT.close()


if __name__ == '__main__':
    main()
