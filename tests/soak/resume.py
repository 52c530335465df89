"""Trainings that are killed and go on: every class, each killed by SIGKILL at random moments, against one left alone.

    python tests/soak/resume.py [--only NAME ...] [--kills 20] [--seed 0] [--out tests/soak/resume.json]

Each kill is one of three: at the end of a random step, while a checkpoint is being written, or at a random time. The
training then goes on, in a third of the cases to be killed again, and in the end its weights, its log and its lines of
JSON have to be those of a training that nobody disturbed and that made no checkpoints.
"""
import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault('OMP_NUM_THREADS', '1')  # before torch: a process with threads cannot be forked

import numpy
import torch
from safetensors.torch import load_file, save_file

from archsae.core import seeded, stored
from archsae.crosslayer import CLTConfig, CrossLayerTranscoder, anchored_crosslayer
from archsae.family import FamilyLoss
from archsae.lorsa import Lorsa, LorsaConfig, block_decoder
from archsae.pursuit import MpSAE, OMPSAE
from archsae.runs import JSONLog
from archsae.sae import QSAE, SAE, BatchTopKSAE, JumpSAE, RABatchTopKSAE, RAJumpSAE, RATopKSAE, TopKSAE
from archsae.training import Batches, fit, fit_many, mse, mse_elastic
from archsae.transcoder import SAEConfig, Transcoder, anchored_transcoder

