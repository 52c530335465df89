"""The same numbers as overcomplete 0.3.0 where the same is meant, and a different one where the difference is on purpose.
Needs overcomplete (`pip install overcomplete 'matplotlib<3.11'`, in an environment of its own); skipped where it is not installed."""
import pytest, torch
from sklearn.datasets import load_digits

try: import overcomplete.sae as oc, overcomplete.sae.dictionary, overcomplete.sae.jump_sae, overcomplete.sae.kernels
except Exception as e: pytest.skip(f'overcomplete cannot be imported here ({type(e).__name__}: {e})', allow_module_level=True)
import archsae.sae as ours
from archsae.core import seeded

A = torch.tensor(load_digits().data, dtype=torch.float32)
A = A - A.mean(0)
C, K = A[:60], 40

def both(name, *args, **kwargs):
    "The same model from both libraries, with the same first numbers."
    with seeded(0): mine = getattr(ours, name)(*args, **kwargs)
    theirs = getattr(oc, name)(*args, **{k: v for k, v in kwargs.items() if k not in ('k_per', 'init')})
    theirs.load_state_dict({k: v.clone() for k, v in mine.state_dict().items() if k != 'running_threshold'})
    return mine, theirs

def disturbed(sae, by=.3):
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in sae.dictionary.parameters(): p.add_(by * torch.randn(p.shape, generator=g))
    return sae

@pytest.mark.parametrize('feasible', [True, False])
@pytest.mark.parametrize('delta', [.1, 1.])
@pytest.mark.parametrize('multiplier', [True, False])
def test_dictionary_and_gradients(feasible, delta, multiplier):
    mine, theirs = both('RATopKSAE', 64, K, C, top_k=5, delta=delta, use_multiplier=multiplier)
    if not feasible: disturbed(mine), disturbed(theirs)
    G = torch.randn(K, 64, generator=torch.Generator().manual_seed(2))
    D1, D2 = mine.get_dictionary(), theirs.get_dictionary()
    torch.testing.assert_close(D1, D2, rtol=1e-6, atol=2e-5)
    (D1 * G).sum().backward(); (D2 * G).sum().backward()
    for name, p in mine.dictionary.named_parameters():
        torch.testing.assert_close(p.grad, dict(theirs.dictionary.named_parameters())[name].grad, rtol=1e-4, atol=1e-2)

def test_topk_codes():
    mine, theirs = both('TopKSAE', 64, K, top_k=5)
    for a, b in zip(mine(A), theirs(A)): torch.testing.assert_close(a, b)

def test_batchtopk_masks_and_threshold():
    mine, theirs = both('BatchTopKSAE', 64, K, top_k=500, k_per='batch')
    for x in A[:1792].split(256):
        a, b = mine(x), theirs(x)
        torch.testing.assert_close(a[1], b[1])
    torch.testing.assert_close(mine.running_threshold, theirs.running_threshold)
    torch.testing.assert_close(mine.eval()(A)[1], theirs.eval()(A)[1])

@pytest.mark.parametrize('name', ['l2', 'l1', 'max_l2', 'max_l1', 'identity'])
def test_normalizations(name):
    W = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    mine, theirs = ours.DictionaryLayer(5, 7, name, W), oc.dictionary.DictionaryLayer(5, 7, name, W)
    torch.testing.assert_close(mine.get_dictionary(), theirs.get_dictionary())

@pytest.mark.parametrize('name,kwargs', [('TopKSAE', {}), ('RATopKSAE', dict(points=C))])
def test_fifty_steps_of_adam(name, kwargs):
    mine, theirs = both(name, 64, K, top_k=5, **kwargs)
    optimizers = [torch.optim.Adam(sae.parameters(), 1e-3) for sae in (mine, theirs)]
    for x in list(A.split(36))[:50]:
        for sae, opt in zip((mine, theirs), optimizers):
            loss = (x - sae(x)[2]).square().mean(); opt.zero_grad(); loss.backward(); opt.step()
    torch.testing.assert_close(mine.get_dictionary(), theirs.get_dictionary(), rtol=1e-3, atol=1e-3)

@pytest.mark.parametrize('name,args', [('SAE', (64, K)), ('TopKSAE', (64, K)), ('BatchTopKSAE', (64, K)), ('JumpSAE', (64, K)), ('RATopKSAE', (64, K, C)), ('RAJumpSAE', (64, K, C))])
def test_states_go_both_ways(name, args):
    mine, theirs = getattr(ours, name)(*args), getattr(oc, name)(*args)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    state = {k: v for k, v in mine.state_dict().items() if k != 'running_threshold'}
    theirs.load_state_dict(state, strict=True)
    assert set(state) == set(theirs.state_dict())

# the deliberate differences

def test_delta_zero_is_finite_here():
    mine, theirs = both('RATopKSAE', 64, K, C, top_k=5, delta=0.)
    assert theirs.get_dictionary().isnan().all() and mine.get_dictionary().isfinite().all()

def test_no_zero_atoms_when_there_are_more_atoms_than_points():
    mine, theirs = ours.RATopKSAE(64, 80, C, top_k=5), oc.RATopKSAE(64, 80, C.clone(), top_k=5)
    assert (theirs.get_dictionary().norm(dim=1) == 0).sum() == 20 and (mine.get_dictionary().norm(dim=1) > 0).all()

def test_a_row_without_mass_becomes_the_mean():
    mine, theirs = both('RATopKSAE', 64, K, C, top_k=5)
    with torch.no_grad(): mine.dictionary.W[0] = -1; theirs.dictionary.W[0] = -1
    torch.testing.assert_close(mine.get_dictionary()[0], C.mean(0))
    assert (theirs.get_dictionary()[0] == 0).all()

def test_the_fused_dictionary_is_not_stale_after_loading():
    mine, theirs = both('RATopKSAE', 64, K, C, top_k=5)
    state = disturbed(ours.RATopKSAE(64, K, C, top_k=5)).state_dict()
    for sae in (mine, theirs): sae.eval(); sae.load_state_dict(state)
    want = state['dictionary.multiplier'].exp() * (state['dictionary.W'] @ C + state['dictionary.Relax'])
    torch.testing.assert_close(mine.get_dictionary(), want)
    assert (theirs.get_dictionary() - want).abs().max() > .1

def test_train_and_eval_return_the_layer():
    mine, theirs = both('RATopKSAE', 64, K, C, top_k=5)
    assert mine.dictionary.eval() is mine.dictionary and theirs.dictionary.eval() is None

def test_jump_gradient_does_not_grow_as_the_bandwidth_shrinks():
    x = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    grads = {}
    for lib in (ours, oc):
        theta = torch.tensor([.5], requires_grad=True)
        if lib is ours: lib.jump_relu(x, theta, 'rectangle', 1e-2).mean().backward()
        else: overcomplete.sae.jump_sae.JumpReLU.apply(x, theta, overcomplete.sae.kernels.rectangle_kernel, 1e-2).mean().backward()
        grads[lib.__name__] = theta.grad.item()
    truth = -.5 * torch.exp(torch.tensor(-.125)).item() / (2 * torch.pi)**.5
    assert abs(grads['archsae.sae'] - truth) < .02 and abs(grads['overcomplete.sae']) > 50 * abs(truth)
