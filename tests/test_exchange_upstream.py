"""Files of Language-Model-SAEs, both ways, against its own code; skipped where it is not installed.

It is not on PyPI: clone github.com/OpenMOSS/Language-Model-SAEs, `pip install` it, and run
`python -m pytest tests/test_exchange_upstream.py`.
"""
import importlib.util
import json
import sys
from pathlib import Path
import pytest
import torch
from archsae.checkpoints import load_dictionary, save_upstream

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT/'peers'))
import compare_upstream as compare  # noqa: E402

MISSING = importlib.util.find_spec('llamascopium') is None
NEAR = 1e-5


@pytest.mark.skipif(MISSING, reason='Language-Model-SAEs (llamascopium) is not installed')
@pytest.mark.parametrize('name', compare.CASES)
def test_their_strict_loading_takes_what_we_write(name, tmp_path):
    row = compare.compare(name, tmp_path)
    assert max(row['latents'], row['outputs'], row['back_latents'], row['back_outputs']) < NEAR, row
    assert row['flipped'] == 0 and .98 <= row.get('calibrated', 1) <= 1.02, row


@pytest.mark.parametrize('name', compare.CASES)
def test_we_read_what_we_write_for_them(name, tmp_path):
    model, data = compare.CASES[name](), compare.batch(flat=name.startswith('clt'))
    again = load_dictionary(save_upstream(model, tmp_path), batch_selection=model.cfg.batch_selection)
    for got, want in zip(compare.our_answers(again, data), compare.our_answers(model, data)):
        assert compare.apart(got, want) < NEAR
        assert torch.equal(got != 0, want != 0)


def test_committed_numbers_are_of_these_cases():
    rows = json.loads((ROOT/'peers'/'exchange_upstream.json').read_text())['rows']
    assert [row['case'] for row in rows] == list(compare.CASES)
    assert max(max(row['latents'], row['outputs']) for row in rows) < NEAR