torch.set_num_threads(1)
D, K, ROWS, BATCH, PASSES, EVERY = 12, 24, 610, 50, 4, 5
STEPS = PASSES * -(-ROWS // BATCH)


def rows() -> torch.Tensor:
    "Mixtures of a few directions, standardised."
    g = torch.Generator().manual_seed(0)
    A = torch.rand(ROWS, 2 * D, generator=g).pow(6) @ torch.randn(2 * D, D, generator=g)
    return (A - A.mean(0)) / A.std(0)


A = rows()
POINTS = A[::15].clone()
PAIR = dict(a=A, b=A.flip(1) + .1 * A)
LAYERS = {f'in{i}': A.roll(i, 1) for i in range(3)} | {f'out{i}': A.roll(-i, 1) * (1 + i) for i in range(3)}
CONTEXTS = {'a': A[:600].view(60, 10, D), 'b': A[:600].flip(0).view(60, 10, D)}
CONTEXTS['mask'] = torch.rand(60, 10, generator=torch.Generator().manual_seed(1)) < .9


def noisy(x, x_hat, pre_codes, codes, dictionary):
    "A criterion that draws from three global generators."
    weight = 1 + .1 * (random.random() + numpy.random.rand() + torch.rand(()).item())
    return weight * mse(x + .05 * torch.randn_like(x), x_hat)


def transcoder(act_fn, **more):
    cfg = SAEConfig(d_model=D, expansion_factor=2, act_fn=act_fn, top_k=4, hook_point_in='a', hook_point_out='b',
                    **more)
    return Transcoder(cfg, decoder_uniform_bound=D**-.5)


def archetypal_transcoder(act_fn='topk', **how):
    cfg = SAEConfig(d_model=D, expansion_factor=2, act_fn=act_fn, top_k=4, hook_point_in='a', hook_point_out='b')
    return anchored_transcoder(cfg, PAIR, points=K, **how)


def crosslayer_config(act_fn):
    return CLTConfig(d_model=D, expansion_factor=2, act_fn=act_fn, top_k=4, hook_points_in=[f'in{i}' for i in range(3)],
                     hook_points_out=[f'out{i}' for i in range(3)])


def crosslayer_archetypes(**how):
    return anchored_crosslayer(crosslayer_config('topk'), LAYERS, points=K, **how)


def lorsa(act_fn='topk', decoder=None, **more):
    cfg = LorsaConfig(d_model=D, expansion_factor=2, act_fn=act_fn, top_k=4, hook_point_in='a', hook_point_out='b',
                      n_qk_heads=4, d_qk_head=6, rotary_dim=6, n_ctx=10, **more)
    return Lorsa(cfg, decoder)


def archetypal_lorsa(**how):
    return lorsa(decoder=block_decoder([POINTS[:10], POINTS[10:20], POINTS[20:30], POINTS[30:40]], K, .1, **how))


SPARSE = dict(support=6, refresh=3)
PENALTY = FamilyLoss(sparsity_loss_type='tanh', l1_coefficient=1e-3, lp_coefficient=1e-3, auxk_coefficient=.1)
POWER = FamilyLoss(sparsity_loss_type='power', l1_coefficient=1e-2)
TRAININGS = {  # name -> what makes the model, its data, arguments of fit
    'SAE': (lambda: SAE(D, K), A, {}),
    'SAE, elastic': (lambda: SAE(D, K), A, dict(criterion=mse_elastic, lr=3e-3)),
    'TopKSAE': (lambda: TopKSAE(D, K, 3), A, {}),
    'TopKSAE, falling k': (lambda: TopKSAE(D, K, 3), A, dict(initial_k=12, k_warmup=.6)),
    'TopKSAE, steps': (lambda: TopKSAE(D, K, 3), A, dict(steps=STEPS)),
    'TopKSAE, noise from three generators': (lambda: TopKSAE(D, K, 3), A, dict(criterion=noisy)),
    'TopKSAE, MLP with batch norm': (lambda: TopKSAE(D, K, 3, encoder_module='mlp_bn_3'), A, {}),
    'TopKSAE, tied': (lambda: TopKSAE(D, K, 3).tied(bias=True), A, {}),
    'TopKSAE, untied': (lambda: TopKSAE(D, K, 3).untied(), A, {}),
    'TopKSAE, free norms': (lambda: TopKSAE(D, K, 3, dictionary_params=dict(normalization='max_l2')), A, {}),
    'BatchTopKSAE': (lambda: BatchTopKSAE(D, K, 3), A, {}),
    'JumpSAE': (lambda: JumpSAE(D, K, bandwidth=.1), A, {}),
    'QSAE': (lambda: QSAE(D, K), A, {}),
    'MpSAE, dropout': (lambda: MpSAE(D, K, 3, dropout=.2), A, {}),
    'OMPSAE': (lambda: OMPSAE(D, K, 3), A, {}),
    'RATopKSAE': (lambda: RATopKSAE(D, K, POINTS, 3), A, {}),
    'RATopKSAE, delta 0': (lambda: RATopKSAE(D, K, POINTS, 3, delta=0.), A, {}),
    'RATopKSAE, delta of the data': (lambda: RATopKSAE(D, K, POINTS, 3, delta=.1, delta_unit='data'), A, {}),
    'RATopKSAE, tangent': (lambda: RATopKSAE(D, K, POINTS, 3, rule='tangent', delta=.2), A, {}),
    'RATopKSAE, projection': (lambda: RATopKSAE(D, K, POINTS, 3, rule='projection', delta=.2), A, {}),
    'RATopKSAE, moving supports': (lambda: RATopKSAE(D, K, POINTS, 3, init='near', **SPARSE), A, dict(lr=1e-2)),
    'RATopKSAE, moving supports, tangent': (
        lambda: RATopKSAE(D, K, POINTS, 3, delta=0., rule='tangent', init='random', **SPARSE), A, dict(lr=1e-2)),
    'RABatchTopKSAE': (lambda: RABatchTopKSAE(D, K, POINTS, 3), A, dict(steps=STEPS)),
    'RAJumpSAE': (lambda: RAJumpSAE(D, K, POINTS, bandwidth=.1), A, {}),
    'RATopKSAE, on disk': (lambda: RATopKSAE(D, K, POINTS, 3), 'disk', {}),
    'TopKSAE, on disk, steps': (lambda: TopKSAE(D, K, 3), 'disk', dict(steps=STEPS)),
    'Transcoder, relu': (lambda: transcoder('relu'), PAIR, dict(criterion=POWER)),
    'Transcoder, topk': (lambda: transcoder('topk'), PAIR, dict(initial_k=12, k_warmup=.6)),
    'Transcoder, batchtopk': (lambda: transcoder('batchtopk'), PAIR, {}),
    'Transcoder, jumprelu': (lambda: transcoder('jumprelu'), PAIR, dict(criterion=PENALTY, lr_threshold=1e-2)),
    'Transcoder, gated': (lambda: transcoder('topk', use_glu_encoder=True, norm_activation='token-wise'), PAIR, {}),
    'Transcoder, archetypal': (lambda: archetypal_transcoder(delta=.1), PAIR, {}),
    'Transcoder, archetypal, moving supports': (
        lambda: archetypal_transcoder('batchtopk', rule='tangent', init='near', **SPARSE), PAIR, dict(lr=1e-2)),
    'CrossLayerTranscoder, topk': (lambda: CrossLayerTranscoder(crosslayer_config('topk')), LAYERS, {}),
    'CrossLayerTranscoder, batchlayertopk': (
        lambda: CrossLayerTranscoder(crosslayer_config('batchlayertopk')), LAYERS, dict(initial_k=12, k_warmup=.6)),
    'CrossLayerTranscoder, jumprelu': (
        lambda: CrossLayerTranscoder(crosslayer_config('jumprelu')), LAYERS, dict(criterion=PENALTY)),
    'CrossArchetypes': (lambda: crosslayer_archetypes(), LAYERS, {}),
    'CrossArchetypes, delta and gains': (
        lambda: crosslayer_archetypes(delta=.1, gain=True, rule='projection'), LAYERS, dict(steps=STEPS)),
    'Lorsa': (lambda: lorsa(), CONTEXTS, dict(batch_size=5)),
    'Lorsa, batchtopk, normalised': (
        lambda: lorsa('batchtopk', use_post_qk_ln=True, normalization_type='RMS'), CONTEXTS, dict(batch_size=5)),
    'Lorsa, archetypal': (lambda: archetypal_lorsa(), CONTEXTS, dict(batch_size=5)),
    'Lorsa, archetypal, moving supports': (
        lambda: archetypal_lorsa(init='near', **SPARSE), CONTEXTS, dict(batch_size=5, lr=1e-2)),
    'fit_many': (None, A, dict(lr=3e-3)),
}


def models_of(name: str) -> list:
    "The models of a training, always with the same first weights."
    with seeded(4):
        if name != 'fit_many':
            return [TRAININGS[name][0]()]
        return [TopKSAE(D, K, 3), RATopKSAE(D, K, POINTS, 3), RATopKSAE(D, K, POINTS, 3, init='near', **SPARSE),
                BatchTopKSAE(D, K, 3), JumpSAE(D, K, bandwidth=.1)]


class Killer:
    "Kills its own process, the way and at the time that it is told."

    def __init__(self, how: str, when: float, folder: Path):
        self.how, self.when, self.folder = how, when, folder

    def on_start(self, info):
        if self.how == 'time':
            threading.Thread(target=self.wait, daemon=True).start()
        if self.how == 'writing':
            threading.Thread(target=self.watch, args=(info['step'] + self.when,), daemon=True).start()

    def on_step(self, step, numbers):
        self.step = step
        if self.how == 'step' and step >= self.when:
            os.kill(os.getpid(), signal.SIGKILL)

    step = 0

    def wait(self):
        time.sleep(self.when)
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, after):
        "While a checkpoint is being written, somewhere within it."
        while True:
            if self.step >= after and any(self.folder.glob('.step-*.part')):
                time.sleep(random.SystemRandom().random() * 2e-3)
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(1e-5)


