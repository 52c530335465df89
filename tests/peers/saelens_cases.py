"""Folders of SAELens as its versions 3 to 6 wrote them, and models of ours, for comparison with `sae_lens` itself.

Everything is made here, of random numbers; what a version writes into `cfg.json` was read off its releases.
"""
import json
import zlib
from pathlib import Path
import torch
from safetensors.torch import save_file
from archsae.core import seeded
from archsae.family import archetypal_decoder
from archsae.sae import BatchTopKSAE, JumpSAE, RABatchTopKSAE, RAJumpSAE, RATopKSAE, SAE, TopKSAE
from archsae.transcoder import SAEConfig, Transcoder

D, F, OUT = 16, 64, 16
HOOK = 'blocks.8.hook_resid_pre'
V2 = dict(hook_point=HOOK, hook_point_layer=8, hook_point_head_index=None, model_name='gpt2-small', prepend_bos=True,
          dataset_path='Skylion007/openwebtext', context_size=128, dtype='torch.float32', device='cpu', d_in=D, d_sae=F)
V3 = dict(architecture='standard', d_in=D, d_sae=F, activation_fn_str='relu', apply_b_dec_to_input=True,
          finetuning_scaling_factor=False, context_size=256, model_name='pythia-70m-deduped', hook_name=HOOK,
          hook_layer=8, hook_head_index=None, prepend_bos=False, dataset_path='EleutherAI/the_pile_deduplicated',
          dataset_trust_remote_code=True, normalize_activations='none', dtype='torch.float32', device='cpu',
          sae_lens_training_version='3.18.2')
V4 = V3 | dict(activation_fn_kwargs={}, neuronpedia_id='gpt2-small/8-res-jb', sae_lens_training_version='4.4.5',
               model_from_pretrained_kwargs={}, dtype='float32')
V5 = V4 | dict(seqpos_slice=[None], sae_lens_training_version='5.11.0', hook_name='blocks.3.hook_mlp_out')
ABOUT_6 = dict(sae_lens_version='6.18.0', sae_lens_training_version='6.18.0', model_name='gemma-2-2b', hook_name=HOOK,
               hook_head_index=None, prepend_bos=True, context_size=1024, dataset_path='monology/pile-uncopyrighted',
               neuronpedia_id=None, exclude_special_tokens=False, seqpos_slice=[None], note=dict(of='somebody', n=3))
V6 = dict(architecture='standard', d_in=D, d_sae=F, dtype='float32', device='cpu', apply_b_dec_to_input=True,
          normalize_activations='none', reshape_activations='none', metadata=ABOUT_6)
HEADS = 'blocks.2.attn.hook_z'


def without(cfg, *names):
    return {name: value for name, value in cfg.items() if name not in names}


def at(cfg, hook):
    return cfg | dict(metadata=cfg['metadata'] | dict(hook_name=hook))


TOPK_ARGS = dict(activation_fn_str='topk', activation_fn_kwargs=dict(k=7))
TRANSCODER = V6 | dict(architecture='transcoder', d_out=OUT, apply_b_dec_to_input=False)

