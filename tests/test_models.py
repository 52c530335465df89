"""What holds for every model of the package alike, whatever chapter it comes from.

It goes through pickles, processes and states; validation in inference mode spoils nothing; slow numbers learn in half
precision; a penalty counts contributions; budgets and configurations that are changed count."""
import copy
import io
import pickle
import numpy as np
import pytest
import torch
from torch import multiprocessing
from archsae.amortised import AmortisedSAE
from archsae.core import from_config, seeded
from archsae.crosslayer import CLTConfig, CrossArchetypes, CrossLayerTranscoder
from archsae.family import FamilyLoss, archetypal_decoder
from archsae.lorsa import Lorsa, LorsaConfig, block_decoder
from archsae.pursuit import MpSAE, OMPSAE
from archsae.sae import QSAE, SAE, BatchTopKSAE, JumpSAE, RABatchTopKSAE, RAJumpSAE, RATopKSAE, TopKSAE
from archsae.transcoder import SAEConfig, Transcoder

G = torch.Generator().manual_seed(0)
A = torch.randn(40, 8, generator=G)
COMMON = dict(d_model=8, expansion_factor=2, top_k=3, norm_activation='inference')
HOOKS = dict(hook_point_in='a', hook_point_out='b')


def transcoder(act='topk', archetypal=False, **options):
    cfg = SAEConfig(act_fn=act, **COMMON | HOOKS | options)
    return Transcoder(cfg, archetypal_decoder(A[:10], 16, .3) if archetypal else None)


def crosslayer(act='topk', archetypal=False, **options):
    cfg = CLTConfig(act_fn=act, hook_points_in=['a', 'c'], hook_points_out=['b', 'd'], **COMMON | options)
    points = torch.stack([A[:10], A[10:20]])
    return CrossLayerTranscoder(cfg, CrossArchetypes(points, 16, .3, gain=True) if archetypal else None)


def lorsa(act='topk', archetypal=False, **options):
    cfg = LorsaConfig(act_fn=act, n_qk_heads=2, d_qk_head=4, rotary_dim=4, n_ctx=12, **COMMON | HOOKS | options)
    return Lorsa(cfg, block_decoder([A[:6], A[6:12]], 16, .3) if archetypal else None)


def trained(model):
    "With no parameter at its first value, and a threshold where one is needed."
    g = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.data += .05 * torch.randn(p.shape, generator=g)
    return model


MODELS = {
    'SAE': lambda: SAE(8, 16), 'TopK': lambda: TopKSAE(8, 16, 3), 'tied': lambda: TopKSAE(8, 16, 3).tied(),
    'BatchTopK': lambda: BatchTopKSAE(8, 16, 3).set_threshold(.1), 'Jump': lambda: JumpSAE(8, 16),
    'Q': lambda: QSAE(8, 16), 'RATopK': lambda: RATopKSAE(8, 16, A[:10], 3, .3),
    'local': lambda: RATopKSAE(8, 16, A[:10], 3, .3, support=4, init='near'),
    'projection': lambda: RATopKSAE(8, 16, A[:10], 3, .3, rule='projection'),
    'RABatchTopK': lambda: RABatchTopKSAE(8, 16, A[:10], 3, .3).set_threshold(.1),
    'RAJump': lambda: RAJumpSAE(8, 16, A[:10], delta=.3),
    'Mp': lambda: MpSAE(8, 16, 3), 'OMP': lambda: OMPSAE(8, 16, 3),
    'amortised': lambda: AmortisedSAE(8, 16, 3),
    'transcoder': transcoder, 'transcoder jump': lambda: transcoder('jumprelu', True),
    'transcoder batch': lambda: transcoder('batchtopk', True), 'CLT': crosslayer,
    'CLT jump': lambda: crosslayer('jumprelu', True), 'CLT layers': lambda: crosslayer('batchlayertopk', True),
    'Lorsa': lorsa, 'Lorsa jump': lambda: lorsa('jumprelu', True),
}


def make(name):
    with seeded(0):
        return trained(MODELS[name]())


def inputs(model):
    "Activations as the model reads them."
    if isinstance(model, CrossLayerTranscoder):
        return A.view(20, 2, 8)
    return A.view(4, 10, 8) if isinstance(model, Lorsa) else A


