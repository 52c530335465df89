"Trainings that are killed, interrupted, out of disk or on bad rows: real processes, real signals, a real small disk."
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from archsae.activations import Activations
from archsae.core import mapped, seeded
from archsae.family import FamilyLoss
from archsae.runs import Callback, Checkpoints, JSONLog, TensorBoardLog, WandbLog
from archsae.sae import BatchTopKSAE, JumpSAE, RATopKSAE, TopKSAE
from archsae.training import evaluate, fit, fit_many, mse
from archsae.transcoder import SAEConfig, Transcoder

ROOT = Path(__file__).resolve().parent.parent
D, K = 8, 16


def rows(n=400) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    A = torch.rand(n, 2 * D, generator=g).pow(4) @ torch.randn(2 * D, D, generator=g)
    return (A - A.mean(0)) / A.std(0)


A = rows()


def model(kind=RATopKSAE, **how):
    with seeded(1):
        return kind(D, K, A[::10].clone(), 3, **how) if kind is RATopKSAE else kind(D, K, **how)


def trained(sae, data=A, **how):
    "A short training, with its warnings."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        log = fit(sae, data, **dict(epochs=4, batch_size=50, progress=False, device='cpu') | how)
    return log, [str(w.message) for w in caught]


def without_clock(log) -> dict:
    return {name: values for name, values in log.items() if name != 'seconds'}


