"""The usage examples of overcomplete's documentation, after changing their import lines and nothing else but sizes and
data: the documentation uses random tensors of width 768 and 10 000 concepts; here the rows are pixels of scikit-learn's
digits, of width 64. Each example is then trained, as its page invites."""
import copy
import math
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

D, K = 64, 96

@pytest.fixture(scope='module')
def A():
    "(600, 64) pixels of digits, each feature standardised where it varies."
    from sklearn.datasets import load_digits
    X = torch.tensor(load_digits().data[:600], dtype=torch.float32)
    return (X - X.mean(0)) / X.std(0).clamp_min(1)

@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)

def criterion(x, x_hat, pre_codes, codes, dictionary):
  mse = (x - x_hat).square().mean()
  return mse

def train(sae, A, criterion=criterion, nb_epochs=8, lr=5e-3):
    "`train_sae` as in the documentation; the loss has to fall and the model has to work in evaluation."
    from archsae.overcomplete.sae import train_sae
    dataloader = DataLoader(TensorDataset(A), batch_size=100, shuffle=True, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(sae.parameters(), lr=lr)
    logs = train_sae(sae, dataloader, criterion, optimizer, nb_epochs=nb_epochs, device='cpu')
    steps = nb_epochs * len(dataloader)
    assert len(logs['avg_loss']) == nb_epochs and len(logs['step_loss']) == len(logs['lr']) == steps
    for key in ('r2', 'time_epoch', 'z_sparsity', 'dead_features'):
        assert len(logs[key]) == nb_epochs
    assert all(isinstance(v, float) and math.isfinite(v) for key in ('avg_loss', 'r2', 'z_sparsity') for v in logs[key])
    assert logs['avg_loss'][-1] < .9 * logs['avg_loss'][0]
    sae = sae.eval()
    with torch.no_grad():
        pre_codes, codes, x_hat = sae(A)
    assert pre_codes.shape == codes.shape == (len(A), sae.get_dictionary().shape[0]) and x_hat.shape == A.shape
    assert (codes >= 0).all() and x_hat.isfinite().all()
    return logs, codes

def near_the_hull(dictionary, points, delta, multiplier=True):
    "Every atom is exp(multiplier) times a convex mixture of points, plus at most delta."
    W, Relax, D = dictionary.W.detach(), dictionary.Relax.detach(), dictionary.get_dictionary().detach()
    scale = dictionary.multiplier.detach().exp()
    assert (W >= 0).all() and torch.allclose(W.sum(1), torch.ones(len(W)), atol=1e-4)
    assert Relax.norm(dim=1).max() <= delta * (1 + 1e-5)
    assert torch.allclose(D, scale * (W @ points + Relax), atol=1e-4)
    assert multiplier or scale == 1

def test_index_page(A):
    "docs/index.md, also the README."
    from archsae.overcomplete.sae import TopKSAE, train_sae

    Activations = A
    sae = TopKSAE(D, nb_concepts=K, top_k=10, device='cpu')

    dataloader = DataLoader(TensorDataset(Activations), batch_size=1024)
    optimizer = torch.optim.Adam(sae.parameters(), lr=5e-4)

    def criterion(x, x_hat, pre_codes, codes, dictionary):
      mse = (x - x_hat).square().mean()
      return mse

    logs = train_sae(sae, dataloader, criterion, optimizer,
                     nb_epochs=20, device='cpu')
    assert logs['avg_loss'][-1] < logs['avg_loss'][0]
    with torch.no_grad():
        _, codes, _ = sae(A)
    assert (codes != 0).sum(1).max() <= 10

def test_archetypal_dictionary_page(A):
    "saes/archetypal: RelaxedArchetypalDictionary swapped into a BatchTopKSAE."
    from archsae.overcomplete.sae import BatchTopKSAE
    from archsae.overcomplete.sae import RelaxedArchetypalDictionary

    # initialize any sae
    sae = BatchTopKSAE(D, K, top_k=800)  # of a batch of 100

    # assume 'points' is a tensor of candidate data points (e.g., sampled from your dataset)
    points = A[torch.randperm(len(A))[:48]]

    # create our ra-sae
    archetypal_dict = RelaxedArchetypalDictionary(
        in_dimensions=D,
        nb_concepts=K,
        points=points,
        delta=1.0,
    )

    # set the SAE's dictionary with the archetypal dictionary
    sae.dictionary = archetypal_dict
    # you can now train normally your sae
    assert sae.get_dictionary().shape == (K, D) and (sae.get_dictionary().norm(dim=1) > 0).all()
    before = sae.get_dictionary().detach().clone()
    train(sae, A)
    assert sae.dictionary is archetypal_dict and not torch.allclose(before, sae.get_dictionary())
    near_the_hull(sae.dictionary, points, 1.0)
    assert torch.equal(sae.decode(torch.eye(K)), sae.get_dictionary())

def test_archetypal_saes_page_topk(A):
    "saes/archetypal_saes: RATopKSAE."
    from archsae.overcomplete.sae import RATopKSAE

    points = A[torch.randperm(len(A))[:48]]  # e.g. k-means centroids or sampled activations

    ra_topk = RATopKSAE(
        input_shape=D,
        nb_concepts=K,
        points=points,
        top_k=8,
        delta=1.0,          # relaxation radius
        use_multiplier=True # learnable scaling of the archetypal hull
    )
    _, codes = train(ra_topk, A)
    assert (codes != 0).sum(1).max() <= 8
    near_the_hull(ra_topk.dictionary, points, 1.0)

def test_archetypal_saes_page_jump(A):
    "saes/archetypal_saes: RAJumpSAE."
    from archsae.overcomplete.sae import RAJumpSAE

    points = A[torch.randperm(len(A))[:48]]

    ra_jump = RAJumpSAE(
        input_shape=D,
        nb_concepts=K,
        points=points,
        bandwidth=1e-3,
        delta=1.5
    )
    assert ra_jump.thresholds.shape == (K,) and torch.allclose(ra_jump.thresholds, torch.tensor(-3.))
    _, codes = train(ra_jump, A)
    assert codes[codes != 0].min() >= ra_jump.thresholds.exp().min()
    near_the_hull(ra_jump.dictionary, points, 1.5)

def test_archetypal_saes_page_tips(A):
    "The page's tip: use_multiplier=False stays tighter. Other options reach the parent class."
    from archsae.overcomplete.sae import RAJumpSAE, RATopKSAE
    sae = RATopKSAE(D, K, A[:48], 8, .5, False, device='cpu')
    train(sae, A)
    near_the_hull(sae.dictionary, A[:48], .5, multiplier=False)
    assert 'dictionary.multiplier' not in dict(sae.named_parameters()) and 'dictionary.multiplier' in sae.state_dict()
    RAJumpSAE(D, K, A[:48], kernel='gaussian')

def test_batchtopk_page(A):
    "saes/batchtopk."
    from archsae.overcomplete.sae import BatchTopKSAE

    # the threshold momentum is used to estimate
    # the final threshold (when in eval)
    sae = BatchTopKSAE(D, K, top_k=1000, threshold_momentum=0.95)  # of a batch of 100
    # ... training sae
    train(sae, A)
    sae = sae.eval()
    # now top_k is no longer use and instead an
    # internal threshold is used
    assert float(sae.running_threshold) > 0
    with torch.no_grad():
        _, one = sae.encode(A[:1])
        _, all_ = sae.encode(A)
    assert torch.allclose(one, all_[:1], atol=1e-6)  # what a row's codes are does not depend on its batch

def test_dead_codes_page(A):
    "saes/dead_codes: its criterion takes four arguments."
    from archsae.overcomplete.sae import TopKSAE

    def criterion(x, x_hat, pre_codes, codes):
        # 1. Standard reconstruction loss (MSE)
        loss = (x - x_hat).square().mean()

        # 2. Identify dead codes
        # is_dead has shape [dict_size] and is 1.0 when a code never fires in the batch
        is_dead = ((codes > 0).sum(dim=0) == 0).float().detach()

        # 3. Calculate re-animation term
        # We want to maximize the pre_codes of dead atoms to push them > 0
        # Therefore, we subtract their mean value from the loss.
        reanim_loss = (pre_codes * is_dead[None, :]).mean()

        # 4. Combine
        loss -= reanim_loss * 1e-3  # Keep this factor small

        return loss

    train(TopKSAE(D, K, top_k=8), A, criterion)

def test_models_are_saved_and_loaded(A):
    "The state_dict has the keys of overcomplete's, and a model that loads it gives the same output."
    from archsae.overcomplete.sae import RATopKSAE
    sae = RATopKSAE(D, K, A[:48], top_k=8)
    train(sae, A, nb_epochs=4)
    state = copy.deepcopy(sae.state_dict())
    assert {'dictionary.W', 'dictionary.Relax', 'dictionary.multiplier', 'dictionary.C'} <= set(state)
    assert {'encoder.final_block.0.weight', 'encoder.final_block.0.bias'} <= set(state)
    other = RATopKSAE(D, K, A[100:148], top_k=8).eval()
    other.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(sae(A).x_hat, other(A).x_hat, atol=1e-5)
