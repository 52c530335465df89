"""Compiled loops: with them and without them the same answers, wherever they are called.

What the loops themselves compute is tested in nbs/A20_compiled.ipynb, 07_codes, 09_pursuit and 38_amortised."""
import multiprocessing
import os
import subprocess
import sys
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from archsae import compiled
from archsae.amortised import AmortisedSAE
from archsae.codes import LOOPS, loops_for, top_m
from archsae.core import seeded
from archsae.pursuit import OMPSAE, matching_pursuit, orthogonal_pursuit
from archsae.sae import TopKSAE

pytestmark = pytest.mark.skipif(compiled.njit is None, reason="numba is not installed: pip install 'archsae[fast]'")


def tokens_and_atoms():
    "Enough of them for the loops to be worth while."
    with seeded(0):
        D = F.normalize(torch.randn(600, 24))
        return torch.randn(2000, 24) + D[torch.randint(600, (2000,))], D


def answers() -> list:
    "Dense codes of everything that may run in loops, and the largest numbers of rows."
    x, D = tokens_and_atoms()
    found = [f(x, D, 6, positive=p)[0].dense() for f in (orthogonal_pursuit, matching_pursuit) for p in (True, False)]
    for kind in (OMPSAE, AmortisedSAE):
        found.append(kind(24, 600, k=6, dictionary_params=dict(initializer=D)).eval()(x).codes.detach())
    with seeded(1):
        sae, wide = TopKSAE(24, 1024, top_k=16).eval(), torch.randn(1100, 24)
    return [*found, sae(wide).codes.detach(), sae.sparse(wide).codes.dense().detach()]


def test_with_loops_and_without_the_answers_are_the_same(monkeypatch):
    assert loops_for('cpu')
    with_loops = answers()
    monkeypatch.setattr(compiled, 'njit', None)
    assert not loops_for('cpu')
    for a, b in zip(with_loops, answers()):
        same = ((a != 0) == (b != 0)).all(1)  # but for draws
        assert same.float().mean() > .99
        torch.testing.assert_close(a[same], b[same], rtol=1e-3, atol=1e-4)


def test_the_loops_are_what_was_called(monkeypatch):
    called = []

    def noting(name, f):
        def noted(*args, **options):
            called.append(name)
            return f(*args, **options)
        return noted
    for name in ('largest', 'pursuit_by_products'):
        monkeypatch.setattr(compiled, name, noting(name, getattr(compiled, name)))
    answers()
    assert called.count('pursuit_by_products') >= 6 and called.count('largest') >= 1


def test_numba_told_not_to_compile_is_as_if_it_were_not_there():
    code = "from archsae.codes import loops_for; from archsae import compiled; assert not loops_for('cpu')"
    env = os.environ | dict(NUMBA_DISABLE_JIT='1')
    assert subprocess.run([sys.executable, '-c', code], env=env).returncode == 0


def test_importing_the_package_does_not_import_numba():
    code = "import sys; import archsae, archsae.pursuit, archsae.amortised; assert 'numba' not in sys.modules"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_code_that_cannot_be_kept_is_made_all_the_same():
    found = dict(__name__='nowhere')
    exec('def twice(x):\n    return 2 * x[0]', found)  # in no file
    assert compiled.compiled(found['twice'])(np.ones(3)) == 2


def in_a_child(H, answer):
    answer.put([t.tolist() for t in top_m(H, 5)])


def test_loops_run_in_a_process_that_was_forked():
    H = torch.arange(float(LOOPS + 1024)).view(-1, 1024).flip(0)
    here = top_m(H, 5)
    fork = multiprocessing.get_context('fork')
    answer = fork.Queue()
    child = fork.Process(target=in_a_child, args=(H, answer))
    child.start()
    values, index = answer.get(timeout=60)
    child.join(60)
    assert values == here[0].tolist() and index == here[1].tolist() and child.exitcode == 0


def test_a_number_that_is_none_is_not_overlooked():
    "As with torch: a pre-code that is nan is among the largest, so that a training sees it."
    H = torch.randn(LOOPS // 1024 + 1, 1024)
    H[3, 7] = torch.nan
    assert 7 in top_m(H, 4)[1][3]
