"A model of every kind of the package, trained a little or at least shaken, with raw activations for it."
import torch
from torch import nn
import archsae
from archsae import amortised, factorizations, hull, overcomplete, pursuit, sae
from archsae.crosslayer import CLTConfig, CrossArchetypes, CrossLayerTranscoder
from archsae.family import ACT_FNS, archetypal_decoder
from archsae.lorsa import Lorsa, LorsaConfig, block_decoder
from archsae.relaxation import RelaxedArchetypalDictionary
from archsae.transcoder import SAEConfig, Transcoder

D, K, P = 8, 12, 20


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


RAW = 100 + 5 * draw(60, D)
C = draw(P, D, seed=1)


def saes():
    yield 'SAE', sae.SAE(D, K)
    yield 'SAE l1', sae.SAE(D, K, dictionary_params=dict(normalization='max_l1', use_multiplier=True))
    yield 'TopKSAE', sae.TopKSAE(D, K, top_k=3)
    yield 'BatchTopKSAE', sae.BatchTopKSAE(D, K, top_k=3).set_threshold(.3)
    yield 'BatchTopKSAE per batch', sae.BatchTopKSAE(D, K, top_k=30, threshold_momentum=.5, k_per='batch')
    yield 'JumpSAE', sae.JumpSAE(D, K, kernel='rectangle', bandwidth=.1)
    yield 'QSAE', sae.QSAE(D, K, q=3, hard=True)
    yield 'RATopKSAE', sae.RATopKSAE(D, K, C, top_k=3, delta=.3)
    yield 'A-SAE', sae.RATopKSAE(D, K, C, top_k=3, delta=0., use_multiplier=False, rule='projection')
    yield 'RABatchTopKSAE', sae.RABatchTopKSAE(D, K, C, top_k=3, delta=.1, delta_unit='data', support=4, refresh=7)
    yield 'RAJumpSAE', sae.RAJumpSAE(D, K, C, rule='tangent', init='random')
    yield 'MpSAE', pursuit.MpSAE(D, K, k=3, dropout=.1)
    yield 'OMPSAE', pursuit.OMPSAE(D, K, k=3, max_iter=20)
    yield 'AmortisedSAE', amortised.AmortisedSAE(D, K, k=3, refits=2)
    yield 'tied', sae.TopKSAE(D, K, top_k=3).tied()
    yield 'tied, archetypal', sae.RATopKSAE(D, K, C, top_k=3).tied(bias=True)
    yield 'untied', sae.TopKSAE(D, K, top_k=3).untied(bias=True)
    yield 'overcomplete BatchTopKSAE', overcomplete.BatchTopKSAE(D, K, top_k=30)
    for name in sae.EncoderFactory.list_modules():
        shape = (D, 3, 3) if name.startswith('resnet') else (4, D) if name.startswith('attention') else D
        if name != 'identity':
            yield f'encoder {name}', sae.TopKSAE(shape, K, top_k=3, encoder_module=name)
    own = sae.MLPEncoder(D, K, hidden_dim=10, nb_blocks=3, hidden_activation=nn.GELU, residual=True)
    yield 'encoder of its own', sae.BatchTopKSAE(D, K, top_k=3, encoder_module=own)


def dictionaries():
    yield 'DictionaryLayer', sae.DictionaryLayer(D, K)
    yield 'RelaxedArchetypalDictionary', RelaxedArchetypalDictionary(D, K, C, delta=.2, support=5)
    yield 'ArchetypalDictionary', hull.ArchetypalDictionary(C, K)


