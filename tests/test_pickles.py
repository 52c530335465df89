"""What torch.save writes is read back to the last bit, whole modules as records among it; in a large file the numbers
stay where they are."""
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from archsae.pickles import Record, read_torch, state_of_record

KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
         torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.float8_e4m3fn, torch.float8_e5m2)


def written(path, value, **how):
    torch.save(value, path, **how)
    return path


@pytest.mark.parametrize('mapped', [False, True])
@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_every_kind_of_number(tmp_path, kind, protocol, mapped):
    value = (torch.randn(3, 5) * 40).abs().to(kind)
    given = dict(w=value, none=value[:0], one=value[0, 0])
    found = read_torch(written(tmp_path/'w.pt', given, pickle_protocol=protocol), mapped=mapped)
    for name, v in given.items():
        assert found[name].dtype == v.dtype and found[name].shape == v.shape
        assert torch.equal(found[name].reshape(-1).view(torch.uint8), v.reshape(-1).view(torch.uint8))


def test_views_of_one_storage_stay_views_of_one(tmp_path):
    w = torch.arange(12.).view(3, 4)
    found = read_torch(written(tmp_path/'w.pt', dict(w=w, row=w[1], column=w[:, 2], turned=w.T, part=w[1:, ::2])))
    for name, v in dict(w=w, row=w[1], column=w[:, 2], turned=w.T, part=w[1:, ::2]).items():
        assert torch.equal(found[name], v), name
    assert found['row'].untyped_storage().data_ptr() == found['w'].untyped_storage().data_ptr()


def test_parameters_and_plain_values(tmp_path):
    net = torch.nn.Linear(3, 2)
    value = dict(state=net.state_dict(), own=net.weight, step=3, rate=1e-3, names=['a', 'ü'], pair=(1, None), on=True,
                 big=2**40, low=-5, kind=b'raw')
    found = read_torch(written(tmp_path/'w.pt', value))
    assert torch.equal(found['own'], net.weight) and not found['own'].requires_grad
    assert all(torch.equal(found['state'][name], v) for name, v in net.state_dict().items())
    assert {name: found[name] for name in ('step', 'rate', 'names', 'pair', 'on', 'big', 'low', 'kind')} == \
        {name: value[name] for name in ('step', 'rate', 'names', 'pair', 'on', 'big', 'low', 'kind')}


def test_a_single_tensor_is_read_where_one_is_wanted(tmp_path):
    rows = torch.randn(5, 3)
    path = written(tmp_path/'rows.pt', rows)
    assert torch.equal(read_torch(path, tensor=True), rows)
    with pytest.raises(ValueError, match='rows.pt: pickle: expected dict; got Tensor'):
        read_torch(path)
    with pytest.raises(ValueError, match='w.pt: pickle: expected Tensor; got dict'):
        read_torch(written(tmp_path/'w.pt', dict(rows=rows)), tensor=True)


def test_files_without_checksums(tmp_path):
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = written(tmp_path/'w.pt', dict(w=torch.ones(4)))
    finally:
        torch.serialization.set_crc32_options(before)
    assert torch.equal(read_torch(path)['w'], torch.ones(4))


def test_a_file_of_before_1_6_is_refused_with_the_reason(tmp_path):
    path = written(tmp_path/'w.pt', dict(w=torch.ones(4)), _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match='w.pt: file: expected a zip.*save it anew'):
        read_torch(path)


def test_every_flipped_byte_is_found_or_harmless(tmp_path):
    "Of a small file each byte is flipped in turn: it is refused, or what is read is what was written."
    w = torch.arange(1., 9.)
    raw = written(tmp_path/'w.pt', dict(w=w)).read_bytes()
    changed = []
    for place in range(len(raw)):
        (tmp_path/'w.pt').write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1:])
        try:
            found = read_torch(tmp_path/'w.pt')
        except ValueError as e:
            assert type(e) is ValueError and str(e).startswith(str(tmp_path/'w.pt'))
        else:
            changed += [place] if set(found) != {'w'} or not torch.equal(found['w'], w) else []
    assert not changed


def test_modules_are_records(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3), torch.nn.TransformerEncoderLayer(4, 2))
    found = read_torch(written(tmp_path/'net.pt', net), objects=True)
    assert isinstance(found, Record) and found.name.endswith('container.Sequential')
    state = state_of_record(found, 'here')
    assert set(state) == set(net.state_dict())
    assert all(torch.equal(state[name], v) for name, v in net.state_dict().items())


MEASURE = """
import sys
from pathlib import Path
from archsae.pickles import read_torch
import numpy, torch
def most():
    return int(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM'))) * 1024
read_torch(sys.argv[2], mapped=sys.argv[3] == 'mapped')
before = most()
found = read_torch(sys.argv[1], mapped=sys.argv[3] == 'mapped')
rows = sum(float(found['w'][i].sum()) for i in range(0, len(found['w']), 500))
print(most() - before, rows)
"""


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='memory is read from /proc')
@pytest.mark.parametrize('how,share', [('whole', 1.2), ('mapped', .2)])
def test_memory(tmp_path, how, share):
    "A file of 200 MB is in memory once, or, where it stays in the file, only the rows that are used."
    w = torch.from_numpy(np.random.default_rng(0).random((5000, 10_000), dtype=np.float32))
    written(tmp_path/'w.pt', dict(w=w))
    written(tmp_path/'small.pt', dict(w=torch.ones(3)))
    done = subprocess.run([sys.executable, '-c', MEASURE, tmp_path/'w.pt', tmp_path/'small.pt', how],
                          capture_output=True, text=True, check=True)
    memory, rows = done.stdout.split()
    assert float(rows) == pytest.approx(float(w[::500].double().sum()), rel=1e-4)
    assert int(memory) < share * (tmp_path/'w.pt').stat().st_size