def train(name: str, out: Path, folder: Path | None = None, callbacks=()):
    "One training; its weights and log go to `out`."
    _, data, arguments = TRAININGS[name]
    if isinstance(data, str):
        data = stored(lambda start: A[start:].split(100), ROWS, D, 'soak')
        Batches.run, Batches.pool = 10, 4 * D * 10 * 17  # 17 runs of 10 rows in a pool
    models = models_of(name)
    for seed in (torch.manual_seed, random.seed, numpy.random.seed):
        seed(7)
    arguments = dict(batch_size=BATCH, progress=False, device='cpu') | arguments
    if 'steps' not in arguments:
        arguments['epochs'] = PASSES
    lines = JSONLog(out/'lines.jsonl') if folder is None else None
    beside = dict(checkpoint=folder, every=EVERY, resume=True) if folder is not None else {}
    beside['callbacks'] = [*callbacks, *([lines] if lines else [])]
    if name == 'fit_many':
        logs = fit_many(models, data, **arguments, **beside)
    else:
        logs = [fit(models[0], data, **arguments, **beside)]
    weights = {f'{i}.{key}': v.clone() for i, model in enumerate(models) for key, v in model.state_dict().items()}
    save_file({name: v.contiguous() for name, v in weights.items()}, out/'weights.safetensors')
    found = [{key: v for key, v in log.items() if key != 'seconds'} for log in logs]
    (out/'log.json').write_text(json.dumps(found))
    if folder is not None:
        shutil.copy(folder/'log.jsonl', out/'lines.jsonl')


