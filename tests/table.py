"""What every public function of archsae takes: a good call, and the kind of each argument (see `inputs.py`)."""
import copy
import functools
import importlib
import inspect
import json
import os
import sys
import tempfile
from fnmatch import fnmatch
import numpy as np
import torch
from inputs import Case, Choice, Count, Device, Flag, Given, Index, Mask, Number, Places, Real, Seed, walk

N, D, K, P, L, T = 24, 6, 8, 9, 2, 5  # rows, width, atoms, points, layers, tokens of a context
MODULES = ('activations', 'amortised', 'atlas', 'checkpoints', 'codes', 'concepts', 'core', 'crosslayer',
           'distillation', 'factorizations', 'family', 'guarantees', 'hull', 'kernels', 'language', 'lorsa',
           'matching', 'metrics', 'pursuit', 'recurrence', 'relaxation', 'sae', 'sparsity', 'stability', 'stable',
           'steering', 'supports', 'training', 'transcoder', 'vision', 'overcomplete')


def module(name):
    return importlib.import_module(f'archsae.{name}')


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- good tensors

def real(*shape, seed=0, **how):
    def make():
        return normal(*shape, seed=seed)
    return Real(make, **how)


def positive(*shape, seed=0, **how):
    def make():
        return normal(*shape, seed=seed).abs() + .1
    return Real(make, **how)


def mixtures(*shape, seed=0, **how):
    def make():
        return normal(*shape, seed=seed).softmax(-1)
    return Real(make, scales=False, **how)


def codes(*shape, seed=0, **how):
    def make():
        return normal(*shape, seed=seed).relu()
    return Real(make, **how)


def unit_box(*shape, **how):
    def make():
        return normal(*shape).sigmoid()
    return Real(make, **how)


def given(value=None, *bad):
    def make():
        return value
    return Given(make, bad)


def made(make, *bad):
    return Given(make, bad)


def a_shape():
    bad = ('a', None, 2.5, True, 0, -1, {}, (), (D, 2, 2, 2), ('a',), [0], b'1', float('nan'), 10**400, (2, 2.5))
    return Given(lambda: D, bad, (np.int64(D), np.uint16(D), (D,), [D], (4, D), (D, 2, 2)))


# ---- models, made once and copied

@functools.cache
def once(make):
    torch.manual_seed(0)
    return make()


def method(make, name, fresh=False):
    def get():
        thing = once(make)
        return getattr(copy.deepcopy(thing) if fresh else thing, name)
    return get


def topk():
    return module('sae').TopKSAE(D, K, 3).eval()


def plain():
    return module('sae').SAE(D, K).eval()


def batchtopk():
    return module('sae').BatchTopKSAE(D, K, 3).eval().set_threshold(.1)


def batchtopk_in_training():
    return module('sae').BatchTopKSAE(D, K, 3).train()


def jump():
    return module('sae').JumpSAE(D, K).eval()


def quantized():
    return module('sae').QSAE(D, K).eval()


def ratopk():
    return module('sae').RATopKSAE(D, K, normal(P, D, seed=5), 3, .1).eval()


def rabatchtopk():
    return module('sae').RABatchTopKSAE(D, K, normal(P, D, seed=5), 3, .1).eval().set_threshold(.1)


def rajump():
    return module('sae').RAJumpSAE(D, K, normal(P, D, seed=5), delta=.1).eval()


def mpsae():
    return module('pursuit').MpSAE(D, K, 2).eval()


def ompsae():
    return module('pursuit').OMPSAE(D, K, 2).eval()


def amortised():
    return module('amortised').AmortisedSAE(D, K, 2).eval()


def mlp():
    return module('sae').MLPEncoder(D, K).eval()


def attention():
    return module('sae').AttentionEncoder((T, D), K, attention_heads=2).eval()


def resnet():
    return module('sae').ResNetEncoder((D, 4, 4), K).eval()


def untied():
    return module('sae').TieableEncoder(D, K)


def layer():
    return module('sae').DictionaryLayer(D, K)


def archetypal():
    return module('hull').ArchetypalDictionary(normal(P, D, seed=5), K)


def relaxed():
    return module('relaxation').RelaxedArchetypalDictionary(D, K, normal(P, D, seed=5), .1)


def sae_config(**changes):
    return module('transcoder').SAEConfig(**dict(d_model=D, expansion_factor=2, hook_point_in='in') | changes)


def transcoder():
    model = module('transcoder').Transcoder(sae_config(hook_point_out='out', act_fn='topk', top_k=3))
    return model.set_dataset_norms(places()).eval()


def clt_config(**changes):
    hooks = dict(hook_points_in=['in0', 'in1'], hook_points_out=['out0', 'out1'])
    return module('crosslayer').CLTConfig(**dict(d_model=D, expansion_factor=2) | hooks | changes)


def crosslayer():
    model = module('crosslayer').CrossLayerTranscoder(clt_config(act_fn='topk', top_k=3))
    return model.set_dataset_norms(layers()).eval()


def cross_archetypes():
    return module('crosslayer').CrossArchetypes(normal(L, P, D, seed=6), K, .1)


def lorsa_config(**changes):
    given = dict(d_model=D, expansion_factor=2, hook_point_in='in', hook_point_out='out', n_qk_heads=2, d_qk_head=4,
                 rotary_dim=4, n_ctx=T)
    return module('lorsa').LorsaConfig(**given | changes)


def lorsa():
    model = module('lorsa').Lorsa(lorsa_config(act_fn='topk', top_k=3))
    return model.set_dataset_norms(contexts()).eval()


def heads():
    n, e = 2, 4
    q, k, v = (normal(n, D, e, seed=i) for i in range(3))
    return module('lorsa').Heads(q, torch.zeros(n, e), k, torch.zeros(n, e), v, torch.zeros(n, e), normal(n, e, D),
                                 torch.zeros(D))


def exact_config():
    return lorsa_config(expansion_factor=16 / D, d_sae=16, norm_activation='inference')


def places():
    return {'in': normal(N, D, seed=1), 'out': normal(N, D, seed=2)}


def layers():
    return {name: normal(N, D, seed=i) for i, name in enumerate(('in0', 'in1', 'out0', 'out1'))}


def contexts():
    return {'in': normal(4, T, D, seed=1), 'out': normal(4, T, D, seed=2)}


def normalised(make, data):
    def made():
        return once(make).normalise(data())[0]
    return made


def some_activations():
    A, mean, std = module('activations').standardise(normal(16, D))
    return module('activations').Activations(
        A, mean, std, torch.arange(4).repeat_interleave(4), torch.tensor([0, 1, 0, 1]), normal(2, D), (2, 2),
        normal(4, 8, 8).sigmoid(), 'made')


def some_concepts():
    return module('concepts').concepts_of(once(topk), once(some_activations))


def sparse():
    return module('codes').sparse_codes(normal(N, K).relu())


def kept():
    X, W = normal(N, D), normal(K, D, seed=1)
    return module('codes').keep_topk(X, W, None, 3)


@functools.cache
def tiny_lm():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=D, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval().requires_grad_(False)


@functools.cache
def tiny_tokenizer():
    return module('language').train_tokenizer(['some words, and some more words'] * 4, 260)


@functools.cache
def matching_lm():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=300, n_positions=16, n_embd=D, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval().requires_grad_(False)


def ids():
    return torch.randint(50, (3, T), generator=torch.Generator().manual_seed(0))


def keep():
    return torch.ones(3, T, dtype=torch.bool)


def text_activations():
    return module('language').TextActivations({'a': normal(15, D)}, ids().flatten(), torch.arange(T).repeat(3),
                                              torch.arange(3).repeat_interleave(T), ids(), keep())