# name -> (tensors, configuration, what becomes of it)
#   'same': codes and outputs as in sae_lens;  'refused': by both;  'refused here': sae_lens reads something else than
#   the file says, or what is not represented;  'read here': sae_lens stops for want of a field that the weights tell
READ = {
    # versions 1 and 2: no architecture, places called hook_point, a scaling_factor of ones in the file
    'v2 standard': ('standard', V2, 'same'),
    'v2 scaling_factor of ones': ('standard+ones', V2, 'same'),
    'v2 normalize_activations false': ('standard', V2 | dict(normalize_activations=False), 'same'),
    'v2 normalize_activations true': ('standard', V2 | dict(normalize_activations=True), 'same'),
    'v2 hook_z': ('standard', V2 | dict(hook_point=HEADS), 'same'),
    'v2 not subtracted': ('standard', V2 | dict(apply_b_dec_to_input=False), 'same'),
    # version 3
    'v3 standard': ('standard', V3, 'same'),
    'v3 nothing said of b_dec': ('standard', without(V3, 'apply_b_dec_to_input'), 'same'),
    'v3 no architecture': ('standard', without(V3, 'architecture'), 'same'),
    'v3 no activation function': ('standard', without(V3, 'activation_fn_str'), 'same'),
    'v3 nothing of normalisation': ('standard', without(V3, 'normalize_activations'), 'same'),
    'v3 normalisation null': ('standard', V3 | dict(normalize_activations=None), 'same'),
    'v3 scaling_factor of ones, finetuned': ('standard+ones', V3 | dict(finetuning_scaling_factor=True), 'same'),
    'v3 scaling_factor, finetuned': ('standard+factors', V3 | dict(finetuning_scaling_factor=True), 'refused'),
    'v3 scaling_factor, not finetuned': ('standard+factors', V3, 'refused'),
    'v3 finetuned without factors': ('standard', V3 | dict(finetuning_scaling_factor=True), 'same'),
    'v3 topk': ('standard', V3 | TOPK_ARGS | dict(architecture='topk'), 'same'),
    'v3 topk called standard': ('standard', V3 | TOPK_ARGS, 'same'),
    'v3 topk without architecture': ('standard', without(V3 | TOPK_ARGS, 'architecture'), 'same'),
    'v3 topk, nothing of b_dec': ('standard', without(V3 | TOPK_ARGS, 'apply_b_dec_to_input'), 'same'),
    'v3 gated': ('gated', V3 | dict(architecture='gated'), 'same'),
    'v3 float64': ('standard', V3 | dict(dtype='torch.float64'), 'same'),
    # version 4
    'v4 standard': ('standard', V4, 'same'),
    'v4 jumprelu': ('jumprelu', V4 | dict(architecture='jumprelu'), 'same'),
    'v4 jumprelu, not subtracted': ('jumprelu', V4 | dict(architecture='jumprelu', apply_b_dec_to_input=False), 'same'),
    'v4 jumprelu with log_threshold': ('log_threshold', V4 | dict(architecture='jumprelu'), 'read here'),
    'v4 jumprelu, thresholds 0': ('threshold 0', V4 | dict(architecture='jumprelu'), 'same'),
    'v4 topk': ('standard', V4 | TOPK_ARGS | dict(architecture='topk'), 'same'),
    'v4 topk called standard, not subtracted': ('standard', V4 | TOPK_ARGS | dict(apply_b_dec_to_input=False), 'same'),
    'v4 topk by its arguments alone': (
        'standard', V4 | dict(architecture='topk', activation_fn_kwargs=dict(k=5)), 'same'),
    'v4 topk without k': ('standard', V4 | dict(activation_fn_str='topk'), 'refused here'),
    'v4 tanh-relu': ('standard', V4 | dict(activation_fn_str='tanh-relu'), 'refused here'),
    'v4 gated, not subtracted': ('gated', V4 | dict(architecture='gated', apply_b_dec_to_input=False), 'same'),
    'v4 expected_average_only_in': ('standard', V4 | dict(normalize_activations='expected_average_only_in'), 'same'),
    'v4 layer_norm': ('standard', V4 | dict(normalize_activations='layer_norm'), 'refused here'),
    'v4 constant_norm_rescale': ('standard', V4 | dict(normalize_activations='constant_norm_rescale'), 'refused here'),
    'v4 an unknown normalisation': ('standard', V4 | dict(normalize_activations='batch_norm'), 'refused'),
    # version 5
    'v5 standard': ('standard', V5, 'same'),
    'v5 jumprelu': ('jumprelu', V5 | dict(architecture='jumprelu'), 'same'),
    'v5 jumprelu, nothing of b_dec': (
        'jumprelu', without(V5 | dict(architecture='jumprelu'), 'apply_b_dec_to_input'), 'same'),
    'v5 topk': ('standard', V5 | TOPK_ARGS | dict(architecture='topk'), 'same'),
    'v5 topk, k outside': ('standard', without(V5 | dict(architecture='topk', k=9), 'activation_fn_kwargs'), 'same'),
    'v5 topk without any k, of fewer than 100': (
        'standard', without(V5 | dict(architecture='topk'), 'activation_fn_kwargs'), 'refused'),
    'v5 hook_z said': ('standard', V5 | dict(hook_name=HEADS, reshape_activations='hook_z'), 'same'),
    'v5 hook_z by its name': ('jumprelu', V5 | dict(hook_name=HEADS, architecture='jumprelu'), 'same'),
    'v5 hook_z, heads as they are': ('standard', V5 | dict(hook_name=HEADS, reshape_activations='none'), 'same'),
    'v5 bfloat16': ('standard', V5 | dict(dtype='bfloat16', apply_b_dec_to_input=False), 'same'),
    'v5 no precision': ('standard', without(V5, 'dtype'), 'read here'),
    'v5 an unknown architecture': ('standard', V5 | dict(architecture='mine'), 'refused'),
    'v5 a version beside': ('standard', V5 | dict(sae_lens_version='5.11.0'), 'same'),
    # version 6
    'v6 standard': ('standard', V6, 'same'),
    'v6 nothing of b_dec': ('standard', without(V6, 'apply_b_dec_to_input'), 'same'),
    'v6 nothing of normalisation': ('standard', without(V6, 'normalize_activations', 'reshape_activations'), 'same'),
    'v6 normalisation false': ('standard', V6 | dict(normalize_activations=False), 'refused'),
    'v6 activation function is not looked at': ('standard', V6 | dict(activation_fn='topk'), 'same'),
    'v6 no architecture': ('standard', without(V6, 'architecture'), 'refused'),
    'v6 topk': ('standard', V6 | dict(architecture='topk', k=6), 'same'),
    'v6 topk, not subtracted': ('standard', V6 | dict(architecture='topk', k=6, apply_b_dec_to_input=False), 'same'),
    'v6 topk by contributions': (
        'standard', V6 | dict(architecture='topk', k=6, rescale_acts_by_decoder_norm=True), 'same'),
    'v6 topk of more than there are': ('standard', V6 | dict(architecture='topk', k=F + 1), 'refused'),
    'v6 jumprelu': ('jumprelu', V6 | dict(architecture='jumprelu'), 'same'),
    'v6 jumprelu, float64': ('jumprelu', V6 | dict(architecture='jumprelu', dtype='float64'), 'same'),
    'v6 jumprelu, bfloat16': (
        'jumprelu', V6 | dict(architecture='jumprelu', dtype='bfloat16', apply_b_dec_to_input=False), 'same'),
    'v6 jumprelu, float16': (
        'jumprelu', V6 | dict(architecture='jumprelu', dtype='float16', apply_b_dec_to_input=False), 'same'),
    'v6 gated': ('gated', V6 | dict(architecture='gated'), 'same'),
    'v6 hook_z': ('jumprelu', at(V6, HEADS) | dict(architecture='jumprelu', reshape_activations='hook_z'), 'same'),
    'v6 hook_z that is none': ('standard', V6 | dict(reshape_activations='hook_z'), 'refused'),
    'v6 covariance_whitening': ('standard', V6 | dict(normalize_activations='covariance_whitening'), 'same'),
    'v6 transcoder': ('transcoder', TRANSCODER, 'same'),
    'v6 transcoder, nothing of b_dec': ('transcoder', without(TRANSCODER, 'apply_b_dec_to_input'), 'refused'),
    'v6 jumprelu_transcoder': ('jumprelu', TRANSCODER | dict(architecture='jumprelu_transcoder'), 'same'),
    'v6 skip_transcoder': ('skip', TRANSCODER | dict(architecture='skip_transcoder'), 'refused here'),
    'v6 a bias of one number': ('one bias', V6, 'refused'),
    'v6 d_in of another width': ('standard', V6 | dict(d_in=D + 1), 'refused'),
    'v6 a tensor too many': ('jumprelu', V6, 'refused'),
    'v6 abstopk': ('standard', V6 | dict(architecture='abstopk', k=6), 'refused here'),
    'v6 from before its metadata': ('standard', without(V6, 'metadata') | dict(sae_lens_version='6.0.0-rc.1'), 'same'),
}


