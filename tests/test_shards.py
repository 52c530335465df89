"Stores of shards between processes: writers that are killed, readers that share an epoch, loaders that are resumed."
import contextlib
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
import pytest
import torch
from torch.utils.data import DataLoader
from archsae import shards
from archsae.cli import main
from archsae.shards import MANIFEST, ActivationStore, check_store
from archsae.sources import absent, in_data

N, D = 60_000, 16
WRITE = """
import sys
import time
import torch
from archsae.shards import ActivationStore

torch.set_num_threads(1)
X = torch.randn(60_000, 16, generator=torch.Generator().manual_seed(0))
folder, seconds = sys.argv[1], float(sys.argv[2])
with ActivationStore.writer(folder, shard_bytes=2**18, provenance=dict(source='test'), resume=True) as writer:
    print(writer.rows, flush=True)
    for block in X[writer.rows:].split(900):
        writer.add(block)
        time.sleep(seconds)
"""


def numbers() -> torch.Tensor:
    return torch.randn(N, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stores')/'store'
    with ActivationStore.writer(folder, shard_bytes=2**18) as writer:
        writer.add(torch.arange(5_000.)[:, None].expand(-1, D))
    return ActivationStore(folder, buffer=2**16, run=16)


def killed_at(folder, rows: int):
    "Start a writer, and kill it when the manifest names so many rows."
    writer = subprocess.Popen([sys.executable, '-c', WRITE, str(folder), '.01'], stdout=subprocess.PIPE, text=True)
    began = int(writer.stdout.readline())
    while not (folder/MANIFEST).exists() or json.loads((folder/MANIFEST).read_text())['rows'] < rows:
        assert writer.poll() is None and time.sleep(.002) is None
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    return began


def test_a_writer_that_is_killed_twice_goes_on(tmp_path):
    folder, done = tmp_path/'store', 0
    for rows in (5_000, 30_000):
        assert killed_at(folder, rows) == done
        told = check_store(folder)  # whatever it was doing, what the manifest names is whole
        assert not told['complete'] and rows <= told['rows'] < N
        with pytest.raises(ValueError, match='unfinished'):
            ActivationStore(folder)
        done = told['rows']
    # a kill between a shard and the manifest leaves a file too many, and one within a shard half a file
    (folder/f"activations-{len(told['shards']):05d}.safetensors").write_bytes(b'of another life')
    (folder/'.activations-00099.safetensors.0123456789ab.part').write_bytes(b'half a shard')
    answer = subprocess.run([sys.executable, '-c', WRITE, str(folder), '0'], capture_output=True, text=True, check=True)
    assert int(answer.stdout) == done
    store = ActivationStore(folder)
    store.verify()
    X = numbers()
    assert torch.equal(store[:], X) and torch.equal(store.matrix, X)
    assert torch.allclose(store.mean, X.double().mean(0), atol=1e-12)
    assert torch.allclose(store.var, X.double().var(0, correction=0), atol=1e-12)
    named = {shard['files']['activations']['name'] for shard in store.manifest['shards']}
    assert {path.name for path in folder.iterdir()} == named | {MANIFEST}


def first_column(loader) -> list:
    return [x[:, 0].long().tolist() for x in loader]


def test_workers_give_the_same_batches_in_the_same_order(store):
    alone = first_column(store.batches(64, seed=5))
    assert first_column(DataLoader(store.batches(64, seed=5), batch_size=None, num_workers=2)) == alone
    assert sorted(sum(alone, [])) == list(range(5_000))
    feed = store.batches(64, seed=5)
    next(feed)
    assert first_column(pickle.loads(pickle.dumps(feed))) == alone[1:]  # as it comes to a process that is spawned


RANK = """
import sys
from archsae.shards import ActivationStore

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = ActivationStore(folder, buffer=2**16, run=16)
for batch in store.batches(64, seed=5, epoch=2, rank=rank, world=world):
    print(*batch[:, 0].long().tolist())
"""


def test_processes_share_an_epoch(store):
    ranks = [subprocess.Popen([sys.executable, '-c', RANK, str(store.folder), str(rank), '2'], stdout=subprocess.PIPE,
                              text=True, env=os.environ | dict(OMP_NUM_THREADS='1')) for rank in range(2)]
    lines = [rank.communicate()[0].splitlines() for rank in ranks]
    assert {len(own) for own in lines} == {40}  # 2500 rows in batches of 64
    assert sorted(int(i) for own in lines for line in own for i in line.split()) == list(range(5_000))


@pytest.mark.parametrize('workers', [0, 2])
def test_torchdata_resumes_it(store, workers):
    loaders = pytest.importorskip('torchdata.stateful_dataloader', reason='torchdata is not installed')
    kind = loaders.StatefulDataLoader
    want = first_column(store.batches(64, seed=5))
    loader = kind(store.batches(64, seed=5), batch_size=None, num_workers=workers)
    some = iter(loader)
    got = [next(some)[:, 0].long().tolist() for _ in range(11)]
    state = loader.state_dict()
    again = kind(store.batches(64, seed=5), batch_size=None, num_workers=workers)
    again.load_state_dict(state)
    assert got + first_column(again) == want


EXTRACT = """
import os
import sys
import time
from archsae import stores
from archsae.sources import in_data


def of_texts():
    model, texts = in_data('minilm', 'minilm_l6', 'wikitext2')
    plan = stores.plan_texts(str(model), [texts/'wikitext2_valid.txt'], ['blocks.1', 'blocks.3'], context=32, limit=40)
    return stores.text_work(plan, 2, False), 'float32'


def of_images():
    weights, photos = in_data('photos', 'mobilenetv2_100/model.safetensors', 'imagenet_1000')
    plan = stores.plan_images('mobilenetv2_100', photos, checkpoint=weights, limit=20, pad_type='same')
    return stores.image_work(plan, 2, True), 'float16'


def slowly(work):
    def batches(*ends):
        for batch in work.batches(*ends):
            yield batch
            time.sleep(.1)
    return work._replace(batches=batches)


if __name__ == '__main__':
    work, dtype = dict(texts=of_texts, images=of_images)[sys.argv[1]]()
    if len(sys.argv) == 3:
        stores.write_store(sys.argv[2], slowly(work), dtype, every=0)
    with stores.together() as team:
        print(os.getpid(), flush=True)
        stores.write_share(sys.argv[2], slowly(work), team, every=0)
"""


def command(kind: str) -> list:
    "The same as a command."
    if kind == 'texts':
        model, texts = in_data('minilm', 'minilm_l6', 'wikitext2')
        return ['extract', 'text', model, texts/'wikitext2_valid.txt', '--place', 'blocks.1', '--place', 'blocks.3',
                '--context', 32, '--limit', 40]
    weights, photos = in_data('photos', 'mobilenetv2_100/model.safetensors', 'imagenet_1000')
    return ['extract', 'images', 'mobilenetv2_100', photos, '--checkpoint', weights, '--limit', 20, '--model-arg',
            'pad_type=same']


@pytest.mark.parametrize('kind, source', [('texts', 'minilm'), ('images', 'photos')])
def test_an_extraction_that_is_killed_goes_on(tmp_path, kind, source):
    if absent(source):
        pytest.skip(absent(source))
    from archsae import stores

    folder, whole = tmp_path/'store', tmp_path/'whole'
    child = subprocess.Popen([sys.executable, '-c', EXTRACT, kind, str(folder)], stderr=subprocess.PIPE, text=True,
                             env=os.environ | dict(OMP_NUM_THREADS='1', TQDM_DISABLE='1'))
    while not (folder/MANIFEST).exists() or check_store(folder)['rows'] < 300:
        assert child.poll() is None, child.stderr.read()
        time.sleep(.01)
    child.kill()
    child.wait()
    assert stores.is_unfinished(folder)
    there = {path: path.stat().st_mtime_ns for path in folder.glob('*.safetensors')}
    asked = [*map(str, command(kind)), '--batch-size', '2', '--out', str(folder)]
    assert main(asked) == 0
    kept = [path for path, changed in there.items() if path.stat().st_mtime_ns == changed]
    assert len(kept) >= len(there) - 2  # beside.safetensors, and a shard that the manifest did not name
    assert main(asked) == 2  # it is whole now
    scope = dict(__name__='extract')
    exec(EXTRACT, scope)
    work, dtype = scope[f'of_{kind}']()
    stores.write_store(whole, work, dtype)
    for place in check_store(whole)['places']:
        store = ActivationStore(folder, place)
        store.verify()
        assert torch.equal(store[:], ActivationStore(whole, place)[:])
    assert len(stores.open_activations(folder, place).A) == work.items * work.per


def torchrun(*script):
    "Two processes on this machine."
    start = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', 2]
    quiet = os.environ | dict(OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', TQDM_DISABLE='1')
    quiet.pop('ARCHSAE_CHECK_SHAPES', None)
    return subprocess.Popen([*map(str, (*start, *script))], env=quiet, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


@pytest.mark.skipif(os.name != 'posix' or bool(absent('minilm')), reason=absent('minilm') or 'needs signals')
def test_two_processes_that_are_killed_go_on_and_write_the_store_of_one(tmp_path, capsys):
    from archsae.scaling import check_parts, parts_in

    folder, whole, script = tmp_path/'store', tmp_path/'whole', tmp_path/'extract.py'
    asked = [*map(str, command('texts')), '--batch-size', '2', '--out']
    assert main([*asked, str(whole)]) == 0
    script.write_text(EXTRACT)
    job = torchrun(script, 'texts', folder, 'team')
    workers = [int(job.stdout.readline()) for _ in range(2)]
    parts = [folder/f'part-0000{i}-of-00002' for i in range(2)]
    while not all((part/MANIFEST).exists() for part in parts):
        assert job.poll() is None, job.stderr.read()
        time.sleep(.01)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    job.communicate()
    assert parts_in(folder) == parts and not (folder/MANIFEST).exists()
    assert all(not check_store(part)['complete'] for part in parts)

    assert main([*asked, str(folder)]) == 2
    assert 'processes: expected 2, as many as began the store' in capsys.readouterr().err
    with pytest.raises(ValueError, match='processes: expected 2.*got 3'):
        check_parts(folder, 3)
    archsae = os.path.join(os.path.dirname(sys.executable), 'archsae')
    said, error = torchrun('--no-python', archsae, *asked, folder, '--json').communicate(timeout=120)
    assert json.loads(said)['places'] == {place: [40 * 30, 384] for place in ('blocks.1', 'blocks.3')}, error[-3000:]
    assert not parts_in(folder)
    for path in whole.iterdir():
        if path.name != 'run.toml':  # which names the folder
            assert path.read_bytes() == (folder/path.name).read_bytes(), path.name


@pytest.mark.skipif(bool(absent('minilm')), reason=absent('minilm') or 'there')
def test_a_store_that_one_process_began_is_not_for_two(tmp_path):
    from archsae import stores
    from archsae.scaling import check_parts

    scope = dict(__name__='extract')
    exec(EXTRACT, scope)
    work, dtype = scope['of_texts']()

    def some(first):
        yield from itertools.islice(work.batches(first), 5)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match='interrupted after 256 of'):
        stores.write_store(tmp_path, work._replace(batches=some), dtype, every=0)
    with pytest.raises(ValueError, match='processes: expected 1, as many as began'):
        check_parts(tmp_path, 2)


def test_a_training_on_a_store_ten_times_what_it_may_hold(tmp_path):
    "Under a hard limit, with the program of the chapter; all rows in memory are killed there."
    root = Path(__file__).resolve().parent.parent
    cells = json.loads((root/'nbs'/'A19_shards.ipynb').read_text(encoding='utf-8'))['cells']
    chapter = dict(contextlib=contextlib, os=os, subprocess=subprocess, sys=sys, Path=Path, shards=shards)
    exec(''.join(next(c['source'] for c in cells if c['id'] == 'c1900061')), chapter)
    room, d = 2**25, 256
    rows = torch.rand(8192, 16) @ torch.randn(16, d)
    with ActivationStore.writer(tmp_path, shard_bytes=2**26) as writer:
        while writer.rows + writer.filled < 10 * room / d / 4:
            writer.add(rows.roll(writer.filled % 8192 + 1, 0))
    found = chapter['limited'](tmp_path, room) if hasattr(os, 'posix_fadvise') else None
    if found is None:
        pytest.skip('no control group with a limit on memory can be made here')
    assert found['store_mb'] >= 10 * found['room_mb'] and found['most_mb'] <= found['limit_mb']
    assert found['steps'] == len(ActivationStore(tmp_path)) // 512 and found['r2_one_pass'] > .5
    assert found['loaded'] == -signal.SIGKILL
