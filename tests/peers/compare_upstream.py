"""Compare with Language-Model-SAEs itself, in an environment that has it, and write tests/peers/exchange_upstream.json:

    PYTHONPATH=…/Language-Model-SAEs/src python tests/peers/compare_upstream.py tests/peers/exchange_upstream.json
"""
import itertools
import json
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
import torch
from archsae.checkpoints import calibrate, load_dictionary, save_upstream
from archsae.core import seeded
from archsae.crosslayer import CLTConfig, CrossArchetypes, CrossLayerTranscoder
from archsae.family import ACT_FNS, archetypal_decoder
from archsae.lorsa import Lorsa, LorsaConfig, block_decoder
from archsae.transcoder import SAEConfig, Transcoder

D, F, L, T = 12, 48, 3, 16
PLACES = [f'{side}{layer}' for side in 'io' for layer in range(L)]
YES_NO = (True, False)


def batch(flat=False) -> dict:
    "Raw activations (batch, positions, d) at all places, in float32; upstream's cross-layer decoder wants (tokens, d)."
    g = torch.Generator().manual_seed(1)
    data = {name: torch.randn(6, T, D, generator=g) * (1 + .5 * i) + .3 for i, name in enumerate(PLACES)}
    return {name: v.flatten(0, 1) for name, v in data.items()} if flat else data


def filled(model, folded=False):
    "The model with nothing at its first value, its mean norms, and folded if asked for."
    with seeded(5):
        for name, p in model.named_parameters():
            if not name.startswith('decoder'):
                p.data += .3 * torch.randn_like(p)
        weights = getattr(model.decoder, '_weights', None)
        if weights is not None:
            weights.data *= torch.rand(len(weights), 1) + .2
    model.set_dataset_norms(batch())
    return (model.standardize_parameters_of_dataset_norm() if folded else model).eval()


def transcoder(act_fn, gate, folded, same=False, archetypal=False, **more):
    cfg = SAEConfig(d_model=D, expansion_factor=F / D, act_fn=act_fn, top_k=5, sparsity_include_decoder_norm=gate,
                    hook_point_in='i0', hook_point_out='i0' if same else 'o0', batch_selection='batch' in act_fn,
                    **more)
    with seeded(3):
        decoder = archetypal_decoder(torch.randn(15, D), F, .3) if archetypal else None
        return filled(Transcoder(cfg, decoder), folded)


def clt(act_fn, gate, folded, archetypal=False, **more):
    cfg = CLTConfig(d_model=D, expansion_factor=F / D, act_fn=act_fn, top_k=5, sparsity_include_decoder_norm=gate,
                    hook_points_in=PLACES[:L], hook_points_out=PLACES[L:], batch_selection='batch' in act_fn, **more)
    points = torch.randn(L, 9, D, generator=torch.Generator().manual_seed(2))
    return filled(CrossLayerTranscoder(cfg, CrossArchetypes(points, F, .3, gain=True) if archetypal else None), folded)


def lorsa(act_fn, gate, folded, archetypal=False, **more):
    cfg = LorsaConfig(**dict(
        d_model=D, expansion_factor=F / D, act_fn=act_fn, top_k=5, sparsity_include_decoder_norm=gate, n_qk_heads=4,
        d_qk_head=8, rotary_dim=4, n_ctx=32, hook_point_in='i0', hook_point_out='o0',
        batch_selection='batch' in act_fn) | more)
    points = [torch.randn(5, D, generator=torch.Generator().manual_seed(s)) for s in range(4)]
    return filled(Lorsa(cfg, block_decoder(points, F, .2) if archetypal else None), folded)


def cases():
    "Name -> function that makes the model."
    found = {}
    for act_fn, gate, folded in itertools.product(ACT_FNS, YES_NO, YES_NO):
        tail = f"{act_fn}{', gated' if gate else ''}{', folded' if folded else ''}"
        has_form = not (folded and 'topk' in act_fn and (gate or 'layer' in act_fn))
        if has_form:
            found[f'clt {tail}'] = partial(clt, act_fn, gate, folded)
        if 'layer' not in act_fn:
            found[f'transcoder {tail}'] = partial(transcoder, act_fn, gate, folded)
            found[f'lorsa {tail}'] = partial(lorsa, act_fn, gate, folded)
    for act_fn in ('relu', 'topk', 'jumprelu', 'batchtopk'):
        found[f'sae {act_fn}'] = partial(transcoder, act_fn, True, False, same=True)
        found[f'transcoder {act_fn}, GLU'] = partial(transcoder, act_fn, True, False, use_glu_encoder=True)
        for make in (transcoder, clt, lorsa):
            found[f'{make.__name__} {act_fn}, no bias'] = partial(make, act_fn, True, False, use_decoder_bias=False)
            found[f'{make.__name__} {act_fn}, archetypal'] = partial(make, act_fn, True, False, archetypal=True)
    for name, more in LORSAS.items():
        found[f'lorsa {name}'] = partial(lorsa, 'topk', True, False, **more)
    return found


