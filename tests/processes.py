"""What tests/test_scaling.py starts in several processes, by `torchrun processes.py TASK LATENTS FOLDER`"""
import json
import os
import signal
import sys
import warnings
from functools import partial
from pathlib import Path

import torch

from archsae.core import seeded
from archsae.sae import BatchTopKSAE, JumpSAE, RABatchTopKSAE, RAJumpSAE, RATopKSAE, TopKSAE
from archsae.scaling import PartRun, Team
from archsae.training import evaluate, fit

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
D, K = 24, 48


def data():
    "1003 rows (no number of processes divides them) of 12 far groups, in which some atoms die."
    g = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(12, D, generator=g)
    A = centres[torch.randint(12, (1003,), generator=g)] + torch.randn(1003, D, generator=g)
    return (A - A.mean(0)) / A.std(0)


A = data()
C = A[:40].clone()
RELAXED = dict(delta_unit='data', delta=.3)
MODELS = {
    'TopK': lambda: TopKSAE(D, K, 4),
    'BatchTopK': lambda: BatchTopKSAE(D, K, 4),
    'JumpReLU': lambda: JumpSAE(D, K, bandwidth=.1),
    'RA-TopK': lambda: RATopKSAE(D, K, C, 4, **RELAXED),
    'RA-BatchTopK': lambda: RABatchTopKSAE(D, K, C, 4, **RELAXED, support=8, refresh=5),
    'RA-JumpReLU': lambda: RAJumpSAE(D, K, C, bandwidth=.1, **RELAXED),
    'TopK, tied': lambda: TopKSAE(D, K, 4).tied(),
    'TopK, dense codes': lambda: TopKSAE(D, K, 8),
    'BatchTopK, dense codes': lambda: BatchTopKSAE(D, K, 8),
}
HOW = dict(batch_size=100, dead_after=150, progress=False, device='cpu', lr=1e-2)


def make(name):
    with seeded(0):
        return MODELS[name]()


def largest_difference(a, b) -> float:
    "Between two models, or two lists of numbers."
    if isinstance(a, list):
        return max(abs(x - y) for x, y in zip(a, b, strict=True))
    a, b = a.state_dict(), b.state_dict()
    assert list(a) == list(b)
    return max((a[name] - b[name]).abs().max().item() for name in a)


def same(team, folder):
    "Each kind trained as a whole and in parts: how far weights, logs and scores are apart."
    found = {}
    for name in MODELS:
        whole, without = make(name), make(name)
        log = fit(whole, A, 3, **HOW)
        no_auxk = fit(without, A, 3, **HOW, auxk_weight=0.)
        part = team.share(make(name))
        log_of_parts = fit(part, A, 3, **HOW)
        back = team.gather(part)
        scores, scores_of_parts = evaluate(whole, A), evaluate(part, A)
        lists = ('loss', 'r2', 'l0', 'dead', 'step_loss', 'step_l0', 'lr')
        found[name] = dict(
            weights=largest_difference(whole, back),
            log=max(largest_difference(log[n], log_of_parts[n]) for n in lists),
            scores=max(abs(scores[n] - scores_of_parts[n]) for n in ('r2', 'mse', 'l0', 'dead')),
            alive=torch.equal(scores['alive'], scores_of_parts['alive']),
            auxk=largest_difference(log['step_loss'], no_auxk['step_loss']),
            atoms_here=len(part.get_dictionary()),
            record=back.record['metrics'] == part.record['metrics'],
        )
    return found


def signalled(team, at: int, number: int, flag: Path | None = None):
    "What makes a run that sends its own process a signal after a step; once, if there is a flag to raise."

    class Signalled(PartRun):
        def follow(self, *args):
            super().follow(*args)
            if self.guard.step == at and not (flag and flag.exists()):
                if flag:
                    flag.touch()
                os.kill(os.getpid(), number)

    return partial(Signalled, team=team)


def train(team, folder):
    "A training with checkpoints, which the last process does not survive the first time where the folder says so."
    part = team.share(make('RA-BatchTopK'))
    if (folder/'kill').exists() and team.world.index == team.world.size - 1:
        part.crew.run = signalled(team, 17, signal.SIGKILL, folder/'killed')
    log = fit(part, A, 3, **HOW, checkpoint=folder/'run', every=5, resume=True)
    whole = make('RA-BatchTopK')
    wanted = fit(whole, A, 3, **HOW)
    return dict(weights=largest_difference(whole, team.gather(part)),
                log=largest_difference(wanted['step_loss'], log['step_loss']),
                r2=largest_difference(wanted['r2'], log['r2']), dead=largest_difference(wanted['dead'], log['dead']))