def lm_transcoder():
    cfg = sae_config(hook_point_in='blocks.0.mlp.in', hook_point_out='blocks.0.mlp', norm_activation='inference')
    return module('transcoder').Transcoder(cfg).eval()


def means():
    return {'blocks.0.mlp': normal(D)}


def unchanged(x):
    return x


# ---- the table

CASES = {}


def add(entry, get=None, /, nan='', nan_at='', slow=False, loose='', **arguments):
    "An entry; `get` is where it comes from if not its module."
    if get is None:
        where, *path = entry.split('.')

        def get():
            thing = module(where)
            for part in path:
                thing = getattr(thing, part)
            return thing
    CASES[entry] = Case(entry, get, arguments, nan, nan_at, slow, loose)


def of(entry, make, /, fresh=False, **arguments):
    "An entry for a method of what `make` makes."
    how = {key: arguments.pop(key) for key in ('nan', 'nan_at', 'slow', 'loose') if key in arguments}
    add(entry, method(make, entry.split('.')[-1], fresh), **how, **arguments)


COINS = 'which numbers are the largest may change by rounding'

# core
add('core.seeded', seed=Seed(3))
add('core.pick_device', device=Device())
add('core.from_config', config=made(lambda: once(topk).config, None, 'a', 3, [], {}, {'class': 'none'},
    {'class': 'TopKSAE'},
                                    {'class': []}, {'class': 'TopKSAE', 'input_shape': 'a'}, {'class': 3, 'k': 1}))

# hull
add('hull.simplex_rows', W=real(K, P, free=True, finite=False), eps=Number(1e-12, least=0))
add('hull.project_rows', W=real(K, P, free=True, finite=False))
add('hull.tangent_rows', W=mixtures(K, P, free=True, finite=False))
add('hull.certify_convex', x=real(D), C=real(P, D, seed=1))
add('hull.certify_conic', x=real(D), C=real(P, D, seed=1))
add('hull.hull_distance', D=real(K, D), C=real(P, D, seed=1), tol=Number(1e-3, least=0), weights=Flag())
add('hull.ArchetypalDictionary', points=real(P, D, free=True), nb_concepts=Count(K),
    generator=made(torch.Generator, 'a', 3, [], True))
of('hull.ArchetypalDictionary.forward', archetypal, z=codes(N, K, finite=False, leading=True))

# relaxation
add('relaxation.ball_rows', L=real(K, D, free=True, finite=False), radius=Number(1., least=0))
add('relaxation.build_dictionary', W=mixtures(K, P, finite=False), C=real(P, D, seed=1, finite=False),
    Relax=real(K, D, seed=2, finite=False),
    multiplier=given(torch.tensor(.1), None, 'a', [], torch.zeros(2)), tangent=Flag(),
    support=given(None, 'a', 3, 2.5, torch.zeros(K, P), torch.full((K, P), 99)))
add('relaxation.RelaxedArchetypalDictionary', in_dimensions=Count(D, most=None), nb_concepts=Count(K),
    points=real(P, D), delta=Number(.1, least=0), use_multiplier=Flag(True), device=Device(), init=Choice('identity',
    True),
    support=Count(4, most=P, optional=True), refresh=Count(100, least=0), delta_unit=Choice('absolute'),
    rule=Choice('retraction'))
of('relaxation.RelaxedArchetypalDictionary.forward', relaxed, z=codes(N, K, finite=False, leading=True))
of('relaxation.RelaxedArchetypalDictionary.train', relaxed, fresh=True, mode=Flag(True))

# matching and stability
add('matching.assign', S=real(K, P, free=True), tol=Number(1e-3, least=0, infinite=True), method=Choice('auto'),
    m=Count(24),
    loose=COINS)
add('matching.match_directions', U=real(K, D), V=real(P, D, seed=1), signed=Flag(True), tol=Number(1e-3, least=0,
    infinite=True),
    method=Choice('auto'), m=Count(24), nan='where an atom has no partner', loose=COINS)
add('stability.match_atoms', D1=real(K, D), D2=real(K, D, seed=1), signed=Flag(True), center=Flag(),
    alive=given(None, 'a', 3, 2.5, [], [torch.ones(K).bool()], (torch.ones(K), torch.ones(K)), ('a', 'b'), (None, None),
                (torch.ones(3).bool(), torch.ones(K).bool()), (torch.zeros(K).bool(), torch.ones(K).bool()), {}),
    tol=Number(1e-3, least=0, infinite=True), loose=COINS)
add('stability.stability', D1=real(K, D), D2=real(K, D, seed=1), signed=Flag(True), center=Flag(),
    alive=given(None, 'a', 3, [], (torch.ones(K), torch.ones(K)), ('a', 'b')))
add('stability.greedy_agreement', D1=real(K, D), D2=real(K, D, seed=1), signed=Flag(), center=Flag(), block=Count(4))
add('stability.stability_null', k=Count(K), d=Count(D), kind=Choice('gaussian'),
    seeds=given((0, 1), 'a', 3, None, [], [-1], [1.5], ['a'], [True], [None]), mean=Number(3.), signed=Flag(True),
    center=Flag())
add('stability.stability_null of rows', lambda: module('stability').stability_null, k=Count(K), d=Count(D),
    kind=given('data rows'), A=real(N, D))
add('stability.pairwise', dictionaries=made(lambda: [normal(K, D), normal(K, D, seed=1)], None, 'a', 3, [], ['a', 'b'],
                                            [None, None], [torch.zeros(K, D)], [torch.zeros(K, D), torch.ones(K, 3)],
                                            [torch.full((K, D), torch.nan), torch.ones(K, D)], {}),
    alive=given(None, 'a', 3, [], [torch.ones(K), torch.ones(K)], ['a', 'b']),
    at=given((.7, .9), 'a', None, 3, ['a'], [None], [float('nan')]), signed=Flag(True), center=Flag(),
    tol=Number(1e-3, least=0, infinite=True), loose=COINS)

add('stability.plot_frontier', points=given({'a': [dict(r2=.5, l0=4.), dict(r2=.7, l0=8.)], 'b': dict(r2=.6, l0=4.)},
                                            None, 'a', 3, [], {}, {'a': 3}, {'a': []}, {'a': None}),
    A=given(None), x=Choice('l0'), y=Choice('r2'), null=Number(.3, least=-1., most=1., optional=True),
    ax=given(None, 'a', 3, 2.5), slow=True)

# sparsity
add('sparsity.topk', pre=real(N, K, finite=False, leading=True, free=True), k=Count(3, most=K), loose=COINS)
add('sparsity.batch_topk', pre=real(N, K, finite=False, free=True), k_total=Count(30, most=N * K), loose=COINS)
add('sparsity.threshold_codes', pre=real(N, K, finite=False, leading=True, free=True), theta=Number(.5),
    strict=Flag(True), loose=COINS)
KERNEL = dict(kernel=Choice('silverman'), bandwidth=Number(.01, above=0), legacy_scale=Flag())
add('sparsity.jump_relu', x=real(N, K, finite=False, leading=True, free=True, empty=True), theta=Number(.5),
    strict=Flag(True), **KERNEL, loose=COINS)
add('sparsity.heaviside', x=real(N, K, finite=False, leading=True, free=True, shown=False, empty=True),
    theta=Number(.5), **KERNEL, loose=COINS)