def weights(kind: str, name: str) -> dict:
    "Tensors of a kind, from a seed that is the case's own."
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def normal(*shape, scale=1.):
        return torch.randn(*shape, generator=g) * scale

    W_dec = normal(F, OUT) * (torch.rand(F, 1, generator=g) + .3)
    found = dict(W_enc=normal(D, F, scale=.4), b_enc=normal(F, scale=.3), W_dec=W_dec, b_dec=normal(OUT) + 1)
    theta = torch.rand(F, generator=g) + .2
    more = {
        'standard+ones': dict(scaling_factor=torch.ones(F)),
        'standard+factors': dict(scaling_factor=theta),
        'jumprelu': dict(threshold=theta),
        'threshold 0': dict(threshold=theta * 0),
        'log_threshold': dict(log_threshold=theta.log()),
        'skip': dict(W_skip=normal(OUT, D)),
        'one bias': dict(b_enc=torch.ones(1)),
    }
    if kind == 'gated':
        del found['b_enc']
        return found | dict(b_gate=normal(F, scale=.3), b_mag=normal(F, scale=.3), r_mag=normal(F, scale=.2))
    return found | more.get(kind, {})


def write_case(folder: Path, name: str) -> Path:
    "The folder of a case."
    kind, cfg, _ = READ[name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder/'cfg.json').write_text(json.dumps(cfg))
    save_file(weights(kind, name), folder/'sae_weights.safetensors')
    return folder


def inputs(n: int = 400) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(1)) * 2 + 1


