"""Folders of dictionary_learning, both directions, by its own `load_dictionary`. In an environment that has both:

    python tests/peers/dictionary_learning_files.py"""
import json
import tempfile
from pathlib import Path

import torch
from dictionary_learning import utils as theirs
from report import Report

from archsae.core import seeded
from archsae.exchange import read_dictionary_learning, write_dictionary_learning
from archsae.sae import SAE, BatchTopKSAE, JumpSAE, TopKSAE
from archsae.transcoder import SAEConfig, Transcoder

D, K, N = 16, 64, 300
X = torch.randn(N, D, generator=torch.Generator().manual_seed(1)) + .3
REPORT = Report(__file__, 'dictionary-learning')
TOPK = dict(k=6)
KINDS = dict(AutoEncoder={}, AutoEncoderNew={}, GatedAutoEncoder={}, JumpReluAutoEncoder={}, AutoEncoderTopK=TOPK,
             BatchTopKSAE=TOPK, MatryoshkaBatchTopKSAE=TOPK | dict(group_sizes=[16, 48]))


def answers(mine):
    "Codes and reconstructions of an SAE or of a model of the family."
    with torch.no_grad():
        return mine(X)[1:] if isinstance(mine, SAE) else (mine.encode(X), mine(X))


def write_as_they_do(model, kind, folder):
    "What their training writes: the state dict, and a configuration with the class."
    trainer = dict(trainer_class='Some', dict_class=kind, activation_dim=D, dict_size=K, layer=3, lm_name='a/model',
                   submodule_name='resid_post_layer_3', k=KINDS[kind].get('k'))
    torch.save(model.state_dict(), folder/'ae.pt')
    (folder/'config.json').write_text(json.dumps(dict(trainer=trainer, buffer=dict(d_submodule=D))))


def theirs_to_ours(kind, folder):
    with seeded(0), torch.no_grad():
        model = getattr(theirs, kind)(D, K, **KINDS[kind])
        for v in model.parameters():
            v.add_(.2 * torch.randn_like(v))
        if 'threshold' in dict(model.named_buffers()):
            model.threshold.fill_(.5)
        elif hasattr(model, 'threshold'):
            model.threshold.copy_(torch.rand(K))
    write_as_they_do(model, kind, folder)
    again, _ = theirs.load_dictionary(str(folder), 'cpu')
    mine = read_dictionary_learning(folder)
    assert mine.cfg.hook_point_in == 'resid_post_layer_3'
    with torch.no_grad():
        REPORT.compare(f'{kind}: theirs, read by ours', (again.encode(X), again(X)), answers(mine))


def models_of_ours():
    "One of each kind, with biases, thresholds and gates that are not trivial."
    with seeded(2), torch.no_grad():
        for sae in (SAE(D, K), TopKSAE(D, K, top_k=6), JumpSAE(D, K), BatchTopKSAE(D, K, top_k=6)):
            sae.encoder.final_block[0].bias.normal_()
            yield sae.calibrate([X]) if isinstance(sae, BatchTopKSAE) else sae
        for act in ('relu', 'topk', 'jumprelu', 'batchtopk'):
            model = Transcoder(SAEConfig(d_model=D, expansion_factor=K // D, act_fn=act, top_k=6, hook_point_in='resid',
                                         norm_activation='inference', sparsity_include_decoder_norm=act == 'jumprelu'))
            for v in model.parameters():
                v.add_(.2 * torch.randn_like(v))
            if act == 'batchtopk':
                model.activation_function.theta_inf.fill_(.7)
            yield model


def ours_to_theirs(mine, folder):
    write_dictionary_learning(mine.eval(), folder)
    other, config = theirs.load_dictionary(str(folder), 'cpu')
    name = f"{type(mine).__name__} of ours, read by theirs as {config['trainer']['dict_class']}"
    with torch.no_grad():
        REPORT.compare(name, (other.encode(X), other(X)), answers(mine))


def main():
    with tempfile.TemporaryDirectory() as t:
        for kind in KINDS:
            if hasattr(theirs, kind):
                theirs_to_ours(kind, Path(t))
        for mine in models_of_ours():
            ours_to_theirs(mine, Path(t))
    REPORT.close()


if __name__ == '__main__':
    main()
