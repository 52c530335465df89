"""Files of SAELens, both ways, against `sae_lens` itself; skipped where it is not installed.

    pip install sae-lens && python -m pytest tests/test_exchange_saelens.py
"""
import importlib.util
import json
import sys
from pathlib import Path
import pytest
import torch
from archsae.checkpoints import load_saelens, save_saelens
from archsae.sae import BatchTopKSAE, JumpSAE

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT/'peers'))
import compare_saelens as compare  # noqa: E402
from saelens_cases import HOOK, READ, WRITE, plain, toy, write_case  # noqa: E402

MISSING = importlib.util.find_spec('sae_lens') is None
peer = pytest.mark.skipif(MISSING, reason="sae_lens is not installed: pip install sae-lens (extra 'peers')")
NEAR = 1e-5


@pytest.mark.parametrize('name', READ)
def test_reader_takes_what_is_represented_and_refuses_the_rest(name, tmp_path):
    ours, message = compare.our_load(write_case(tmp_path, name))
    assert (ours is None) == READ[name][2].startswith('refused'), message
    assert ours is not None or str(tmp_path) not in message and message.startswith(('cfg.json: ', 'sae_weights'))


@peer
@pytest.mark.parametrize('name', READ)
def test_a_folder_means_what_it_means_to_saelens(name, tmp_path):
    expected, row = READ[name][2], compare.compare_read(name, tmp_path)
    assert (row['sae_lens'] == 'refused') == (expected in ('refused', 'read here')), row
    if expected == 'same':
        assert max(row['codes'], row['outputs'], row['back_codes'], row['back_outputs']) < NEAR, row
        assert row['flipped'] == 0 and row['metadata'], row


@peer
@pytest.mark.parametrize('name', WRITE)
def test_saelens_does_what_our_model_does(name, tmp_path):
    row = compare.compare_write(name, tmp_path)
    assert row['sae_lens'] != 'refused'
    assert max(row['codes'], row['outputs'], row['back_codes'], row['back_outputs']) < NEAR, row
    assert row['flipped'] == 0 and row['metadata'], row


def whole(*shape, seed=0):
    "Whole numbers: sums of products are exact, and many lie on a threshold."
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


def with_whole_numbers(sae):
    "An SAE whose pre-codes are whole numbers."
    linear = sae.encoder.final_block[0]
    linear.weight.data = whole(*linear.weight.shape)
    linear.bias.data = whole(*linear.bias.shape, seed=1)
    return sae


def boundary_models():
    yield 'BatchTopKSAE', with_whole_numbers(plain(BatchTopKSAE, top_k=6)).set_threshold(3.)
    jump = with_whole_numbers(plain(JumpSAE))
    jump.thresholds.data = torch.full_like(jump.thresholds, 3.).log()
    yield 'JumpSAE', jump
    for act_fn in ('jumprelu', 'batchtopk'):
        model = toy(act_fn, gate=False)
        model.W_E.data, model.b_E.data = whole(*model.W_E.shape), whole(*model.b_E.shape, seed=1)
        act = model.activation_function
        if act_fn == 'jumprelu':
            act.log_jumprelu_threshold.data = torch.full_like(act.log_jumprelu_threshold, 3.).log()
        else:
            act.theta_inf.fill_(3.)
        yield f'family {act_fn}', model


@pytest.mark.parametrize('name, model', list(boundary_models()))
def test_codes_on_the_threshold_stay_or_go_as_they_did(name, model, tmp_path):
    save_saelens(model, tmp_path)
    x = whole(300, 16, seed=2)
    codes, _ = compare.our_answers(model, x)
    pre = x @ (model.W_E if hasattr(model, 'W_E') else model.encoder.final_block[0].weight.T)
    pre = pre + (model.b_E if hasattr(model, 'b_E') else model.encoder.final_block[0].bias)
    near = (pre - 3).abs() < .5
    assert near.sum() > 500
    again = load_saelens(tmp_path)
    assert torch.equal(again.encode(x) != 0, codes != 0)
    if not MISSING:
        assert torch.equal(compare.their_load(tmp_path).encode(x) != 0, codes != 0)


@peer
def test_a_known_factor_of_the_inputs_is_folded_as_saelens_does(tmp_path):
    theirs = compare.their_load(write_case(tmp_path, 'v4 expected_average_only_in'))
    theirs.fold_activation_norm_scaling_factor(.7)
    x = compare.inputs()
    ours = load_saelens(tmp_path, scaling_factor=.7)
    found = compare.differences(compare.our_answers(ours, x), compare.their_answers(theirs, x))
    assert max(found['codes'], found['outputs']) < NEAR


@peer
@pytest.mark.parametrize('kind', ['batchtopk', 'matryoshka_batchtopk'])
@pytest.mark.parametrize('rescales', [True, False])
def test_a_state_of_training_is_read_as_saelens_exports_it(kind, rescales, tmp_path):
    from sae_lens.registry import get_sae_training_class

    cls, config = get_sae_training_class(kind)
    more = dict(matryoshka_widths=[8, 32, 64]) if 'matryoshka' in kind else {}
    cfg = config(d_in=16, d_sae=64, k=5., rescale_acts_by_decoder_norm=rescales, **more)
    torch.manual_seed(0)
    sae = cls(cfg)
    sae.topk_threshold.fill_(.03)
    sae.cfg.metadata.hook_name = HOOK
    sae.save_model(tmp_path/'training')
    sae.save_inference_model(tmp_path/'inference')
    x = compare.inputs()
    theirs, ours = compare.their_load(tmp_path/'inference'), load_saelens(tmp_path/'training')
    found = compare.differences(compare.our_answers(ours, x), compare.their_answers(theirs, x))
    assert max(found['codes'], found['outputs']) < NEAR and found['flipped'] == 0 and found['active'] > 1


def test_committed_numbers_are_of_these_cases():
    numbers = json.loads((ROOT/'peers'/'exchange_saelens.json').read_text())
    assert [row['case'] for row in numbers['read']] == list(READ)
    assert [row['case'] for row in numbers['write']] == list(WRITE)
    rows = [row for row in numbers['read'] + numbers['write'] if 'codes' in row]
    assert len(rows) >= 80 and max(row['codes'] for row in rows) < NEAR and max(row['outputs'] for row in rows) < NEAR