def same_weights(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


class Stop(Exception):
    pass


class StopsAt:
    "Stops a training by an exception after some step, or does something else there."

    def __init__(self, step, then=None):
        self.step, self.then = step, then

    def on_step(self, step, numbers):
        if step == self.step and self.then is not None:
            self.then()
        elif step == self.step:
            raise Stop


def stopped(folder, at=21, **how):
    "A training that came to a step, in a folder with checkpoints."
    sae = model(**how)
    with pytest.raises(Stop):
        trained(sae, checkpoint=folder, every=5, callbacks=StopsAt(at))
    return sae


def test_killed_trainings_go_on_to_the_last_bit(tmp_path):
    "Few classes and kills here; all of them twenty times in `make soak`."
    out = tmp_path/'out.json'
    names = ['RATopKSAE, moving supports', 'TopKSAE, noise from three generators', 'Transcoder, batchtopk',
             'RATopKSAE, on disk', 'fit_many']
    command = [sys.executable, ROOT/'tests/soak/resume.py', '--kills', '1', '--out', out, '--only', *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found['same'] and found['largest_difference'] == 0 and found['kills'] >= len(names)


CHILD = """
import json, signal, sys, time, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with Ctrl-C ignored
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
import test_runs as t
from archsae.training import fit, mse


def slow(x, x_hat, pre_codes, codes):
    slow.step += 1
    time.sleep(SLEEP(slow.step))
    return mse(x, x_hat)


slow.step = 0
sae = t.model()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    log = fit(sae, t.A, 4, 50, criterion=slow, progress=False, device='cpu', checkpoint={folder!r}, every=7)
print(json.dumps(dict(log=log, training=sae.training, warnings=[str(w.message) for w in caught])))
"""


def child(folder, sleep: str):
    "A process that trains slowly."
    source = CHILD.format(root=str(ROOT), tests=str(ROOT/'tests'), folder=str(folder))
    source = source.replace('SLEEP', f'(lambda i: {sleep})')
    return subprocess.Popen([sys.executable, '-c', source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_steps(process, folder, count):
    "Until the training came to a step."
    log, until = Path(folder)/'log.jsonl', time.time() + 300
    while not (log.exists() and sum('"step", ' in line for line in log.open()) >= count):
        assert process.poll() is None, process.communicate()[1]
        assert time.time() < until, 'the training did not begin'
        time.sleep(.01)


def slow(x, x_hat, pre_codes, codes):
    "The same loss under the same name, without a pause."
    return mse(x, x_hat)


def test_ctrl_c_saves_and_returns_the_log(tmp_path):
    process = child(tmp_path/'run', '.05')
    wait_for_steps(process, tmp_path/'run', 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found = json.loads(out)
    step, = found['log']['interrupted']
    assert len(found['log']['step_loss']) == len(found['log']['lr']) == step < 32 and len(found['log']['r2']) >= 1
    assert not found['training']
    saved = tmp_path/'run'/f'step-{step:08d}'
    told = [message for message in found['warnings'] if 'Ctrl-C' in message]
    assert len(told) == 1 and str(saved) in told[0] and 'resume=True' in told[0]
    assert saved.is_dir()

    # and it goes on, to what a training that nobody stopped comes to
    sae, whole = model(), model()
    log, messages = trained(sae, criterion=slow, checkpoint=tmp_path/'run', every=7, resume=True)
    assert any(f'goes on after step {step} of 32' in message for message in messages)
    wanted, _ = trained(whole, criterion=slow)
    assert same_weights(sae, whole) and without_clock(log) == without_clock(wanted)


class PressesCtrlC(Callback):
    "Sends the signal when a step is told of, which is after it was decided whether the step makes a checkpoint."

    def on_step(self, step, numbers):
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_between_two_looks_is_saved_too(tmp_path):
    sae, whole = model(), model()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _, messages = trained(sae, checkpoint=tmp_path, every=7, callbacks=PressesCtrlC())
    finally:
        signal.signal(signal.SIGINT, before)
    saved = tmp_path/'step-00000003'
    assert saved.is_dir() and any('Ctrl-C after step 3' in told and str(saved) in told for told in messages)
    trained(sae, checkpoint=tmp_path, every=7, resume=True)
    trained(whole)
    assert same_weights(sae, whole)


def test_a_second_ctrl_c_is_raised_at_once(tmp_path):
    process = child(tmp_path/'run', '0 if i < 10 else 120')
    wait_for_steps(process, tmp_path/'run', 9)
    start = time.time()
    for _ in range(2):
        time.sleep(.5)
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and 'KeyboardInterrupt' in err and time.time() - start < 60
    assert [p.name for p in Checkpoints(tmp_path/'run', 7).paths()] == ['step-00000007']


def test_ctrl_c_without_a_folder_returns_the_log():
    interrupt = StopsAt(9, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sae = model()
        log, messages = trained(sae, callbacks=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert log['interrupted'] == [9] and len(log['step_loss']) == 9 and not sae.training
    assert sum('Ctrl-C' in message for message in messages) == 1


@pytest.fixture
def small_disk(tmp_path):
    "Mounts a disk of so many kilobytes; a real one."
    places = []

    def mount(kilobytes):
        place = tmp_path/f'disk{len(places)}'
        place.mkdir()
        done = subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={kilobytes}k', 'tmpfs', place], capture_output=True)
        if done.returncode:
            pytest.skip(f'a small disk cannot be mounted here: {done.stderr.decode().strip()}')
        places.append(place)
        return place
    yield mount
    for place in places:
        subprocess.run(['umount', '-l', place])


def test_a_disk_that_is_too_small_is_seen_before_the_first_step(small_disk):
    disk = small_disk(64)
    with pytest.raises(OSError, match='MB of free disk') as e:
        trained(model(), checkpoint=disk/'run')
    assert str(disk/'run') in str(e.value)


def test_a_disk_that_fills_up_keeps_the_last_good_state(small_disk):
    disk = small_disk(2000)
    filler = disk/'filler'

    def fill():
        with open(filler, 'wb', buffering=0) as f:
            try:
                while f.write(bytes(4096)):
                    pass
            except OSError:
                pass

    sae = model()
    with pytest.raises(OSError) as e:
        trained(sae, checkpoint=disk/'run', every=5, callbacks=StopsAt(11, fill))
    assert str(disk/'run') in str(e.value) and 'step-00000015' in str(e.value)
    assert f'the last good checkpoint is {disk/"run"/"step-00000010"}' in str(e.value) or 'log.jsonl' in str(e.value)
    assert len(e.value.log['step_loss']) >= 11 and not sae.training
    assert not list((disk/'run').glob('.step-*'))  # what was begun takes no room

    filler.unlink()
    sae, whole = model(), model()
    log, _ = trained(sae, checkpoint=disk/'run', every=5, resume=True)
    wanted, _ = trained(whole)
    assert same_weights(sae, whole) and without_clock(log) == without_clock(wanted)


def test_a_read_only_folder_is_an_error_that_names_it(small_disk):
    disk = small_disk(2000)
    stopped(disk/'run')
    assert subprocess.run(['mount', '-o', 'remount,ro', disk]).returncode == 0
    with pytest.raises(OSError, match='checkpoint: expected a folder that can be written to') as e:
        trained(model(), checkpoint=disk/'run', every=5, resume=True)
    assert str(disk/'run') in str(e.value) and 'step-00000020' in str(e.value)
    with pytest.raises(OSError, match='JSONLog: .* cannot be written') as e:
        trained(model(), callbacks=JSONLog(disk/'log.jsonl'))
    assert str(disk/'log.jsonl') in str(e.value)


@pytest.mark.parametrize('harm', ['a flipped bit', 'a shorter file', 'no file', 'another list'])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_used(tmp_path, harm):
    stopped(tmp_path)
    newest = tmp_path/'step-00000020'
    tensors = newest/'tensors.safetensors'
    raw = bytearray(tensors.read_bytes())
    if harm == 'a flipped bit':
        raw[len(raw) // 2] ^= 4
        tensors.write_bytes(raw)
    elif harm == 'a shorter file':
        tensors.write_bytes(raw[:-100])
    elif harm == 'no file':
        (newest/'state.json').unlink()
    else:
        (newest/'list.json').write_text('{"format": 1, "files": {}}')
    sae, whole = model(), model()
    log, messages = trained(sae, checkpoint=tmp_path, every=5, resume=True)
    told = [message for message in messages if 'is damaged' in message]
    assert len(told) == 1 and str(newest) in told[0]
    assert any('goes on after step 15' in message for message in messages)
    assert len(list(tmp_path.glob('damaged-step-00000020-*'))) == 1
    wanted, _ = trained(whole)
    assert same_weights(sae, whole) and without_clock(log) == without_clock(wanted)


def test_another_training_is_refused_by_the_name_of_what_differs(tmp_path):
    stopped(tmp_path)
    before = sorted(tmp_path.iterdir())
    other = {
        'lr': dict(lr=1e-3),
        'epochs': dict(epochs=5),
        'batch_size': dict(batch_size=40),
        'seed': dict(seed=1),
        'criterion': dict(criterion=slow),
        'clip_grad': dict(clip_grad=.5),
    }
    for name, changes in other.items():
        with pytest.raises(ValueError, match=f'resume: expected the training that .*{name} was'):
            trained(model(), checkpoint=tmp_path, every=5, resume=True, **changes)
    moved = A.clone()
    moved[200, 3] += 1e-6
    for data in (moved, A[:-1], A.double()):
        with pytest.raises(ValueError, match='resume: expected the training .*data'):
            trained(model(), data, checkpoint=tmp_path, every=5, resume=True)
    for sae in (model(delta=.5), model(rule='tangent'), model(TopKSAE, top_k=3), RATopKSAE(D, K, A[1::10].clone(), 3)):
        with pytest.raises(ValueError, match='resume: expected the training .*models'):
            trained(sae, checkpoint=tmp_path, every=5, resume=True)
    with pytest.raises(ValueError, match='checkpoint: expected a folder without checkpoints; .*resume=True'):
        trained(model(), checkpoint=tmp_path, every=5)
    assert sorted(tmp_path.iterdir()) == before


def test_going_on_with_the_model_at_hand_and_with_what_is_done(tmp_path):
    sae = stopped(tmp_path)
    log, _ = trained(sae, checkpoint=tmp_path, every=5, resume=True)  # not a fresh one
    whole = model()
    wanted, _ = trained(whole)
    assert same_weights(sae, whole) and without_clock(log) == without_clock(wanted)
    again, messages = trained(model(), checkpoint=tmp_path, every=5, resume=True)
    assert without_clock(again) == without_clock(wanted) and any('goes on after step 32 of 32' in m for m in messages)
    assert [p.name for p in Checkpoints(tmp_path, 5).paths()] == ['step-00000032', 'step-00000030']
    fresh, _ = trained(model(), checkpoint=tmp_path/'none', resume=True)  # nothing there: it begins
    assert without_clock(fresh) == without_clock(wanted)
    assert sae.record['steps'] == 32


def test_checkpoints_change_no_number(tmp_path):
    for kind in (RATopKSAE, BatchTopKSAE, JumpSAE):
        a, b = model(kind), model(kind)
        log, _ = trained(a, checkpoint=tmp_path/kind.__name__, every=1)
        wanted, _ = trained(b)
        assert same_weights(a, b) and without_clock(log) == without_clock(wanted)


def test_every_step_is_in_the_file_once(tmp_path):
    stopped(tmp_path, at=23)
    assert [json.loads(line)['step'] for line in open(tmp_path/'log.jsonl')].count(22) == 1
    trained(model(), checkpoint=tmp_path, every=5, resume=True, callbacks=JSONLog(tmp_path/'rest.jsonl', every=4))
    lines = [json.loads(line) for line in open(tmp_path/'log.jsonl')]
    log, _ = trained(model())
    steps = [line for line in lines if line['event'] == 'step']
    assert [line['step'] for line in steps] == list(range(1, 33))
    assert [line['loss'] for line in steps] == log['step_loss'] and [line['lr'] for line in steps] == log['lr']
    epochs = [line for line in lines if line['event'] == 'epoch']
    assert [line['epoch'] for line in epochs] == [1, 2, 3, 4] and [line['r2'] for line in epochs] == log['r2']
    assert lines[0]['event'] == 'start' and lines[0]['trainings'][0]['model'] == 'RATopKSAE'
    rest = [json.loads(line)['step'] for line in open(tmp_path/'rest.jsonl')]
    assert [step for step in rest if step % 4 == 0 and step > 20]


def test_two_trainings_do_not_share_a_folder(tmp_path):
    class Second:
        def on_step(self, step, numbers):
            if step == 3:
                source = f'import sys; sys.path[:0] = {[str(ROOT), str(ROOT/"tests")]!r}\n' + textwrap.dedent(f'''
                    import test_runs as t
                    t.trained(t.model(), checkpoint={str(tmp_path)!r}, resume=True)
                ''')
                self.done = subprocess.run([sys.executable, '-c', source], capture_output=True, text=True)

    second = Second()
    trained(model(), checkpoint=tmp_path, callbacks=second)
    assert second.done.returncode == 1 and 'that no other training writes to' in second.done.stderr


def test_many_models_go_on_together(tmp_path):
    def several():
        return [model(), model(TopKSAE, top_k=3), model(BatchTopKSAE, top_k=3), model(JumpSAE, bandwidth=.1)]

    arguments = dict(epochs=4, batch_size=50, lr=[1e-3, 2e-3, 3e-3, 4e-3], progress=False, device='cpu')
    whole = several()
    wanted = fit_many(whole, A, **arguments)
    with pytest.raises(Stop):
        fit_many(several(), A, checkpoint=tmp_path, every=6, callbacks=StopsAt(15), **arguments)
    last = several()
    logs = fit_many(last, A, checkpoint=tmp_path, every=6, resume=True, **arguments)
    assert all(map(same_weights, last, whole)) and list(map(without_clock, logs)) == list(map(without_clock, wanted))
    with pytest.raises(ValueError, match=r'each\[2\].lr was'):
        fit_many(several(), A, checkpoint=tmp_path, every=6, resume=True, **arguments | dict(lr=[1e-3, 2e-3, 1., 4e-3]))


def test_rows_that_are_no_numbers_are_named_with_their_file(tmp_path):
    poisoned = A.clone()
    poisoned[[7, 399]] = torch.nan
    poisoned[30, 2] = -torch.inf
    np.save(tmp_path/'rows.npy', poisoned.numpy())
    on_disk = mapped(tmp_path/'rows.npy')
    for data, file in ((poisoned, ''), (poisoned.numpy(), ''), (on_disk, f' of {tmp_path/"rows.npy"}')):
        with pytest.raises(ValueError) as e:
            trained(model(), data)
        assert f'A: expected finite numbers; got NaN or Inf in 3 of 400 rows{file}: 7, 30, 399;' in str(e.value)
        sae, wanted = model(), model()
        log, messages = trained(sae, data, bad_rows='leave out')
        assert log['left_out'] == [3] and sae.record['rows_left_out'] == 3 and sae.record['rows'] == 397
        assert sum('3 rows with NaN or Inf were left out' in message for message in messages) == 1
        good = [i for i in range(400) if i not in (7, 30, 399)]
        trained(wanted, A[good])
        assert same_weights(sae, wanted)
    assert sae.record['data'] == str(tmp_path/'rows.npy')


def transcoder():
    cfg = SAEConfig(d_model=D, expansion_factor=2, act_fn='topk', top_k=3, hook_point_in='a', hook_point_out='b',
                    norm_activation='inference')
    return Transcoder(cfg)


def test_bad_tokens_of_several_places():
    a, b = A.clone(), A.flip(1).clone()
    a[3], b[5] = torch.nan, torch.inf
    with pytest.raises(ValueError, match=r"A\['a'\]: expected finite numbers; got NaN or Inf in 1 of 400 rows: 3;"):
        trained(transcoder(), dict(a=a, b=b))
    one, two = transcoder(), transcoder()
    log, _ = trained(one, dict(a=a, b=b), bad_rows='leave out')
    good = [i for i in range(400) if i not in (3, 5)]
    trained(two, dict(a=A[good], b=A.flip(1)[good]))
    assert log['left_out'] == [2] and same_weights(one, two)

    # in contexts they are masked
    contexts = {name: v.view(40, 10, D) for name, v in (('a', a), ('b', b))}
    log, _ = trained(transcoder(), contexts, bad_rows='leave out', batch_size=5)
    assert log['left_out'] == [2] and np.isfinite(log['step_loss']).all()
    mask = torch.ones(40, 10, dtype=torch.bool)
    mask[0, [3, 5]] = False
    log, _ = trained(transcoder(), contexts | dict(mask=mask), batch_size=5)  # masked already: nothing to say
    assert 'left_out' not in log and np.isfinite(log['step_loss']).all()
    assert np.isfinite(evaluate(transcoder(), contexts | dict(mask=mask))['mse'])


def test_activations_bring_their_scale(tmp_path):
    n, per = 400, 4
    images = n // per
    acts = Activations(A, torch.arange(D) * .5, torch.full((D,), 2.), image=torch.arange(n).div(per).long(),
                       labels=torch.zeros(images).long(), directions=None, grid=(2, 2),
                       pixels=torch.zeros(images, 4, 4), source='somewhere')
    sae, wanted = model(), model()
    trained(sae, acts)
    trained(wanted, A)
    assert same_weights(sae, wanted)
    mean, std = sae.standardisation
    assert torch.equal(mean, acts.mean) and torch.equal(std, acts.std)
    assert evaluate(sae, acts)['r2'] == evaluate(sae, A)['r2']
    record = sae.record
    assert record['data'] == 'somewhere' and record['rows'] == n and record['width'] == D and record['seed'] == 0
    assert record['arguments']['epochs'] == 4 and record['steps'] == 32 and record['epochs'] == 4
    assert set(record['metrics']) == {'loss', 'r2', 'l0', 'dead'} and record['versions']['torch'] == torch.__version__
    assert json.loads(json.dumps(record)) == record


def test_thresholds_are_led_to_a_number_of_codes():
    A, target = rows(2000), 4
    with seeded(1):
        sae = JumpSAE(D, 32)
    log, _ = trained(sae, A, epochs=None, steps=900, batch_size=64, l0=target)
    assert log['l0'][0] > 2 * target and abs(log['l0'][-1] / target - 1) < .1, log['l0']
    assert abs(evaluate(sae, A)['l0'] / target - 1) < .15
    with pytest.raises(ValueError, match='l0: expected a number for a JumpSAE'):
        trained(model(), l0=3)
    with pytest.raises(ValueError, match='l0: expected a number for a JumpSAE without a criterion'):
        trained(model(JumpSAE), l0=3, criterion=mse)



def test_what_the_dead_do_moves_nothing_that_lives():
    sae = transcoder()
    dead = torch.zeros(2 * D, dtype=torch.bool)
    dead[:5] = True
    criterion = FamilyLoss(auxk_coefficient=1., k_aux=4)
    parts, _ = criterion.parts(sae, dict(a=A, b=A.flip(1)), dead)
    parts['auxk'].backward()
    assert sae.b_D.grad is None or not sae.b_D.grad.any()
    assert sae.W_E.grad[:, :5].any() and not sae.W_E.grad[:, 5:].any()
    assert not sae.decoder._weights.grad[5:].any()


def test_tensorboard_has_the_curves(tmp_path):
    pytest.importorskip('tensorboard', reason='tensorboard is not installed')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(Stop):
        trained(model(), checkpoint=tmp_path/'run', every=5,
                callbacks=[TensorBoardLog(tmp_path/'board', every=2), StopsAt(23)])
    log, _ = trained(model(), checkpoint=tmp_path/'run', every=5, resume=True,
                     callbacks=[TensorBoardLog(tmp_path/'board', every=2)])
    board = EventAccumulator(str(tmp_path/'board'))
    board.Reload()
    steps = board.Scalars('step/loss')
    assert [event.step for event in steps] == list(range(2, 33, 2))
    assert np.allclose([event.value for event in steps], log['step_loss'][1::2])
    assert np.allclose([event.value for event in board.Scalars('epoch/r2')], log['r2'])


def test_wandb_writes_offline(tmp_path):
    pytest.importorskip('wandb', reason='wandb is not installed')
    log, _ = trained(model(), callbacks=WandbLog(mode='offline', folder=tmp_path, every=8))
    files = list(tmp_path.rglob('run-*.wandb'))
    assert len(files) == 1 and files[0].stat().st_size > 0


def test_checkpoints_hold_no_pickle(tmp_path):
    stopped(tmp_path)
    for path in Checkpoints(tmp_path, 5).paths():
        assert sorted(p.name for p in path.iterdir()) == ['list.json', 'state.json', 'tensors.safetensors']
        load_file(path/'tensors.safetensors')
        json.loads((path/'state.json').read_text())
    shutil.rmtree(tmp_path/'step-00000020')
    assert Checkpoints(tmp_path, 5).newest()['step'] == 15


def test_dead_latents_are_those_of_the_whole_set():
    "However the rows come: a latent that fires in one batch only is alive, in every kind of model."
    each = transcoder()
    with torch.no_grad():
        each.W_E.copy_(torch.eye(D).repeat(1, 2))
        each.W_E[:, D:] *= -1
    data = dict(a=torch.eye(D), b=torch.eye(D))
    scores = [evaluate(each, data, n) for n in (1, 3, 100)]
    assert [round(score['dead'] * 2 * D) for score in scores] == [D] * 3
    assert all(torch.equal(score['alive'], torch.arange(2 * D) < D) for score in scores)