# codes
add('codes.SparseCodes', values=real(N, 3, finite=False),
    index=made(lambda: torch.arange(3 * N).view(N, 3) % K, None, 'a', 3, torch.zeros(N, 3), torch.zeros(N, 2).long(),
               torch.full((N, 3), 99), torch.full((N, 3), -1)),
    width=Count(K), offsets=given(None, 'a', 3, torch.zeros(2), torch.arange(3)))
of('codes.SparseCodes.replace', sparse, values=made(lambda: once(sparse).values * 2, None, 'a', 3, torch.zeros(3)))
of('codes.SparseCodes.sum_rows', sparse, f=given(None, 'a', 3))
add('codes.sparse_codes', Z=codes(N, K, finite=False, free=True), loose=COINS)
KNOWN = dict(finite=False, shown=False)  # the values are known, and what is given is for gradients
add('codes.encode', X=real(N, D, **KNOWN), W=real(K, D, seed=1, **KNOWN), b=real(K, seed=2, optional=True, **KNOWN),
    codes=made(lambda: once(kept), None, 'a', 3, [], torch.zeros(N, K)))
add('codes.decode', codes=made(lambda: once(sparse), None, 'a', 3, [], torch.zeros(N, K)),
    D=real(K, D, finite=False, free=True))

# pursuit
add('pursuit.matching_pursuit', x=real(N, D, finite=False), D=real(K, D, seed=1, finite=False), k=Count(3),
    positive=Flag(True),
    blocked=Mask(lambda: torch.arange(K) > K - 2, True), loose=COINS)
add('pursuit.orthogonal_pursuit', x=real(N, D, finite=False), D=real(K, D, seed=1, finite=False), k=Count(3, most=K),
    positive=Flag(True),
    steps=Count(50), blocked=Mask(lambda: torch.arange(K) > K - 2, True), loose=COINS)
PURSUIT = dict(input_shape=a_shape(), nb_concepts=Count(K), k=Count(2), dropout=Number(.1, least=0, most=1 - 1e-6,
    optional=True),
               encoder_module=given('identity', 3, [], 'none', 2.5), dictionary_params=given(None, 'a', 3, []),
               device=Device())
add('pursuit.MpSAE', **PURSUIT)
add('pursuit.OMPSAE', **PURSUIT, max_iter=Count(10))
of('pursuit.MpSAE.pursue', mpsae, x=real(N, D, finite=False), D=real(K, D, seed=1, finite=False), loose=COINS)
of('pursuit.OMPSAE.pursue', ompsae, x=real(N, D, finite=False), D=real(K, D, seed=1, finite=False),
   k=Count(2, most=K, optional=True), max_iter=Count(5, optional=True), loose=COINS)
of('pursuit.OMPSAE.encode', ompsae, x=real(N, D, finite=False, leading=True), k=Count(2, most=K, optional=True),
   max_iter=Count(5, optional=True), loose=COINS)

# amortised
add('amortised.AmortisedSAE', **PURSUIT | dict(k=Count(2, most=K)), refits=Count(1, least=0))
of('amortised.AmortisedSAE.pursue', amortised, x=real(N, D, finite=False), D=real(K, D, seed=1, finite=False),
   loose=COINS)

# metrics
PAIR = dict(x=real(N, D), x_hat=real(N, D, seed=1))
add('metrics.r2_score', **PAIR, center=Choice('feature'), nan='where x does not vary')
add('metrics.ExplainedVariance.update', lambda: module('metrics').ExplainedVariance().update, **PAIR)
add('metrics.l0_count', Z=codes(N, K, free=True))
add('metrics.dead_codes', z=codes(N, K, free=True))
add('metrics.dead_share', Z=codes(N, K, free=True))
add('metrics.stable_rank', D=real(K, D, free=True), centered=Flag())
add('metrics.effective_rank', D=real(K, D, free=True))
add('metrics.coherence', D=real(K, D, free=True), block=Count(4))
add('metrics.ood_score', D=real(K, D), A=real(N, D, seed=1), n_ref=Count(20), seed=Seed(), block=Count(4))
add('metrics.connectivity', Z=codes(N, K, free=True), block=Count(4))
add('metrics.neg_interference', Z=codes(N, K), D=real(K, D, free=True), form=Choice('raw'))
add('metrics.plausibility', D=real(K, D), V=real(3, D, seed=1), std=positive(D, optional=True), block=Count(4))
DIMS = given(None, 'a', 2.5, 7, -9, [9], {}, True)
for norm in ('l0', 'l1', 'l2'):
    add(f'metrics.{norm}', **{'x' if norm == 'l0' else 'v': codes(N, K, finite=norm == 'l0', leading=True, free=True),
        'dims': DIMS})
add('metrics.hoyer', x=codes(N, K, finite=False, free=True))
add('metrics.kappa_4', x=codes(N, K, finite=False, free=True))
add('metrics.hungarian_loss', D1=real(K, D), D2=real(K, D, seed=1), p_norm=Number(2, above=0, infinite=True))
add('metrics.cosine_hungarian_loss', D1=real(K, D), D2=real(K, D, seed=1))
add('metrics.dictionary_collinearity', D=real(K, D, free=True))
add('metrics.wasserstein_1d', x1=real(N, D), x2=real(N, D, seed=1))
add('metrics.frechet_distance', x1=real(N, D), x2=real(N + 1, D, seed=1))

# sae
INPUT = dict(input_shape=a_shape(), nb_concepts=Count(K))
ENCODER = given(None, 3, [], 'none', 2.5, torch.zeros(2))
PARAMS = given(None, 'a', 3, [])
add('sae.DictionaryLayer', in_dimensions=Count(D), nb_concepts=Count(K), normalization=Choice('l2'),
    initializer=real(K, D, optional=True), use_multiplier=Flag(), device=Device())
of('sae.DictionaryLayer.forward', layer, z=codes(N, K, finite=False, leading=True))
CLASSES = dict(hidden_activation=given(torch.nn.ReLU, 3, 'a', None), output_activation=given(torch.nn.ReLU, 3, 'a',
    None),
               norm_layer=given(torch.nn.LayerNorm, 3, 'a', None))
add('sae.MLPEncoder', input_shape=a_shape(), n_components=Count(K), hidden_dim=Count(5, optional=True),
    nb_blocks=Count(1, least=0), **CLASSES, residual=Flag(), device=Device())
of('sae.MLPEncoder.forward', mlp, x=real(N, D, finite=False, leading=True))
add('sae.AttentionEncoder', input_shape=given((T, D), 3, None, 'a', (T,), (T, D, 2), (0, D), (T, 2.5), (T, True)),
    n_components=Count(K), nb_blocks=Count(1), output_activation=CLASSES['output_activation'],
    norm_layer=CLASSES['norm_layer'], attention_heads=Count(2), mlp_ratio=Number(4., above=0), device=Device())
of('sae.AttentionEncoder.forward', attention, x=real(4, T, D, finite=False, leading=True))
add('sae.ResNetEncoder', input_shape=given((D, 4, 4), 3, None, 'a', (D,), (D, 2), (0, D, 2), (D, 2.5, 2)),
    n_components=Count(K), hidden_dim=Count(5, optional=True), nb_blocks=Count(1),
    output_activation=CLASSES['output_activation'], device=Device())
of('sae.ResNetEncoder.forward', resnet, x=Real(lambda: normal(2, D, 4, 4), finite=False, leading=True, free=True))
add('sae.EncoderFactory.create_module', name=Choice('linear'), input_shape=a_shape(), n_components=Count(K))
add('sae.TieableEncoder', in_dimensions=Count(D), nb_concepts=Count(K), bias=Flag(), tied_to=given(None, 'a', 3),
    weight_init=real(K, D, optional=True), device=Device())
