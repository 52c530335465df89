"""Folders of sparsify (eai-sparsify), both directions, by its own SparseCoder. In an environment that has both:

    SPARSIFY_DISABLE_TRITON=1 python tests/peers/sparsify_files.py"""
import tempfile
from pathlib import Path

import torch
from report import Report
from sparsify import SparseCoder, SparseCoderConfig

from archsae.core import seeded
from archsae.exchange import read_sparsify, write_sparsify
from archsae.sae import TopKSAE
from archsae.transcoder import SAEConfig, Transcoder

D, K, N = 16, 64, 300
REPORT = Report(__file__, 'eai-sparsify')
X = torch.randn(N, D, generator=torch.Generator().manual_seed(1)) + .3


def codes_of(coder):
    "Codes and reconstructions of a coder of theirs."
    with torch.no_grad():
        top, index, _ = coder.encode(X)
        z = torch.zeros(N, K).scatter_(1, index, top)
        return z, coder.decode(top, index)


def answers(mine):
    with torch.no_grad():
        return mine(X)[1:] if isinstance(mine, TopKSAE) else (mine.encode(X), mine(X))


def theirs_to_ours(folder, **config):
    with seeded(0), torch.no_grad():
        coder = SparseCoder(D, SparseCoderConfig(**config))
        for v in coder.parameters():
            v.add_(.2 * torch.randn_like(v))
    coder.save_to_disk(folder)
    again = SparseCoder.load_from_disk(folder)
    REPORT.compare(f'theirs, read by ours: {config}', codes_of(again), answers(read_sparsify(folder)))


def ours_to_theirs(folder):
    with seeded(2), torch.no_grad():
        sae = TopKSAE(D, K, top_k=6)
        models = [sae]
        for hooks in (dict(hook_point_in='resid'), dict(hook_point_in='mlp.in', hook_point_out='mlp.out')):
            for gated in (False, True):
                cfg = SAEConfig(d_model=D, expansion_factor=K // D, act_fn='topk', top_k=6, norm_activation='inference',
                                sparsity_include_decoder_norm=gated, **hooks)
                model = Transcoder(cfg)
                for v in model.parameters():
                    v.add_(.2 * torch.randn_like(v))
                if gated:  # atoms of one length: the codes stay what they are
                    model.transform_to_unit_decoder_norm()
                models.append(model)
        for mine in models:
            write_sparsify(mine.eval(), folder)
            again = SparseCoder.load_from_disk(folder)
            REPORT.compare(f'{type(mine).__name__} of ours, read by theirs', codes_of(again), answers(mine))


def main():
    with tempfile.TemporaryDirectory() as t:
        theirs_to_ours(Path(t)/'a', k=6, expansion_factor=4)
        theirs_to_ours(Path(t)/'b', k=6, num_latents=K, normalize_decoder=False)
        theirs_to_ours(Path(t)/'c', k=6, num_latents=K, transcode=True)
        ours_to_theirs(Path(t)/'d')
        for config in (dict(activation='groupmax', k=8), dict(skip_connection=True, transcode=True)):
            SparseCoder(D, SparseCoderConfig(num_latents=K, **config)).save_to_disk(Path(t)/'e')
            REPORT.add(f'refused: {config}', 'not represented' in said_of(Path(t)/'e'))
    REPORT.close()


def said_of(folder):
    "What the reader says of a folder that it refuses."
    try:
        read_sparsify(folder)
    except ValueError as e:
        return str(e)
    return ''


if __name__ == '__main__':
    main()
