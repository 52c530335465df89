"""The same numbers as overcomplete 0.3.0 where the same is meant, and a different one where that is on purpose.
Needs overcomplete (`pip install overcomplete 'matplotlib<3.11'`, in an environment of its own); skipped where it is not
installed."""
import pytest
import torch
from sklearn.datasets import load_digits

try:
    import overcomplete.metrics
    import overcomplete.optimization
    import overcomplete.sae as theirs
    import overcomplete.sae.dictionary
    import overcomplete.sae.jump_sae
    import overcomplete.sae.kernels
    import overcomplete.sae.losses
    import overcomplete.sae.modules
except Exception as e:
    why = f'overcomplete cannot be imported here ({type(e).__name__}: {e})'
    pytest.skip(why, allow_module_level=True)
import archsae.overcomplete.metrics
import archsae.overcomplete.optimization
import archsae.overcomplete.sae as ours
import archsae.overcomplete.sae.kernels
import archsae.overcomplete.sae.losses
import archsae.overcomplete.sae.modules
import archsae.sae
from archsae.core import seeded

A = torch.tensor(load_digits().data, dtype=torch.float32)
A = A - A.mean(0)
C, K = A[:60], 40
OWN = ('running_threshold',)  # in a saved state here only


def both(name, *args, **kwargs):
    "The same model from both libraries, with the same first numbers."
    with seeded(0):
        mine = getattr(ours, name)(*args, **kwargs)
    other = getattr(theirs, name)(*args, **kwargs)
    other.load_state_dict({key: v.clone() for key, v in mine.state_dict().items() if key not in OWN})
    return mine, other


def disturbed(sae, by=.3):
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in sae.dictionary.parameters():
            p.add_(by * torch.randn(p.shape, generator=g))
    return sae