of('sae.TieableEncoder.forward', untied, x=real(N, D, finite=False, leading=True))
SAES = dict(SAE=({}, plain), TopKSAE=(dict(top_k=Count(3, most=K, optional=True)), topk),
            BatchTopKSAE=(dict(top_k=Count(3, most=K, optional=True), threshold_momentum=Number(.9, least=0,
            most=1 - 1e-6),
                               k_per=Choice('sample')), batchtopk),
            JumpSAE=(dict(kernel=Choice('silverman'), bandwidth=Number(.001, above=0)), jump),
            QSAE=(dict(q=Count(4), hard=Flag()), quantized))
HULL = dict(points=real(P, D), delta=Number(.1, least=0), use_multiplier=Flag(True), init=Choice('identity', True),
            rule=Choice('retraction'), delta_unit=Choice('absolute'), support=Count(4, most=P, optional=True),
            refresh=Count(100, least=0))
ARCHETYPAL = dict(RATopKSAE=('TopKSAE', ratopk), RABatchTopKSAE=('BatchTopKSAE', rabatchtopk), RAJumpSAE=('JumpSAE',
    rajump))
for name, (own, make) in SAES.items():
    add(f'sae.{name}', **INPUT, **own, encoder_module=ENCODER, dictionary_params=PARAMS, device=Device())
for name, (parent, _) in ARCHETYPAL.items():
    add(f'sae.{name}', **INPUT, **SAES[parent][0], **HULL, encoder_module=ENCODER, device=Device())
MODELS = {name: make for name, (_, make) in (SAES | ARCHETYPAL).items()}
for name, make in MODELS.items():
    for act in ('encode', 'forward', 'sparse'):
        of(f'sae.{name}.{act}', make, x=real(N, D, finite=False, leading=True, shown=act != 'sparse'), loose=COINS)
    of(f'sae.{name}.decode', make, z=codes(N, K, finite=False, leading=True))
    of(f'sae.{name}.match_scale_', make, fresh=True, x=real(N, D, leading=True), by=Choice('encoder'))
    of(f'sae.{name}.scale_codes_', make, fresh=True, factor=Number(2., above=0))
    of(f'sae.{name}.tied', make, fresh=True, bias=Flag())
    of(f'sae.{name}.untied', make, fresh=True, bias=Flag(), copy_from_dictionary=Flag(True))
of('sae.SAE.plot_atom', plain, atom=Count(1, least=0, most=K - 1), slow=True)
of('sae.BatchTopKSAE.budget', batchtopk, n=Count(N))
of('sae.BatchTopKSAE.set_threshold', batchtopk, fresh=True, value=Number(.1, least=0))
of('sae.BatchTopKSAE.calibrate', batchtopk, fresh=True,
   batches=made(lambda: [normal(N, D)], None, 3, [], 'a', [None], ['a'], [torch.full((N, D), torch.nan)],
   [torch.zeros(N, 3)]))

# activations
SCALE = dict(mean=real(D, seed=1), std=positive(D, seed=2))
add('activations.rescale', A=real(N, D), **SCALE, block=Count(4))
add('activations.standardise', A=real(N, D, free=True), how=Choice('feature'))
add('activations.take_rows', A=real(N, D, free=True), rows=Index(lambda: torch.tensor([3, 1]), N - 1))
add('activations.Activations', A=real(16, D), **SCALE,
    image=made(lambda: torch.arange(4).repeat_interleave(4), None, 'a', 3, torch.zeros(3).long()),
    labels=made(lambda: torch.tensor([0, 1, 0, 1]), None, 'a', 3, torch.zeros(5).long(), torch.zeros(4)),
    directions=real(2, D, optional=True), grid=given((2, 2), None, 'a', 3, (2,), (2, 2.5), (3, 3), (0, 4), (-2, -2)),
    pixels=made(lambda: normal(4, 8, 8).sigmoid()), bias=real(2, optional=True), prefix=Count(0, least=0))
of('activations.Activations.rescaled', some_activations, how=Choice('feature'))
of('activations.Activations.picture', some_activations, i=Count(1, least=0, most=3))
of('activations.Activations.place', some_activations, i=Count(1, least=0, most=15))
of('activations.Activations.patch', some_activations, i=Count(1, least=0, most=15))
of('activations.Activations.select', some_activations, which=Index(lambda: torch.tensor([0, 2]), 3))
of('activations.Activations.split', some_activations, shares=made(lambda: (.5, .5), 'a', 3, (0.,), (2.,)), seed=Seed())

# distillation
KMEANS = dict(A=real(N, D, free=True), p=Count(4, most=N), seed=Seed())
add('distillation.cluster', **KMEANS, batch_size=Count(8, optional=True), exact_below=Number(5e9, least=0,
    infinite=True),
    max_iter=Count(5, optional=True), tol=Number(1e-4, least=0), engine=Choice('auto'), device=Device(None, True),
    dtype=given(None, 'a', 3, torch.int64, float), slow=True, loose=COINS)
add('distillation.random_points', **KMEANS)
OPTIONS = dict(end=Choice('outer', True), cap=Count(20, optional=True), neighbors=Count(5, optional=True))
add('distillation.distil', **KMEANS, how=Choice('kmeans'), batch_size=Count(8, optional=True),
    exact_below=Number(5e9, least=0, optional=True, infinite=True), max_iter=Count(5, optional=True),
    tol=Number(1e-4, least=0, optional=True), engine=Choice('auto', True), device=Device(None, True), slow=True,
    loose=COINS)
add('distillation.distil lof', lambda: module('distillation').distil, **KMEANS, how=given('lof'), **OPTIONS, slow=True,
    loose=COINS)
add('distillation.distil isolation', lambda: module('distillation').distil, **KMEANS, how=given('isolation'),
    trees=Count(5, optional=True), slow=True, loose=COINS)
add('distillation.distil svm', lambda: module('distillation').distil, **KMEANS, how=given('svm'),
    nu=Number(.5, above=0, most=1, optional=True), gamma=Number(.1, least=0, optional=True), slow=True, loose=COINS)
add('distillation.distil hull', lambda: module('distillation').distil, **KMEANS | dict(p=Count(2, most=N)),
    how=given('hull'), dims=Count(3, optional=True), directions=Count(64, optional=True), slow=True, loose=COINS)

# stable, recurrence
add('stable.stable_dictionary', A=real(N, D, free=True), k=Count(4), top_k=Count(2, most=4), steps=Count(2, least=0),
    ridge=Number(.1, least=0), least=Count(1), points=Count(5, optional=True),
    support=Count(2, most=5, optional=True), delta=Number(.1, least=0), memory=Count(16), device=Device(),
    progress=Flag(), slow=True)
add('recurrence.recurrence', make=made(lambda: lambda rows, seed: rows[:4], None, 'a', 3),
    A=real(N, D, free=True, scales=False), runs=Count(2, least=2), threshold=Number(.8, least=0, most=1 - 1e-6),
    seed=Seed(), progress=Flag(), slow=True)


def an_answer():
    from archsae.recurrence import Recurrence

    p = torch.linspace(.2, 1, K)
    return Recurrence(module('pursuit').OMPSAE(D, K, 2).eval(), p, p, p, p[:, None], .8)


of('recurrence.Recurrence.kept', an_answer, least=Number(.5, least=0, most=1))

# guarantees
NEAR = dict(A=real(N, D), A2=Real(lambda: normal(N, D) + .01 * normal(N, D, seed=1)))
add('guarantees.diameter_bound', **NEAR, k=Count(3))
add('guarantees.ood_bound', W=mixtures(K, N), A=real(N, D, free=True))
add('guarantees.explicit_weights', D=real(K, D), C=real(P, D, seed=1), pi=Real(lambda: torch.full((P,), 1 / P),
    scales=False))