def family():
    common = dict(d_model=D, expansion_factor=2, top_k=3)
    for act_fn in (a for a in ACT_FNS if 'layer' not in a):
        cfg = SAEConfig(**common, act_fn=act_fn, hook_point_in='in', hook_point_out='out')
        yield f'Transcoder {act_fn}', Transcoder(cfg)
    cfg = SAEConfig(**common, act_fn='topk', hook_point_in='in', use_glu_encoder=True, use_decoder_bias=False)
    yield 'Transcoder, archetypal', Transcoder(cfg, archetypal_decoder(C, 2 * D, .2, support=4))
    places = dict(hook_points_in=['in0', 'in1'], hook_points_out=['out0', 'out1'])
    for act_fn in ACT_FNS:
        cfg = CLTConfig(**common, **places, act_fn=act_fn)
        yield f'CrossLayerTranscoder {act_fn}', CrossLayerTranscoder(cfg)
    for delta, gain in ((0., False), (.1, True)):
        mixed = CrossArchetypes(draw(2, P, D, seed=3), 2 * D, delta, gain, rule='projection' if gain else 'retraction')
        yield f'CrossLayerTranscoder, archetypal {delta}', CrossLayerTranscoder(CLTConfig(**common, **places), mixed)
    heads = dict(hook_point_in='in', hook_point_out='out', n_qk_heads=4, d_qk_head=4, rotary_dim=4, n_ctx=16)
    yield 'Lorsa', Lorsa(LorsaConfig(**common, **heads, act_fn='topk'))
    normal = dict(use_post_qk_ln=True, normalization_type='RMS', use_NTK_by_parts_rope=True)
    blocks = block_decoder([C, C + 1], 2 * D, .1)
    yield 'Lorsa, archetypal', Lorsa(LorsaConfig(**common, **heads, **normal, act_fn='jumprelu'), blocks)


FACTORIZATIONS = ('SkPCA', 'SkSVD', 'SkICA', 'SkNMF', 'SkSparsePCA', 'SkDictionaryLearning', 'SkKMeans', 'SemiNMF',
                  'NMF', 'ConvexNMF', 'ArchetypalAnalysis')


def factorisations():
    for name in FACTORIZATIONS:
        yield name, getattr(factorizations, name)(4)
        if hasattr(overcomplete, name):
            yield f'overcomplete {name}', getattr(overcomplete, name)(4)
    yield 'ConvexNMF of points', factorizations.ConvexNMF(4, points=C.abs())
    yield 'NMF anls', factorizations.NMF(4, solver='anls', init='furthest')


def shaken(model, seed=5):
    "The model with other numbers than it starts with."
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(.05 * draw(*p.shape, seed=seed + i).to(p))
        for name, b in model.named_buffers():
            if name.endswith(('theta_inf', 'running_threshold')):
                b.fill_(.2)
    return model


def raw_for(model):
    "Raw activations that the model takes."
    if hasattr(model, 'places'):
        x = RAW[:48].view(3, 16, D)
        return {place: x + i for i, place in enumerate(model.places)}
    shape = getattr(model, 'input_shape', D)
    if isinstance(shape, int):
        return RAW
    return RAW[:36].view(4, 9, D).movedim(2, 1).reshape(4, D, 3, 3) if len(shape) == 3 else RAW[:60].view(15, 4, D)


def codes_of(model, raw):
    "What a model makes of raw activations; a dictionary shows its atoms."
    if isinstance(model, factorizations.Factorization):
        scaled = model.from_raw(raw)
        return model.encode(scaled.abs() if model.nonnegative else scaled)
    if not hasattr(model, 'encode'):
        return model.get_dictionary().detach()
    with torch.no_grad():
        scaled = model.from_raw(raw)
        if isinstance(scaled, dict):
            x, y = model.prepare(scaled)
            return torch.cat([model.encode(x).flatten(), model(x).flatten()])
        answer = model(scaled)
        return torch.cat([answer.codes.flatten(), answer.x_hat.flatten()])


def finished(model):
    "A model ready to be saved: trained or shaken, told its standardisation, in evaluation mode."
    mean, std = RAW.mean(0), RAW.std(0)
    places = getattr(model, 'places', None)
    several = places is not None and len(places) > 1
    if isinstance(model, factorizations.Factorization):
        model.set_standardisation(mean, std)
        scaled = model.from_raw(RAW)
        model.fit(scaled.abs() if model.nonnegative else scaled)
        return model.eval()
    model.set_standardisation(*((dict.fromkeys(places, v) for v in (mean, std)) if several else (mean, std)))
    return shaken(model).eval()


def zoo():
    "Name -> model."
    with archsae.seeded(0):
        for some in (saes, dictionaries, family, factorisations):
            for name, model in some():
                yield name, finished(model)
