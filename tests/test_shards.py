"Stores of shards between processes: writers that are killed, readers that share an epoch, loaders that are resumed."
import json
import os
import signal
import subprocess
import sys
import time
import pytest
import torch
from torch.utils.data import DataLoader
from archsae.shards import MANIFEST, ActivationStore, check_store

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


def test_a_file_without_its_manifest_entry_is_written_again(tmp_path):
    "Between the shard and the manifest a kill leaves a file too many."
    folder = tmp_path/'store'
    killed_at(folder, 5_000)
    told = check_store(folder)
    spare = folder/f"activations-{len(told['shards']):05d}.safetensors"
    spare.write_bytes(b'of another life')
    subprocess.run([sys.executable, '-c', WRITE, str(folder), '0'], capture_output=True, check=True)
    ActivationStore(folder).verify()


def first_column(loader) -> list:
    return [x[:, 0].long().tolist() for x in loader]


@pytest.mark.parametrize('start', ['fork', 'spawn'])
def test_workers_give_the_same_batches_in_the_same_order(store, start):
    alone = first_column(store.batches(64, seed=5))
    context = dict(multiprocessing_context=start)
    assert first_column(DataLoader(store.batches(64, seed=5), batch_size=None, num_workers=2, **context)) == alone
    assert sorted(sum(alone, [])) == list(range(5_000))


RANK = """
import sys
from archsae.shards import ActivationStore

folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = ActivationStore(folder, buffer=2**16, run=16)
for batch in store.batches(64, seed=5, epoch=2, rank=rank, world=world):
    print(*batch[:, 0].long().tolist())
"""


def test_processes_share_an_epoch(store):
    ranks = [subprocess.Popen([sys.executable, '-c', RANK, str(store.folder), str(rank), '3'], stdout=subprocess.PIPE,
                              text=True, env=os.environ | dict(OMP_NUM_THREADS='1')) for rank in range(3)]
    lines = [rank.communicate()[0].splitlines() for rank in ranks]
    assert {len(own) for own in lines} == {27}  # 5000 / 3 rows in batches of 64
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