LORSAS = {
    'half-split pairs': dict(rotary_adjacent_pairs=False),
    'no positions': dict(positional_embedding_type='none'),
    'normalised queries and keys': dict(use_post_qk_ln=True, normalization_type='RMS'),
    'slower long turns': dict(use_NTK_by_parts_rope=True, NTK_by_parts_factor=8., NTK_by_parts_low_freq_factor=1.,
                              NTK_by_parts_high_freq_factor=4., old_context_len=64, rotary_dim=8),
    'a scale of its own': dict(attn_scale=3.),
    'another base': dict(rotary_base=500, rotary_dim=8),
    'coordinates repeated': dict(rotary_scale=2, rotary_dim=8),
}
CASES = cases()


@torch.no_grad()
def their_answers(model, data):
    "Latents and what is written, (..., L, d) of a cross-layer transcoder, normalised by their own rules."
    data = model.normalize_activations(dict(data))
    x, encoder_kwargs, decoder_kwargs = model.prepare_input(data)
    z = model.encode(x, **encoder_kwargs)
    y = model.decode(z, **decoder_kwargs)
    return z, y.movedim(0, -2) if model.cfg.sae_type == 'clt' else y


@torch.no_grad()
def our_answers(model, data):
    "The same of ours."
    x, _ = model.prepare(model.normalise(data)[0])
    z = model.encode(x)
    return z, model.decode(z)


def apart(ours, theirs) -> float:
    return ((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max().clamp_min(1e-30)).item()


def compare(name: str, folder: Path) -> dict:
    "A model of ours, loaded strictly by theirs; written by theirs, and read by ours."
    from llamascopium.models.sparse_dictionary import SparseDictionary

    model, data = CASES[name](), batch(flat=name.startswith('clt'))
    save_upstream(model, folder/'ours')
    theirs = SparseDictionary.from_pretrained(str(folder/'ours'), strict_loading=True, fold_activation_scale=False)
    if 'layer' in model.cfg.act_fn:
        theirs.set_current_k(theirs.cfg.top_k)
    want, got = our_answers(model, data), their_answers(theirs, data)
    flipped = int(((want[0] != 0) != (got[0] != 0)).sum())
    row = dict(case=name, latents=apart(got[0], want[0]), outputs=apart(got[1], want[1]), flipped=flipped,
               active=round((want[0] != 0).double().sum(-1).mean().item(), 2))
    theirs.save_pretrained(str(folder/'theirs'))
    theirs.cfg.save_hyperparameters(str(folder/'theirs'))
    batch_selection = True if 'batch' in model.cfg.act_fn else None
    again = load_dictionary(folder/'theirs', batch_selection=batch_selection)
    back = our_answers(again, data)
    row |= dict(back_latents=apart(back[0], got[0]), back_outputs=apart(back[1], got[1]))
    if batch_selection:
        budget = (got[0] != 0).sum().item()
        kept = (our_answers(calibrate(load_dictionary(folder/'theirs'), data), data)[0] != 0).sum().item()
        row['calibrated'] = round(kept / budget, 4)
    return row


def main(path: str):
    from importlib.metadata import PackageNotFoundError, version

    from archsae import __version__

    torch.set_num_threads(1)
    warnings.filterwarnings('ignore')
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for i, name in enumerate(CASES):
            rows.append(compare(name, Path(work)/str(i)))
            print(' | '.join(f'{v:.1e}' if isinstance(v, float) and v < .1 else str(v) for v in rows[-1].values()))
    try:
        theirs = version('llamascopium')
    except PackageNotFoundError:
        theirs = 'from its sources'
    numbers = dict(
        about='Models of archsae written by save_upstream and loaded strictly by Language-Model-SAEs: largest relative '
              'difference of latents and of what is written (raw activations, normalised by the rules of each), and '
              'latents active in one only. back_: written by theirs, read by ours. calibrated: latents kept by a '
              'threshold from data, over those kept by the batch.',
        versions=dict(language_model_saes=theirs, archsae=__version__, torch=torch.__version__),
        device='cpu', tokens=6 * T, rows=rows)
    Path(path).write_text(json.dumps(numbers, indent=1) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