def written(model, x=None):
    out = model(inputs(model) if x is None else x)
    return getattr(out, 'x_hat', out)


def step(model):
    "What is written after a step of training."
    optimizer = torch.optim.Adam(model.train().parameters(), 1e-2)
    written(model).square().mean().backward()
    optimizer.step()
    return written(model.eval()).detach()


def through_torch_save(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


def through_state(model):
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    twin = from_config(model.config)
    twin.load_state_dict(torch.load(buffer, weights_only=True))
    return twin


def after_validation(model):
    written(model)
    with torch.inference_mode():
        if getattr(model, 'running_threshold', None) is None and not hasattr(model, 'activation_function'):
            written(model.eval())
        else:
            written(model.train())
            written(model.eval())
    return model.train()


@pytest.mark.parametrize('name', MODELS)
def test_every_way_round(name):
    want = step(make(name))
    for route in (copy.deepcopy, through_torch_save, through_pickle, through_state):
        assert torch.equal(step(route(make(name))), want), route.__name__
    with torch.inference_mode():
        born = make(name)
    assert torch.equal(step(born), want)
    assert step(after_validation(make(name))).isfinite().all()


def answer(models, queue):
    queue.put([written(model).detach().numpy() for model in models])


def test_they_go_into_a_process_that_is_spawned():
    context = multiprocessing.get_context('spawn')
    queue, models = context.Queue(), [make(name).eval() for name in ('RATopK', 'tied', 'local', 'CLT jump', 'Lorsa')]
    process = context.Process(target=answer, args=(models, queue))
    process.start()
    got = queue.get(timeout=120)
    process.join()
    for there, model in zip(got, models):
        np.testing.assert_allclose(there, written(model).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize('name', MODELS)
def test_activations_of_any_precision(name):
    model = make(name).eval()
    if model.__class__ is not BatchTopKSAE and 'batch' in getattr(getattr(model, 'cfg', None), 'act_fn', ''):
        written(model.train())
        model.eval()
    x = inputs(model).half().float()
    want = written(model, x)
    apart = x.repeat_interleave(2, -1)[..., ::2]
    for other in (x.half(), x.double(), x.numpy(), x.double().numpy(), x.flip(0).numpy()[::-1], apart):
        torch.testing.assert_close(written(model, other), want)
    with pytest.raises(ValueError, match='real numbers'):
        written(model, x.long())


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('half', [torch.bfloat16, torch.float16])
def test_slow_numbers_keep_float32(name, half):
    model = make(name).to(half)
    slow = [getattr(m, n) for m in model.modules() for n in getattr(m, 'slow', ()) if getattr(m, n, None) is not None]
    assert all(v.dtype == torch.float32 for v in slow)
    assert all(v.dtype in (half, torch.float32) for v in model.state_dict().values() if v.is_floating_point())
    y = written(model.train(), inputs(model).to(half))
    assert y.dtype == half and y.isfinite().all()
    y.float().square().mean().backward()
    assert all(p.grad is None or p.grad.dtype == p.dtype for p in model.parameters())


def thresholds_moved(model, dtype):
    model, x = model.to(dtype), inputs(model).to(dtype)
    theta = model.thresholds if isinstance(model, JumpSAE) else model.activation_function.log_jumprelu_threshold
    before, optimizer = theta.detach().clone(), torch.optim.SGD([theta], 1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        codes = model(x).codes if isinstance(model, JumpSAE) else model.encode(x)
        codes.float().sum(-1).mean().backward()
        optimizer.step()
    return (theta.detach() - before).abs().mean().item()


@pytest.mark.parametrize('make_one', [
    lambda: JumpSAE(8, 16, bandwidth=.5), lambda: RAJumpSAE(8, 16, A[:10], bandwidth=.5),
    lambda: transcoder('jumprelu'), lambda: transcoder('jumprelu', True), lambda: crosslayer('jumprelu'),
    lambda: crosslayer('jumprelu', True), lambda: lorsa('jumprelu')])
def test_thresholds_learn_in_bfloat16(make_one):
    def moved(dtype):
        with seeded(0):
            return thresholds_moved(make_one(), dtype)
    assert moved(torch.float32) > 1e-6
    assert moved(torch.bfloat16) == pytest.approx(moved(torch.float32), rel=.1)


def stretched(model, by):
    "The same function with atoms `by` times as long, for relu, whatever the gate."
    with torch.no_grad():
        if isinstance(model, CrossLayerTranscoder):
            for block in model.decoder.blocks:
                block *= by
        else:
            model.decoder._weights *= by
        model.scale_hidden(torch.full_like(model.b_V if isinstance(model, Lorsa) else model.b_E, 1 / by))
        if model.cfg.act_fn == 'jumprelu' and not model.cfg.sparsity_include_decoder_norm:
            model.activation_function.log_jumprelu_threshold -= torch.tensor(by).log()
    return model


@pytest.mark.parametrize('kind', [transcoder, crosslayer, lorsa])
@pytest.mark.parametrize('gate', [True, False])
@pytest.mark.parametrize('criterion', [
    FamilyLoss('power'), FamilyLoss('tanh'), FamilyLoss('tanh-quad', frequency_scale=.1),
    FamilyLoss(lp_coefficient=1.)])
def test_a_penalty_counts_contributions(kind, gate, criterion):
    act = 'jumprelu' if criterion.lp_coefficient else 'relu'
    part = 'pre_activation' if criterion.lp_coefficient else 'sparsity'
    x = A.view(4, 10, 8)
    batch = dict.fromkeys('abcd', x)
    costs = []
    for by in (1., 10.):
        with seeded(0):
            model = stretched(kind(act, sparsity_include_decoder_norm=gate), by)
        costs.append(model.losses(batch, criterion=criterion)[part].item())
    assert costs[0] > 0 and costs[1] == pytest.approx(costs[0], rel=1e-4)


@pytest.mark.parametrize('kind', [transcoder, crosslayer, lorsa])
def test_what_is_changed_in_a_family_model_counts(kind):
    model = kind()
    x = inputs(model)

    def most():
        return int((model.encode(x) != 0).sum(-1).max())
    assert most() == 3
    model.current_k = 1
    assert most() == 1
    model.top_k = 2
    assert most() == 2 and model.cfg.top_k == 2 and model.config['cfg']['top_k'] == 2
    model.cfg.top_k = 4
    assert most() == 4
    with pytest.raises(ValueError, match='top_k'):
        model.top_k = 99


@pytest.mark.parametrize('kind', [transcoder, crosslayer, lorsa])
def test_a_state_of_another_configuration_is_refused(kind):
    for mine, other, word in (
            (kind(), kind(top_k=4), 'top_k'), (kind(), kind('batchtopk'), 'act_fn'),
            (kind('jumprelu'), kind('jumprelu', jumprelu_threshold_window=1.), 'jumprelu_threshold_window'),
            (kind('relu'), kind('relu', sparsity_include_decoder_norm=False), 'sparsity_include_decoder_norm')):
        with pytest.raises(RuntimeError, match=f'{word}: expected'):
            other.load_state_dict(mine.state_dict())
        other.load_state_dict(dict(mine.state_dict()), strict=False)  # the numbers alone
    kind('relu', top_k=5).load_state_dict(kind('relu').state_dict())  # what does not matter need not agree


@pytest.mark.parametrize('kind', [transcoder, crosslayer, lorsa])
def test_norms_of_the_data_come_with_a_state(kind):
    options = dict(norm_activation='dataset-wise')
    x = A.view(4, 10, 8)
    model = kind('relu', **options)
    model.set_dataset_norms(dict.fromkeys('abcd', x))
    twin = type(model)(model.cfg)
    twin.load_state_dict(model.state_dict())
    assert twin.dataset_average_activation_norm == model.dataset_average_activation_norm
    with torch.inference_mode():
        model.standardize_parameters_of_dataset_norm()
    batch = dict.fromkeys('abcd', x)
    model.losses(batch)['total'].backward()  # the gate that was frozen there can be trained with


@pytest.mark.parametrize('kind', [MpSAE, OMPSAE])
def test_the_steps_of_a_pursuit_are_its_budget(kind):
    sae = kind(8, 16, 3)
    sae.current_k = 1
    assert sae.k == sae.current_k == int((sae(A).codes != 0).sum(1).max()) == 1
    with pytest.raises(ValueError, match='current_k: expected'):
        sae.current_k = 0