def in_a_process(*arguments, **named) -> int:
    "`train` in a process of its own; its exit status, negative for a signal."
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            warnings.simplefilter('ignore')
            train(*arguments, **named)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lines_of(path: Path) -> list:
    "What a log says, without the clock and without what is told at the start."
    found = [json.loads(line) for line in path.read_text().splitlines()]
    keep = [line for line in found if line['event'] in ('step', 'epoch')]
    return [{key: v for key, v in line.items() if not key.endswith('seconds')} for line in keep]


def compare(a: Path, b: Path) -> dict:
    "How far the results of two trainings are apart."
    x, y = load_file(a/'weights.safetensors'), load_file(b/'weights.safetensors')
    assert list(x) == list(y)
    differences = [0.]
    for name, v in x.items():
        if not torch.equal(v, y[name]) and not (v.isnan() & y[name].isnan()).all():
            differences.append((v.double() - y[name].double()).abs().max().item())
    log_a, log_b = (json.loads((folder/'log.json').read_text()) for folder in (a, b))
    return dict(difference=max(differences), same_bits=len(differences) == 1, same_log=log_a == log_b,
                same_lines=lines_of(a/'lines.jsonl') == lines_of(b/'lines.jsonl'))


def draw_kill(rng: random.Random, seconds: float) -> tuple:
    "A way to be killed, and when."
    how = rng.choice(('step', 'step', 'writing', 'time'))
    when = dict(step=rng.randrange(1, STEPS), writing=rng.randrange(0, STEPS // 2), time=rng.uniform(0, seconds))
    return how, when[how]


def killed_once(name: str, alone: Path, seconds: float, rng: random.Random, work: Path) -> dict:
    "One training that is killed, once or more, and goes on to its end."
    folder, out = work/'run', work/'out'
    out.mkdir()
    kills = []
    more = 1 if rng.random() < 2 / 3 else rng.choice((2, 3))
    for _ in range(more):
        how, when = draw_kill(rng, seconds)
        status = in_a_process(name, out, folder, [Killer(how, when, folder)])
        if status not in (0, -signal.SIGKILL):
            raise RuntimeError(f'{name}: exit status {status}')
        if status:
            kills.append(how)
    status = in_a_process(name, out, folder)
    if status:
        raise RuntimeError(f'{name}: exit status {status} when it went on')
    return compare(alone, out) | dict(kills=kills)


def killed(name: str, kills: int, seed: int) -> dict:
    "A class, killed at least so many times."
    rng = random.Random(f'{name} {seed}')
    in_memory = Path('/dev/shm')
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None) as t:
        os.environ['ARCHSAE_CACHE'] = str(Path(t)/'cache')
        alone = Path(t)/'alone'
        alone.mkdir()
        train(name, alone)  # here: what torch does once in a process, its copies need not do again
        start = time.time()
        train(name, alone)
        seconds, found, done = time.time() - start, [], 0
        while done < kills:
            work = Path(t)/f'{len(found)}'
            work.mkdir()
            found.append(killed_once(name, alone, seconds, rng, work))
            done += len(found[-1]['kills'])
            shutil.rmtree(work)
    ways = [how for one in found for how in one['kills']]
    return dict(
        name=name, kills=done, trainings=len(found),
        at_steps=ways.count('step'), while_writing=ways.count('writing'), at_times=ways.count('time'),
        largest_difference=max(one['difference'] for one in found),
        same=all(one['same_bits'] and one['same_log'] and one['same_lines'] for one in found),
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument('--only', nargs='*', help='names of trainings; all where not given')
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', default=str(ROOT/'tests/soak/resume.json'))
    given = parser.parse_args()
    warnings.simplefilter('ignore')
    names = given.only or list(TRAININGS)
    found, start = [], time.time()
    for name in names:
        found.append(killed(name, given.kills, given.seed))
        print(found[-1], flush=True)
    result = dict(
        what='trainings killed by SIGKILL that went on, against the same ones left alone: weights, log and lines',
        classes=len(found), kills=sum(row['kills'] for row in found),
        largest_difference=max(row['largest_difference'] for row in found), same=all(row['same'] for row in found),
        steps=STEPS, every=EVERY, seed=given.seed, minutes=round((time.time() - start) / 60, 1),
        versions=dict(torch=torch.__version__, python=platform.python_version()), device='cpu', rows=found,
    )
    Path(given.out).write_text(json.dumps(result, indent=1) + '\n')
    return 0 if result['same'] else 1


if __name__ == '__main__':
    sys.exit(main())
