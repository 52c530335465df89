"""One model in several processes, started as a user starts them: by torchrun, on gloo"""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KINDS = ['TopK', 'BatchTopK', 'JumpReLU', 'RA-TopK', 'RA-BatchTopK', 'RA-JumpReLU', 'TopK, tied', 'TopK, dense codes',
         'BatchTopK, dense codes']


def torchrun(processes, task, latents, folder, restarts=0):
    script = [str(HERE/'processes.py'), task, str(latents), str(folder)]
    command = [sys.executable, '-W', 'ignore', '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node',
               str(processes), '--max-restarts', str(restarts), *script]
    environment = os.environ | dict(OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    environment.pop('ARCHSAE_CHECK_SHAPES', None)
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def answer(folder, done):
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder/'answer.json').read_text())


@pytest.fixture(scope='module', params=[(2, 2), (4, 2)], ids=['1 x 2', '2 x 2'])
def same(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('same')
    return answer(folder, torchrun(request.param[0], 'same', request.param[1], folder))


@pytest.mark.parametrize('kind', KINDS)
def test_parts_have_the_numbers_of_the_whole(same, kind):
    found = same[kind]
    assert found['weights'] < 1e-10
    assert found['log'] < 1e-10
    assert found['scores'] < 1e-10
    assert found['alive'] and found['record']
    assert found['atoms_here'] == 24


def test_auxk_took_part(same):
    assert same['TopK']['auxk'] > 1e-3  # else its dead atoms would be untested
    assert same['RA-BatchTopK']['auxk'] > 1e-3


@pytest.mark.parametrize('processes, latents', [(2, 1), (4, 2)], ids=['2 x 1', '2 x 2'])
def test_each_process_reads_its_rows_of_a_store_and_no_others(tmp_path, processes, latents):
    found = answer(tmp_path, torchrun(processes, 'from_store', latents, tmp_path))
    for kind, told in found.items():
        assert told['weights'] < 1e-10 and told['log'] < 1e-10, kind
        assert told['rows'] == 3 * 1003 == sum(told['own'])  # three passes, each row once in one of the two
        assert told['once'] and told['largest'] == 50 and min(told['own']) > .49 * told['rows']
        assert max(told['own_pages']) < .65 * told['pages']  # and nearly half of the pages, not a row here and there


def test_sums_over_rows(tmp_path):
    found = answer(tmp_path, torchrun(3, 'sums', 1, tmp_path))
    assert found['sums'] < 1e-10  # of the pursuit dictionary
    assert found['atoms'] < 1e-6  # its atoms, made in float32
    assert found['parents']
    assert found['points'] < 1e-5  # of k-means, in float32
    assert found['same_everywhere'] and found['store']


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp('half')
    assert answer(folder, torchrun(2, 'half', 2, folder)) == dict(interrupted=[15], steps=15)  # Ctrl-C came to one
    return folder


def test_other_processes_go_on_from_a_checkpoint(stopped, tmp_path):
    files = sorted(path.name for path in (stopped/'run'/'step-00000015').iterdir())
    assert [name.split('-')[0] for name in files] == ['list.json', 'shard', 'shard', 'state.json']
    shutil.copytree(stopped/'run', tmp_path/'run')
    found = answer(tmp_path, torchrun(4, 'train', 2, tmp_path))
    assert max(found.values()) < 1e-10


def test_damaged_checkpoint_is_left_out(stopped, tmp_path):
    shutil.copytree(stopped/'run', tmp_path/'run')
    shard = next((tmp_path/'run'/'step-00000015').glob('shard*'))
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(raw)
    command = [sys.executable, '-W', 'ignore', str(HERE/'processes.py'), 'train', '1', str(tmp_path)]  # a team of one
    found = answer(tmp_path, subprocess.run(command, capture_output=True, text=True, timeout=300))
    assert max(found.values()) < 1e-10
    assert [path.name for path in (tmp_path/'run').glob('damaged-step-00000015-*')]


def test_killed_process_ends_the_job_and_torchrun_goes_on(tmp_path):
    (tmp_path/'kill').touch()
    done = torchrun(2, 'train', 2, tmp_path)
    assert done.returncode != 0
    assert 'another process is gone' in done.stderr
    assert 'Signal 9 (SIGKILL)' in done.stderr
    assert (tmp_path/'run'/'step-00000015').is_dir()

    (tmp_path/'killed').unlink()  # once more, and again from the beginning of step 16
    found = answer(tmp_path, torchrun(2, 'train', 2, tmp_path, restarts=1))
    assert (tmp_path/'killed').exists()
    assert max(found.values()) < 1e-10