def toy(act_fn='topk', gate=True, same=True, archetypal=False, fold=False, dtype=torch.float32):
    "A model of the family with nothing at its first value."
    cfg = SAEConfig(d_model=D, expansion_factor=F / D, act_fn=act_fn, top_k=6, sparsity_include_decoder_norm=gate,
                    hook_point_in=HOOK, hook_point_out=HOOK if same else 'blocks.8.hook_mlp_out', dtype=dtype,
                    norm_activation='dataset-wise' if fold else 'inference')
    with seeded(3):
        model = Transcoder(cfg, archetypal_decoder(torch.randn(20, D), F, .3) if archetypal else None)
        for name, p in model.named_parameters():
            if not name.startswith('decoder'):
                p.data += .3 * torch.randn_like(p)
        if not archetypal:
            model.decoder._weights.data *= torch.rand(F, 1).to(dtype) + .2
    data = {hook: inputs().to(dtype) * (i + 1) for i, hook in enumerate(model.places)}
    if fold:
        model.set_dataset_norms(data)
    if 'batch' in act_fn:
        model.train().encode(model.normalise(data)[0][HOOK])
    return (model.standardize_parameters_of_dataset_norm() if fold else model).eval()


def plain(kind, raw=False, dtype=torch.float32, **options):
    "An SAE of the package; `raw`: behind a standardisation."
    with seeded(5):
        sae = kind(D, F, **options).to(dtype)
        if hasattr(sae, 'thresholds'):
            sae.thresholds.data += torch.randn(F)
        bias = getattr(getattr(sae.encoder, 'final_block', [None])[0], 'bias', None)
        if bias is not None:
            bias.data += .2 * torch.randn(F).to(dtype)
    x = inputs().to(dtype)
    if raw:
        sae.set_standardisation(x.mean(0).float() * 3, x.std(0).float() * 2)
    if hasattr(sae, 'running_threshold'):
        sae.calibrate([sae.from_raw(x) if raw else x])
    sae.record['metadata'] = dict(model_name='gpt2', hook_name=HOOK, context_size=128, prepend_bos=False,
                                  dataset_path='Skylion007/openwebtext')
    return sae.eval()


POINTS = torch.randn(30, D, generator=torch.Generator().manual_seed(2))
RA = dict(points=POINTS, delta=.5)

# name -> model; 'up to norms': codes of TopK that selects by contributions are their sizes in SAELens
WRITE = {
    'SAE': lambda: plain(SAE),
    'TopKSAE': lambda: plain(TopKSAE, top_k=6),
    'BatchTopKSAE': lambda: plain(BatchTopKSAE, top_k=6),
    'JumpSAE': lambda: plain(JumpSAE),
    'RATopKSAE': lambda: plain(RATopKSAE, top_k=6, **RA),
    'RABatchTopKSAE': lambda: plain(RABatchTopKSAE, top_k=6, **RA),
    'RAJumpSAE': lambda: plain(RAJumpSAE, **RA),
    'SAE, raw': lambda: plain(SAE, raw=True),
    'TopKSAE, raw': lambda: plain(TopKSAE, raw=True, top_k=6),
    'BatchTopKSAE, raw': lambda: plain(BatchTopKSAE, raw=True, top_k=6),
    'JumpSAE, raw': lambda: plain(JumpSAE, raw=True),
    'RATopKSAE, raw': lambda: plain(RATopKSAE, raw=True, top_k=6, **RA),
    'RABatchTopKSAE, raw': lambda: plain(RABatchTopKSAE, raw=True, top_k=6, **RA),
    'RAJumpSAE, raw': lambda: plain(RAJumpSAE, raw=True, **RA),
    'TopKSAE, batch norm': lambda: plain(TopKSAE, top_k=6, encoder_module='mlp_bn_1'),
    'TopKSAE, tied': lambda: plain(TopKSAE, top_k=6).tied(),
    'TopKSAE, float64': lambda: plain(TopKSAE, top_k=6, dtype=torch.float64),
    'family relu': lambda: toy('relu'),
    'family relu, not gated, folded': lambda: toy('relu', gate=False, fold=True),
    'family topk, not gated': lambda: toy('topk', gate=False),
    'family topk, not gated, folded': lambda: toy('topk', gate=False, fold=True),
    'family topk (up to norms)': lambda: toy('topk'),
    'family topk, folded (up to norms)': lambda: toy('topk', fold=True),
    'family topk, archetypal (up to norms)': lambda: toy('topk', archetypal=True),
    'family jumprelu': lambda: toy('jumprelu'),
    'family jumprelu, not gated': lambda: toy('jumprelu', gate=False),
    'family jumprelu, folded': lambda: toy('jumprelu', fold=True),
    'family jumprelu, archetypal, folded': lambda: toy('jumprelu', archetypal=True, fold=True),
    'family jumprelu, float64': lambda: toy('jumprelu', dtype=torch.float64),
    'family batchtopk': lambda: toy('batchtopk'),
    'family batchtopk, folded': lambda: toy('batchtopk', fold=True),
    'transcoder relu': lambda: toy('relu', same=False),
    'transcoder jumprelu': lambda: toy('jumprelu', same=False),
    'transcoder jumprelu, folded': lambda: toy('jumprelu', same=False, fold=True),
    'transcoder batchtopk, archetypal': lambda: toy('batchtopk', same=False, archetypal=True),
}