add('guarantees.gauge', D=real(K, D), C=real(P, D, seed=1), center=real(D, seed=2, optional=True),
    nan='where the ray leaves the hull at once', loose='on the boundary')
add('guarantees.inradius', C=real(P, 3, seed=1), center=Real(lambda: normal(P, 3, seed=1).mean(0), optional=True),
    pi=Real(lambda: torch.full((P,), 1 / P), optional=True, scales=False), starts=Count(2), seed=Seed(), slow=True)

# factorizations
METHODS = dict(SkPCA={}, SkSVD={}, SkICA={}, SkNMF={}, SkSparsePCA=dict(sparsity=Number(1., least=0),
    fit_method=Choice('cd'),
                                                                    tolerance=Number(1e-3, least=0)),
               SkDictionaryLearning=dict(sparsity=Number(1., least=0), fit_algorithm=Choice('cd'),
                                         transform_algorithm=Choice('lasso_cd'), tolerance=Number(1e-3, least=0)),
               SkKMeans={})
TORCH = dict(solver=Choice('pgd'), tol=Number(1e-4, least=0), verbose=Flag(), init=Choice(None, True),
    max_iter=Count(20))
METHODS |= dict(SemiNMF=TORCH | dict(l1_penalty=Number(0., least=0)), NMF=TORCH | dict(solver=Choice('hals')),
                ConvexNMF=TORCH | dict(strict_convex=Flag(), l1_penalty=Number(0., least=0), exchanges=Count(3),
                                       points=positive(P, D, optional=True, free=True)),
                ArchetypalAnalysis=TORCH | dict(points=positive(P, D, optional=True, free=True), exchanges=Count(3)))


def fitted(name):
    def make():
        maker = getattr(module('factorizations'), name)
        more = dict(max_iter=20) if name in ('SemiNMF', 'NMF', 'ConvexNMF', 'ArchetypalAnalysis') else {}
        method = maker(3, **more)
        method.fit(normal(N, D).abs() + .1)
        return method
    make.__name__ = f'fitted_{name}'
    return make


def unfitted(name):
    def make():
        maker = getattr(module('factorizations'), name)
        more = dict(max_iter=20) if name in ('SemiNMF', 'NMF', 'ConvexNMF', 'ArchetypalAnalysis') else {}
        return maker(3, **more)
    return make


for name, own in METHODS.items():
    add(f'factorizations.{name}', nb_concepts=Count(3), device=Device(), seed=Seed(), **own)
    made_once, fresh = fitted(name), unfitted(name)
    more = dict(max_iter=Count(5), tol=Number(1e-3, least=0, optional=True)) if own.keys() >= TORCH.keys() else {}
    of(f'factorizations.{name}.fit', fresh, fresh=True, A=positive(N, D, free=True), slow=True, loose='many roads',
       **({'max_iter': Count(5, optional=True)} if more else {}))
    of(f'factorizations.{name}.encode', made_once, A=positive(N, D), slow=True, loose='many roads', **more)
    of(f'factorizations.{name}.decode', made_once, Z=codes(N, 3))
add('factorizations.Factorization', nb_concepts=Count(3), device=Device(), seed=Seed())

# training
CRITERION = dict(x=real(N, D, finite=False, leading=True), x_hat=real(N, D, seed=1, finite=False), pre_codes=real(N,
    K, finite=False),
                 codes=codes(N, K, finite=False), dictionary=real(K, D, finite=False))
add('training.mse', x=real(N, D, finite=False, leading=True), x_hat=real(N, D, seed=1, finite=False))
FOUR = {name: kind for name, kind in CRITERION.items() if name not in ('pre_codes', 'dictionary')}
FOUR |= {name: made(CRITERION[name].make) for name in ('pre_codes', 'dictionary')}
for name in ('mse_l1', 'mse_hoyer', 'mse_kappa_4', 'top_k_auxiliary_loss'):
    add(f'training.{name}', **FOUR, penalty=Number(.1), loose=COINS)
COUNTED = dict(finite=False, shown=False, leading=True)  # which atoms are silent: the loss beside it shows a NaN
add('training.reanimation_regularizer', **FOUR | dict(
    x=given(None), x_hat=given(None), codes=codes(N, K, **COUNTED)), penalty=Number(.1))
add('training.mse_elastic', **CRITERION | dict(pre_codes=given(None)), alpha=Number(.5, least=0, most=1))
add('training.mse_l0', sae=made(lambda: once(jump), None, 'a', 3), penalty=Number(.01, least=0))
add('training.FiringTracker', nb_concepts=Count(K), device=Device(), dead_after=Count(10))


def tracker():
    return module('training').FiringTracker(K)


of('training.FiringTracker.update', tracker, fresh=True, codes=codes(N, K, **COUNTED),
   mask=given(None, 'a', 3, torch.ones(3).bool(), torch.ones(N)), loose=COINS)


def an_optimizer(model=None):
    return torch.optim.Adam((model or once(topk)).parameters(), 1e-3)


add('training.CosineScheduler', optimizer=made(an_optimizer, None, 'a', 3), base_value=Number(1e-3, least=0),
    final_value=Number(0., least=0), total_iters=Count(10), warmup_iters=Count(2, least=0),
    start_warmup_value=Number(0., least=0))


def trainable(function, **more):
    def get():
        train = getattr(module('training'), function)
        model = copy.deepcopy(once(topk))

        def call(dataloader, **given):
            optimizer = an_optimizer(model)
            return train(model, dataloader, module('training').mse, optimizer, **more, **given)
        return call
    return get


LOADER = made(lambda: [normal(N, D)], None, 3, [], 'a', [None], ['a'], [torch.zeros(N, 3)], [torch.ones(N, D).long()])
LEVEL = Given(lambda: 1, ('a', -1, 3, 2.5, None, [], {}, float('nan')), (np.int64(1),))
LOOP = dict(nb_epochs=Count(1), clip_grad=Number(1., least=0, optional=True), monitoring=LEVEL,
            device=Device(), progress=Flag())
AUTO = given('auto', 'no such word', '', 3, 2.5, None, [], {}, 1, 0)
add('training.train_sae', trainable('train_sae'), dataloader=LOADER, **LOOP, bf16=Flag(), sparse=AUTO,
    tokens=Flag(True), slow=True)
add('training.train_sae_amp', trainable('train_sae_amp'), dataloader=LOADER, **LOOP,
    max_nan_fallbacks=Given(lambda: 5, ('a', -1, True, [], {})),
    tokens=Flag(True), slow=True)
SHARE = Number(.1, least=0)
FIT = dict(
    A=real(N, D), epochs=given(None, 'a', 0, -1, 2.5, True, 10**400), batch_size=Count(8, optional=True),
    steps=Count(2, optional=True),
    lr=Number(1e-3, above=0, optional=True), lr_dictionary=Number(1e-3, above=0, optional=True),
    lr_multiplier=Number(1e-3, above=0, optional=True), lr_threshold=Number(1e-3, above=0, optional=True),
    criterion=given(None, 'a', 3), schedule=Choice('cosine'), warmup=SHARE, cooldown=SHARE,
    clip_grad=Number(1., least=0, optional=True), auxk_weight=Number(.1, least=0, optional=True), k_aux=Count(2,
    optional=True),
    dead_after=Count(10, optional=True), initial_k=Count(4, optional=True), k_warmup=SHARE, k_delay=SHARE,
    k_schedule=Choice('linear'), penalty_warmup=SHARE, match_scale=Choice('auto', True), seed=Seed(), device=Device(),
    bf16=Flag(False, True), progress=Flag(), sparse=AUTO, init_encoder=AUTO, paper=Flag())