@pytest.mark.parametrize('feasible', [True, False])
@pytest.mark.parametrize('delta', [.1, 1.])
@pytest.mark.parametrize('multiplier', [True, False])
def test_dictionary_and_gradients(feasible, delta, multiplier):
    mine, other = both('RATopKSAE', 64, K, C, top_k=5, delta=delta, use_multiplier=multiplier)
    if not feasible:
        disturbed(mine)
        disturbed(other)
    G = torch.randn(K, 64, generator=torch.Generator().manual_seed(2))
    D1, D2 = mine.get_dictionary(), other.get_dictionary()
    torch.testing.assert_close(D1, D2, rtol=1e-6, atol=2e-5)
    (D1 * G).sum().backward()
    (D2 * G).sum().backward()
    gradients = {name: p.grad for name, p in other.dictionary.named_parameters()}
    for name, p in mine.dictionary.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize('name,kwargs', [
    ('SAE', {}),
    ('TopKSAE', dict(top_k=5)),
    ('JumpSAE', {}),
    ('QSAE', dict(q=3)),
    ('QSAE', dict(q=3, hard=True)),
    ('TopKSAE', dict(top_k=5, encoder_module='mlp_ln_3')),
    ('TopKSAE', dict(top_k=5, encoder_module='mlp_bn_1')),
])
def test_answers(name, kwargs):
    mine, other = both(name, 64, K, **kwargs)
    for a, b in zip(mine(A), other(A)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_answers_of_tied_encoders():
    mine, other = both('TopKSAE', 64, K, top_k=5)
    for a, b in zip(mine.tied()(A), other.tied()(A)):
        torch.testing.assert_close(a, b)


def encoders(name, shape):
    "Both with the same weights."
    mine, other = (getattr(module, name)(shape, K, nb_blocks=2).eval() for module in (ours, theirs))
    other.load_state_dict(mine.state_dict(), strict=True)
    return mine, other


def test_encoder_of_feature_maps():
    mine, other = encoders('ResNetEncoder', (64, 3, 3))
    x = torch.randn(4, 64, 3, 3)
    torch.testing.assert_close(mine(x)[0], other(x)[0], rtol=1e-4, atol=1e-5)


def test_batchtopk_masks_and_threshold():
    mine, other = both('BatchTopKSAE', 64, K, top_k=500)
    for x in A[:1792].split(256):
        torch.testing.assert_close(mine(x)[1], other(x)[1])
    torch.testing.assert_close(mine.running_threshold, other.running_threshold)
    torch.testing.assert_close(mine.eval()(A)[1], other.eval()(A)[1])


def test_matching_pursuit_where_all_correlations_are_positive():
    positive = dict(initializer=torch.rand(K, 64, generator=torch.Generator().manual_seed(3)))
    x = torch.tensor(load_digits().data[:200], dtype=torch.float32)
    mine, other = both('MpSAE', 64, K, k=1, dictionary_params=positive)
    for a, b in zip(mine(x), other(x)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_orthogonal_pursuit_leaves_no_more():
    mine, other = both('OMPSAE', 64, K, k=5, max_iter=500)
    assert mine(A[:200])[0].norm() < 1.001 * other(A[:200])[0].norm()


@pytest.mark.parametrize('name', ['l2', 'l1', 'max_l2', 'max_l1', 'identity'])
def test_normalizations(name):
    W = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    mine, other = (module.DictionaryLayer(5, 7, name, W.clone()) for module in (ours, theirs))
    torch.testing.assert_close(mine.get_dictionary(), other.get_dictionary())


@pytest.mark.parametrize('name,kwargs', [('TopKSAE', {}), ('RATopKSAE', dict(points=C))])
def test_fifty_steps_of_adam(name, kwargs):
    mine, other = both(name, 64, K, top_k=5, **kwargs)
    optimizers = [torch.optim.Adam(sae.parameters(), 1e-3) for sae in (mine, other)]
    for x in A.split(36)[:50]:
        for sae, opt in zip((mine, other), optimizers):
            loss = (x - sae(x)[2]).square().mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
    torch.testing.assert_close(mine.get_dictionary(), other.get_dictionary(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('name', ['SAE', 'TopKSAE', 'BatchTopKSAE', 'JumpSAE', 'QSAE', 'MpSAE', 'OMPSAE', 'RATopKSAE',
                                  'RAJumpSAE'])
def test_states_go_both_ways(name):
    points = (C,) if name.startswith('RA') else ()
    mine, other = (getattr(module, name)(64, K, *points) for module in (ours, theirs))
    mine.load_state_dict(other.state_dict(), strict=True)
    state = {key: v for key, v in mine.state_dict().items() if key not in OWN}
    other.load_state_dict(state, strict=True)
    assert set(state) == set(other.state_dict())


METRICS = dict(
    l0=(A,), l1=(A,), l2=(A,), lp=(A[:5],), l0_eps=(A,), l1_l2_ratio=(A[:9],), kappa_4=(A[:9],), hoyer=(A[:9],),
    avg_l1_loss=(A, A / 2), avg_l2_loss=(A, A / 2), relative_avg_l1_loss=(A, A / 2), relative_avg_l2_loss=(A, A / 2),
    r2_score=(A, A / 2), dead_codes=(A.relu(),), hungarian_loss=(A[:9], A[20:29]),
    cosine_hungarian_loss=(A[:9], A[20:29]), wasserstein_1d=(A[:90], A[90:180]),
    frechet_distance=(A[:900, 20:30], A[890:1790, 20:30]), energy_of_codes=(A.relu(), torch.eye(64)),
)


@pytest.mark.parametrize('name', METRICS)
def test_metrics(name):
    mine, other = (getattr(module.metrics, name)(*METRICS[name]) for module in (archsae.overcomplete, overcomplete))
    torch.testing.assert_close(torch.as_tensor(mine).float(), torch.as_tensor(other).float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', ['mse_l1', 'mse_hoyer', 'mse_kappa_4', 'mse_elastic', 'top_k_auxiliary_loss',
                                  'reanimation_regularizer'])
def test_losses(name):
    g = torch.Generator().manual_seed(0)
    x, x_hat = torch.randn(20, 8, generator=g), torch.randn(20, 8, generator=g)
    pre, D = torch.randn(20, 12, generator=g), torch.randn(12, 8, generator=g)
    pre[:, 3] = -1
    pair = (getattr(module.sae.losses, name) for module in (archsae.overcomplete, overcomplete))
    mine, other = (loss(x, x_hat, pre, pre.relu(), D) for loss in pair)
    torch.testing.assert_close(mine, other)


def test_nonnegative_least_squares():
    g = torch.Generator().manual_seed(0)
    D, X = torch.randn(9, 5, 8, generator=g), torch.randn(9, 8, generator=g)
    modules = archsae.overcomplete.optimization, overcomplete.optimization
    mine, other = (module.batched_matrix_nnls(D, X, 2000, 1e-7) for module in modules)
    torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-4)


# the deliberate differences

def test_delta_zero_is_finite_here():
    mine, other = both('RATopKSAE', 64, K, C, top_k=5, delta=0.)
    assert other.get_dictionary().isnan().all()
    assert mine.get_dictionary().isfinite().all()


def test_no_zero_atoms_when_there_are_more_atoms_than_points():
    mine, other = ours.RATopKSAE(64, 80, C, top_k=5), theirs.RATopKSAE(64, 80, C.clone(), top_k=5)
    assert (other.get_dictionary().norm(dim=1) == 0).sum() == 20
    assert (mine.get_dictionary().norm(dim=1) > 0).all()


def test_a_row_without_mass_becomes_the_mean():
    mine, other = both('RATopKSAE', 64, K, C, top_k=5)
    with torch.no_grad():
        mine.dictionary.W[0] = -1
        other.dictionary.W[0] = -1
    torch.testing.assert_close(mine.get_dictionary()[0], C.mean(0))
    assert (other.get_dictionary()[0] == 0).all()


def test_the_fused_dictionary_is_not_stale_after_loading():
    mine, other = both('RATopKSAE', 64, K, C, top_k=5)
    state = disturbed(ours.RATopKSAE(64, K, C, top_k=5)).state_dict()
    for sae in (mine, other):
        sae.eval()
        sae.load_state_dict(state)
    want = state['dictionary.multiplier'].exp() * (state['dictionary.W'] @ C + state['dictionary.Relax'])
    torch.testing.assert_close(mine.get_dictionary(), want)
    assert (other.get_dictionary() - want).abs().max() > .1


def test_train_and_eval_return_the_layer():
    mine, other = both('RATopKSAE', 64, K, C, top_k=5)
    assert mine.dictionary.eval() is mine.dictionary
    assert other.dictionary.eval() is None


def test_attention_is_among_the_tokens_of_an_input():
    "There it is among the inputs of a batch: a sequence alone sees nothing of itself, and with others it sees them."
    mine, other = encoders('AttentionEncoder', (9, 64))
    x = torch.randn(3, 9, 64, generator=torch.Generator().manual_seed(0))
    alone = [encoder(x[:1])[0] for encoder in (mine, other)]
    torch.testing.assert_close(mine(x)[0][:9], alone[0], rtol=1e-4, atol=1e-4)
    assert (other(x)[0][:9] - alone[1]).abs().max() > .01


def test_dropout_comes_back_after_evaluation():
    mine, other = both('MpSAE', 64, K, k=2, dropout=.5)
    for sae in (mine, other):
        sae.eval()
        sae.train()
    assert mine.dropout == .5
    assert other.dropout is None


def test_pursuit_takes_no_atom_that_points_away():
    mine, other = both('MpSAE', 64, 2, k=1, dictionary_params=dict(initializer=torch.eye(2, 64)))
    x = -torch.ones(1, 64)
    assert mine(x)[1].max() == 0 == mine(x)[1].min()
    assert other(x)[1].min() < 0


def test_budget_of_the_library_is_for_a_token():
    mine = archsae.sae.BatchTopKSAE(64, K, top_k=5)
    other = theirs.BatchTopKSAE(64, K, top_k=5)
    assert (mine(A)[1] != 0).sum() == 5 * len(A)
    assert (other(A)[1] != 0).sum() == 5


def test_jump_gradient_does_not_grow_as_the_bandwidth_shrinks():
    x = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    thresholds = [torch.tensor([.5], requires_grad=True) for _ in range(2)]
    mine, other = (module.sae.kernels.rectangle_kernel for module in (archsae.overcomplete, overcomplete))
    ours.jump_relu(x, thresholds[0], mine, 1e-2).mean().backward()
    theirs.jump_relu(x, thresholds[1], other, 1e-2).mean().backward()
    truth = -.5 * torch.exp(torch.tensor(-.125)).item() / (2 * torch.pi)**.5
    assert abs(thresholds[0].grad.item() - truth) < .02
    assert abs(thresholds[1].grad.item()) > 50 * abs(truth)