def half(team, folder):
    "The first half of the same training: Ctrl-C in the last process."
    part = team.share(make('RA-BatchTopK'))
    if team.world.index == team.world.size - 1:
        part.crew.run = signalled(team, 14, signal.SIGINT)
    log = fit(part, A, 3, **HOW, checkpoint=folder/'run', every=100)
    return dict(interrupted=log['interrupted'], steps=len(log['step_loss']))


def sums(team, folder):
    "What the pursuit dictionary and k-means make of rows that lie in several processes."
    from archsae.distillation import kmeans_blocks
    from archsae.scaling import sums_of_all
    from archsae.stable import code_sums, stable_dictionary

    rows = A.float()
    own = rows[team.world.share(len(rows))]
    D = torch.nn.functional.normalize(A[:K])
    whole = code_sums(A, D, 4)
    parts = sums_of_all(code_sums(A[team.world.share(len(A))], D, 4), team.world)
    alone, stable = stable_dictionary(rows, K, 4, progress=False), team.stable_dictionary(own, K, 4)
    store = team.write(folder/'store', own.split(100))
    points, points_of_parts = kmeans_blocks(rows, 30, 1), team.distil(own, 30, 1)
    return dict(
        sums=max((a - b).abs().max().item() for a, b in zip(whole, parts)),
        atoms=(alone.get_dictionary() - stable.get_dictionary()).abs().max().item(),
        parents=alone.record['parent'] == stable.record['parent'],
        points=(points - points_of_parts).abs().max().item(),
        store=torch.equal(store[:], rows) and not list((folder/'store').glob('part-*')),
        same_everywhere=all(torch.equal(other, points_of_parts) for other in team.world.gather(points_of_parts)),
    )


def from_store(team, folder):
    "Each kind trained on a store as a whole and in parts, and how much of the store this process read for it."
    from archsae.shards import ActivationStore

    if team.first:
        with ActivationStore.writer(folder/'rows', shard_bytes=2**16) as writer:
            writer.add(A.float().repeat(1, 8))  # rows of 768 bytes, of which a page has five
    team.wait()
    store = ActivationStore(folder/'rows', buffer=2**18, run=8).standardised()
    fetched, found = [], {}

    def counted(self, which, *how):
        if sys._getframe(1).f_code.co_name == '__next__':  # and no look at some rows before the training
            fetched.append(which)
        return read(self, which, *how)

    def pages():
        "Pages of the files that the rows begin or end in, of those fetched in the first pass."
        rows, size = torch.cat(fetched[:len(fetched) // 3]), store.shape[1] * 4
        return sorted({p for i in rows.tolist() for p in (i * size // 4096, ((i + 1) * size - 1) // 4096)})

    def new(name):
        with seeded(0):
            make = dict(TopK=lambda: TopKSAE(8 * D, K, 4),
                        RABatchTopK=lambda: RABatchTopKSAE(8 * D, K, C.repeat(1, 8), 4, **RELAXED))
            return make[name]()
    for name in ('TopK', 'RABatchTopK')[:2 if team.latents.size == 1 else 1]:
        whole, part = new(name), team.share(new(name))
        read, ActivationStore.read = ActivationStore.read, counted
        try:
            log = fit(whole, store, 3, **HOW)
            rows, seen = sum(map(len, fetched)), len(pages())
            fetched.clear()
            log_of_parts = fit(part, store, 3, **HOW)
            own, own_pages = sum(map(len, fetched)), pages()
            largest = max(map(len, fetched))
        finally:
            ActivationStore.read = read
        once = torch.cat(fetched[:len(fetched) // 3])
        fetched.clear()
        here = torch.zeros(len(store), dtype=torch.long).index_add(0, once, torch.ones_like(once))
        mine = torch.zeros(1 + len(store) * store.shape[1] * 4 // 4096).index_fill(0, torch.tensor(own_pages), 1.)
        found[name] = dict(
            weights=largest_difference(whole, team.gather(part)),
            log=max(largest_difference(log[n], log_of_parts[n]) for n in ('step_loss', 'r2', 'l0', 'dead')),
            rows=rows, own=[int(n) for n in team.data.gather(torch.tensor(own))], largest=largest,
            once=bool((team.data.sum(here) == 1).all()), pages=seen,
            own_pages=[int(n.sum()) for n in team.data.gather(mine)],
        )
    return found


if __name__ == '__main__':
    warnings.simplefilter('ignore')
    signal.signal(signal.SIGINT, signal.default_int_handler)
    task, latents, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    team = Team(latents, 'cpu')
    answer = globals()[task](team, folder)
    if team.first:
        (folder/'answer.json').write_text(json.dumps(answer))