def fitting(make):
    def get():
        model = copy.deepcopy(once(make))

        def call(**given):
            return module('training').fit(model, **given)
        return call
    return get


def fitting_many():
    models = [copy.deepcopy(once(topk)) for _ in range(2)]

    def call(**given):
        return module('training').fit_many(models, **given)
    return call


TIMES = 'seconds differ'
STILL = dict(nan='R² of what does not vary', nan_at='r2')
add('training.fit', fitting(topk), **FIT, slow=True, loose=TIMES, **STILL)
add('training.fit_many', fitting_many, **FIT, slow=True, loose=TIMES, **STILL)
SHORT = dict(steps=given(2), progress=given(False), device=given('cpu'))
add('training.fit transcoder', fitting(transcoder), A=Places(places), **SHORT, slow=True, loose=TIMES, **STILL)
add('training.fit crosslayer', fitting(crosslayer), A=Places(layers), **SHORT, slow=True, loose=TIMES, **STILL)
add('training.fit lorsa', fitting(lorsa), A=Places(contexts), **SHORT, slow=True, loose=TIMES, **STILL)
for name, make in MODELS.items():
    add(f'training.evaluate {name}', functools.partial(lambda make: functools.partial(module('training').evaluate,
        once(make)), make),
        A=real(N, D), batch_size=Count(8), loose=COINS, **STILL)
add('training.evaluate', model=made(lambda: once(topk), None, 'a', 3), A=real(N, D), batch_size=Count(8), loose=COINS,
    **STILL)
for make, data in ((transcoder, places), (crosslayer, layers), (lorsa, contexts)):
    add(f'training.evaluate {make.__name__}',
        functools.partial(lambda make: functools.partial(module('training').evaluate, once(make)), make),
        A=Places(data), batch_size=Count(8), loose=COINS, **STILL)

# family
BASE = dict(
    d_model=Count(D), expansion_factor=Number(2., above=0), use_decoder_bias=Flag(True), act_fn=Choice('relu'),
    top_k=Count(3),
    jumprelu_threshold_window=Number(2., above=0), norm_activation=Choice('dataset-wise'),
    sparsity_include_decoder_norm=Flag(True), use_triton_kernel=Flag(),
    sparsity_threshold_for_triton_spmm_kernel=Number(.9, above=0), k_per=Choice('layer'), batch_selection=Flag(),
    d_sae=Count(12, optional=True), device=Device(), dtype=given(torch.float32, 'a', 3, None, torch.int64))
HOOK = given('in', None, 3, '', [])
add('family.BaseSAEConfig', **BASE)
add('family.FamilyLoss', sparsity_loss_type=Choice(None, True), l1_coefficient=Number(.1, least=0), p=Number(1.,
    above=0),
    tanh_stretch_coefficient=Number(4., least=0), frequency_scale=Number(.01, above=0), lp_coefficient=Number(0.,
    least=0),
    lp_parity=Flag(), auxk_coefficient=Number(0., least=0), k_aux=Count(4))
add('transcoder.SAEConfig', **BASE, hook_point_in=HOOK, hook_point_out=given('out', 3, []), use_glu_encoder=Flag())
HOOKS = given(['in0', 'in1'], None, 3, [], 'a', [3, 4], ['a', 'a'], [''])
add('crosslayer.CLTConfig', **BASE, hook_points_in=HOOKS, hook_points_out=given(['out0', 'out1'], None, 3, [], ['a']),
    init_cross_layer_decoder_all_zero=Flag(), decode_with_csr=Flag(), sparsity_threshold_for_csr=Number(.05, above=0))
add('lorsa.LorsaConfig', **BASE, hook_point_in=HOOK, hook_point_out=given('out', None, 3, '', 'in'),
    n_qk_heads=Count(2),
    d_qk_head=Count(4), rotary_dim=Count(4, most=4), n_ctx=Count(T), positional_embedding_type=Choice('rotary'),
    rotary_base=Number(10000., above=0), rotary_adjacent_pairs=Flag(True), rotary_scale=Count(1),
    use_NTK_by_parts_rope=Flag(), NTK_by_parts_factor=Number(1., above=0), NTK_by_parts_low_freq_factor=Number(1.,
    above=0),
    NTK_by_parts_high_freq_factor=Number(1., above=0), old_context_len=Count(2048), attn_scale=Number(2., above=0,
    optional=True),
    use_post_qk_ln=Flag(), normalization_type=Choice('RMS', True), eps=Number(1e-6, above=0), causal=Flag(True))
SEEDED = dict(decoder=given(None, 'a', 3), seed=Seed())
add('transcoder.Transcoder', cfg=made(sae_config, None, 'a', 3, {}), **SEEDED, decoder_uniform_bound=Number(1.,
    above=0),
    encoder_factor=Number(1.))
add('crosslayer.CrossLayerTranscoder', cfg=made(clt_config, None, 'a', 3, {}), **SEEDED)
add('lorsa.Lorsa', cfg=made(lorsa_config, None, 'a', 3, {}), **SEEDED)
FAMILY = dict(transcoder=('transcoder.Transcoder', transcoder, real(N, D, finite=False, leading=True), codes(N, 2 * D,
    finite=False, leading=True), places),
              crosslayer=('crosslayer.CrossLayerTranscoder', crosslayer, real(N, L, D, finite=False, leading=True),
                          codes(N, L, 2 * D, finite=False, leading=True), layers),
              lorsa=('lorsa.Lorsa', lorsa, real(4, T, D, finite=False, leading=True), codes(4, T, 2 * D, finite=False,
              leading=True), contexts))
for name, make, x, z, data in FAMILY.values():
    of(f'{name}.encode', make, x=x, return_hidden_pre=Flag(), mask=given(None, 'a', 3, torch.ones(2)), loose=COINS)
    of(f'{name}.forward', make, x=x, loose=COINS)
    of(f'{name}.hidden', make, x=x)
    of(f'{name}.decode', make, z=z)
    of(f'{name}.set_dataset_norms', make, fresh=True, batch=Places(data))
    of(f'{name}.normalise', make, batch=Places(data, finite=False, some=False))
    of(f'{name}.losses', make, batch=Places(normalised(make, data), finite=False), penalty_share=Number(1., least=0),
       k=Count(3, optional=True), loose=COINS)
of('transcoder.Transcoder.retie', transcoder, fresh=True, factor=Number(1.))
of('crosslayer.CrossLayerTranscoder.encode_layer', crosslayer, x=real(N, D, finite=False, leading=True), l=Count(1,
    least=0, most=1),
   loose=COINS)
of('crosslayer.CrossLayerTranscoder.to_jumprelu', crosslayer, x=real(N, L, D, optional=True, leading=True), loose=COINS)
of('lorsa.Lorsa.values', lorsa, x=real(4, T, D, finite=False, leading=True))
of('lorsa.Lorsa.z_pattern', lorsa, x=real(4, T, D, finite=False, leading=True), j=Count(1, least=0, most=2 * D - 1))
add('crosslayer.CrossArchetypes', points=Real(lambda: normal(L, P, D), free=True), nb_concepts=Count(K),
    delta=Number(.1, least=0),
    gain=Flag(), init=Choice('identity', True), rule=Choice('retraction'), device=Device())
of('crosslayer.CrossArchetypes.forward', cross_archetypes, z=codes(N, L, K, finite=False, leading=True))
of('crosslayer.CrossArchetypes.rows', cross_archetypes, t=Count(1, least=0, most=1))
of('crosslayer.CrossArchetypes.target', cross_archetypes, z=codes(N, L, K, finite=False, leading=True), t=Count(1,
    least=0, most=1))
of('crosslayer.CrossArchetypes.asked', cross_archetypes, z=codes(N, L, K, finite=False, leading=True))
of('crosslayer.CrossArchetypes.scale_', cross_archetypes, fresh=True, f_in=positive(L), f_out=positive(L, seed=1))
ANCHORED = dict(decoder=Choice('archetypal'), points=Count(4, optional=True), how=Choice('random'), delta=Number(.1,
    least=0),
                seed=Seed())
MIXED = dict(init=Choice('identity', True), support=Count(3, most=4, optional=True), refresh=Count(100, least=0),
    delta_unit=Choice('data'),
             rule=Choice('retraction'), use_multiplier=Flag(True))
add('transcoder.anchored_transcoder', cfg=made(lambda: sae_config(hook_point_out='out'), None, 'a', 3),
    data=Places(places),
    **ANCHORED, paired=Flag(True), groups=Index(lambda: torch.arange(N) % 4, 3, True), **MIXED, slow=True, loose=COINS)
add('crosslayer.anchored_crosslayer', cfg=made(clt_config, None, 'a', 3), data=Places(layers), **ANCHORED,
    paired=Flag(True),
    groups=Index(lambda: torch.arange(N) % 4, 3, True), gain=Flag(), init=Choice('identity', True),
    rule=Choice('retraction'), slow=True, loose=COINS)
add('lorsa.anchored_lorsa', cfg=made(lorsa_config, None, 'a', 3), data=Places(contexts), heads=made(heads, None, 'a',
    3),
    **ANCHORED, values=Choice('adjoint'), scaled=Flag(True), unit=Flag(), **MIXED, slow=True, loose=COINS)
add('lorsa.exact_lorsa', cfg=made(exact_config, None, 'a', 3), heads=made(heads, None, 'a', 3), norms=given(None, 'a',
    3))
add('crosslayer.virtual_weights', found=made(lambda: once(crosslayer).directions(), None, 'a', 3, {}), L=Count(L),
    l=Count(0, least=0, most=0), reader=Count(1, most=1), f_out=positive(L, optional=True))

# language
add('language.hook_points', model=made(tiny_lm, None, 'a', 3, torch.nn.Linear(2, 2)))
add('language.TextActivations', hooks=made(lambda: {'a': normal(15, D)}, None, 'a', 3, {'a': None}, {'a': normal(3,
    D)}),
    tokens=made(lambda: ids().flatten(), None, 'a', 3), positions=made(lambda: torch.arange(T).repeat(3), None, 'a', 3),
    contexts=made(lambda: torch.arange(3).repeat_interleave(T), None, 'a', 3), ids=made(ids, None, 'a', 3),
    keep=made(keep, None, 'a', 3, torch.ones(3, T), torch.ones(2, 2).bool()))
add('language.activations', model=made(matching_lm, None, 'a', 3), tokenizer=made(tiny_tokenizer, None, 'a', 3),
    texts=given(['some words and more'] * 5, None, 3, [], [None], [3], {}), hooks=given('blocks.0', None, 3, [],
    'none', [3], [None], 'blocks.9'),
    context=Count(4, most=16, optional=True), drop_first=Flag(True), limit=Count(5, optional=True), seed=Seed(),
    shuffle=Flag(True), packing=Choice('stream'), batch_size=Count(2), progress=Flag(False, True), slow=True)
TOKENS = dict(ids=made(ids, None, 'a', 3, normal(3, T), torch.full((3, T), 99), torch.full((3, T), -1), torch.zeros(0,
    0).long()),
              keep=made(keep, None, 'a', 3, normal(3, T), torch.ones(2, 2).bool(), torch.zeros(3, T).bool()))
ATTEND = made(lambda: torch.ones(3, T).bool(), 'a', 3, normal(3, T), torch.ones(2, 2).bool(), torch.zeros(3, T).bool())
add('language.downstream', model=made(tiny_lm, None, 'a', 3), **TOKENS, hook=given('blocks.0', None, 3, [], 'none'),
    change=given(unchanged, None, 'a', 3), mean=real(D), batch_size=Count(2), attend=ATTEND, slow=True)
add('language.logit_effect', model=made(tiny_lm, None, 'a', 3), atoms=real(K, D))
add('language.top_contexts', z=codes(15), acts=made(text_activations, None, 'a', 3), n=Count(2), width=Count(2,
    least=0))
add('language.highlight', ids=Index(lambda: torch.arange(5), 10**6), values=codes(5), tokenizer=made(tiny_tokenizer,
    None, 'a', 3),
    most=Number(2., above=0, optional=True))
add('family.ce_recovered', lm=made(tiny_lm, None, 'a', 3), **TOKENS, model=made(lambda: once(lm_transcoder), None,
    'a', 3),
    means=made(means, None, 'a', 3, {}, {'blocks.0.mlp': None}, {'blocks.0.mlp': torch.full((D,), torch.nan)},
               {'blocks.0.mlp': torch.zeros(D + 1)}), batch_size=Count(2), attend=ATTEND, slow=True)

# concepts and vision
add('concepts.concepts_of', sae=made(lambda: once(topk), None, 'a', 3), acts=made(lambda: once(some_activations),
    None, 'a', 3),
    batch_size=Count(8))
CONCEPT = dict(c=made(lambda: once(some_concepts), None, 'a', 3), atom=Count(1, least=0, most=K - 1))
add('concepts.top_images', **CONCEPT, count=Count(2), among=Index(lambda: torch.arange(3), 3, True))
of('concepts.Concepts.plot_atom', some_concepts, atom=CONCEPT['atom'], count=Count(2),
   model=given(None, 'a', 3), slow=True)
add('concepts.heat_map', codes=codes(2, 3, free=True), cell=Count(15))
add('concepts.importance', c=CONCEPT['c'], classes=given([0], None, 'a', 3, [], [9], [-1], ['a'], [0.5], [True]),
    means=real(2, K, optional=True))


def a_network():
    from timm.models.vision_transformer import VisionTransformer
    net = VisionTransformer(img_size=8, patch_size=4, in_chans=1, num_classes=2, embed_dim=D, depth=2, num_heads=2,
                            class_token=False, global_pool='avg', fc_norm=False)
    return module('steering').network_of(net, 1, dict(mean=(.5,), std=(.5,), crop_pct=1.))


def seen_concepts():
    acts = module('steering').activations_at(once(a_network), once(some_activations))
    return module('concepts').concepts_of(once(topk), acts)


CHANGED = dict(network=made(lambda: once(a_network), None, 'a', 3, torch.nn.Linear(2, 2)),
               c=made(lambda: once(seen_concepts), None, 'a', 3),
               atoms=given(1, None, 'a', 2.5, [], [9], -1, True, ['a']),
               images=Index(lambda: torch.arange(3), 3, True), draws=Count(2), seed=Seed(), batch_size=Count(2))
add('steering.ablate', **CHANGED, slow=True)
add('steering.steer', **CHANGED, strength=Number(1.), slow=True)
add('atlas.atlas', model=made(lambda: once(topk), None, 3, [], [3]),
    source=made(lambda: once(some_activations), None, 'a', 3), out=made(tempfile.mkdtemp, None, 3, ''),
    title=given(None, 3), names=given(None, 3, {K: 'x'}, [3]), columns=given(None, 3, ['x'], {'x': None}),
    used=given(None, 3, [[]] * (K + 1)), held_out=given(None, 'a', [9], 2.5), items=Count(4), layout=Choice('pca'),
    thumb=Count(8), progress=Flag(), slow=True)


def axes():
    import matplotlib
    matplotlib.use('agg')
    import matplotlib.pyplot as plt
    plt.close('all')
    return list(plt.subplots(1, 2)[1])


add('concepts.draw_views', axs=made(axes, None, 'a', 3), **CONCEPT, images=Index(lambda: torch.arange(2), 3),
    view=Choice('contour'), cell=Count(15), color=given('#FFD000', 3, None, 'no color', []), slow=True)


def pictures(function):
    def get():
        axes()
        return getattr(module('concepts'), function)
    return get


TOP = dict(images=made(lambda: normal(3, 3, 12, 12).sigmoid(), None, 'a', 3, [], {}, ['a']), heatmaps=codes(3, 4, 4,
    2, leading=True, free=True),
           concept_id=Count(1, least=0, most=1))
SHARES = given(None, 'a', 3, [], ['a'], [101], [-1], [float('nan')])
add('concepts.overlay_top_heatmaps', pictures('overlay_top_heatmaps'), **TOP, cmap=given(None, 3, []),
    alpha=Number(.35, least=0, most=1), slow=True, loose='drawn')
add('concepts.evidence_top_images', pictures('evidence_top_images'), **TOP, percentiles=SHARES, slow=True,
    loose='drawn')
add('concepts.zoom_top_images', pictures('zoom_top_images'), **TOP, zoom_size=Count(6), slow=True, loose='drawn')
add('concepts.contour_top_image', pictures('contour_top_image'), **TOP, percentiles=SHARES, cmap=given('viridis', 3,
    None, [], 'none'),
    linewidth=Number(1., above=0), slow=True, loose='drawn')

# the names of overcomplete that have arguments of their own
add('overcomplete.BatchTopKSAE', **INPUT, top_k=Count(3, optional=True), threshold_momentum=Number(.9, least=0,
    most=1 - 1e-6),
    encoder_module=ENCODER, dictionary_params=PARAMS, device=Device())
add('overcomplete.JumpSAE', **INPUT, kernel=Choice('silverman'), bandwidth=Number(.001, above=0),
    encoder_module=ENCODER,
    dictionary_params=PARAMS, device=Device())
add('overcomplete.r2_score', **PAIR, center=Choice('global'), nan='where x does not vary')
add('overcomplete.wasserstein_1d', x1=real(N, D), x2=real(N, D, seed=1))
add('overcomplete.frechet_distance', x1=real(N, D), x2=real(N + 1, D, seed=1))
for name in ('NMF', 'SemiNMF', 'ConvexNMF'):
    add(f'overcomplete.{name}', nb_concepts=Count(3), device=Device(), solver=Choice('pgd'), tol=Number(1e-4,
        least=0), verbose=Flag())

STEP = 'a step of encode, fit or evaluate, called with what they made'
LEFT_OUT = {
    'core.cache_folder': 'names a folder; the environment decides',
    'activations.digits': 'trains a network',
    'language.load_lm': 'reads a folder or the Hub',
    'vision.build_model': "builds a network of timm, whose arguments are timm's",
    'vision.image_tokens': 'reads pictures by a network',
    'sources.load_source': 'trains or reads a network',
    'stores.open_activations': 'reads files and folders; see nbs/A16_stores.ipynb',
    'scaling.Team*': 'joins processes; see nbs/44_scaling.ipynb and test_scaling.py',
    'shards.ActivationStore*': 'reads and writes folders; see nbs/A19_shards.ipynb and test_shards.py',
    'lorsa.Lorsa.hidden_in': 'called by training with a batch that is checked',
    'checkpoints.*': 'takes models and files; see the tests of files',
    'sae.EncoderFactory': 'is not made', 'sae.EncoderFactory.register_module': 'a decorator of classes',
    'sparsity.KERNELS': 'a table', 'sae.SAE.fit': 'says where training is: NotImplementedError',
    'hull.Certificate': 'an answer', 'matching.Assignment': 'an answer', 'stability.Matching': 'an answer',
    'recurrence.Recurrence': 'an answer',
    'sae.SAEOutput': 'an answer', 'concepts.Concepts': 'an answer of concepts_of',
    'metrics.ExplainedVariance': 'takes nothing',
    'family.SparseDictionary*': 'what the models of the family share; they are in the table',
    'family.FamilyLoss.parts': 'called by the training loop, with what it made',
    **dict.fromkeys((
        '*.keep', '*.keep_positive', '*.activate', '*.select', '*.share_of_all',
        '*.whole_gradient', '*.start', '*.improve', '*.project', '*.first_codes',
        '*.fold',
        '*.scale_hidden', '*.prepare', '*.goes_sparse', '*.product', '*.output', '*.as_input', '*.add'), STEP),
    '*.get_dictionary': 'takes nothing, or a word for a message',
    '*.load_state_dict': 'takes what state_dict gave',
    'factorizations.Factorization.decode': 'in the table for each method',
}


def public() -> list:
    "All public functions and classes of the library, and the public methods with arguments of these classes."
    found = []
    for where in MODULES:
        here = module(where)
        for name in vars(here).get('__all__', []):
            thing = getattr(here, name)
            if getattr(thing, '__module__', here.__name__) != here.__name__ and not isinstance(thing, dict):
                continue  # of another module, under whose name it is
            if getattr(thing, '__name__', name) != name:
                continue  # another name of something
            found.append(f'{where}.{name}')
            if inspect.isclass(thing):
                found += [f'{where}.{thing.__name__}.{method}' for method in own_methods(thing)]
    return list(dict.fromkeys(found))


def own_methods(kind: type) -> list:
    "The public methods that a class defines and that take more than the object."
    found = []
    for name, method in vars(kind).items():
        if name.startswith('_') or not callable(getattr(kind, name)) or isinstance(method, property):
            continue
        taken = list(inspect.signature(getattr(kind, name)).parameters)
        if [argument for argument in taken if argument not in ('self', 'cls')]:
            found.append(name)
    return found


def covered(name: str) -> bool:
    "Whether a public name has an entry (of its own, or one with a word behind it), or a reason to have none."
    has_entry = any(entry == name or entry.startswith(name + ' ') for entry in CASES)
    return has_entry or any(fnmatch(name, pattern) for pattern in LEFT_OUT)


def walked(only=()) -> dict:
    "What is wrong with the functions whose names begin so: name -> (argument, label, what)."
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        names = [name for name in CASES if any(name.startswith(o) for o in only or [''])]
        return {name: walk(CASES[name], folder) for name in names}


def report(found: dict):
    "Print what is wrong, alike together."
    for name, wrong in found.items():
        groups = {}
        for argument, label, said in wrong:
            groups.setdefault((argument, said[:90]), []).append(label)
        print(f'## {name}: {len(wrong)}')
        for (argument, said), labels in groups.items():
            print(f"   {argument}: {said}  <- {', '.join(labels)[:200]}")
    print(f'{sum(map(len, found.values()))} wrong')


def own_folder():
    "Let this process use the checkout beside it and a cache of its own."
    sys.path[0:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    os.environ['ARCHSAE_CACHE'] = tempfile.mkdtemp()


if __name__ == '__main__':  # table.py [--json FILE] [beginning of a name ...]
    own_folder()
    given = sys.argv[1:]
    target = given[1] if given[:1] == ['--json'] else None
    found = walked(given[2:] if target else given)
    if target:
        with open(target, 'w') as f:
            json.dump(found, f)
    else:
        report(found)
    sys.exit(any(found.values()))
