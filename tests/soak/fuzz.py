"""A hundred thousand damaged configurations, headers, manifests and pickles, for every reader of the package.

    python tests/soak/fuzz.py [--cases N] [--jobs N] [--seed N] [--only READER]

Each case takes a valid model, changes one of its files (bytes, fields, names, instructions of a pickle) and gives it to
its reader in a child process with the limits of tests/judge.py. What is still a model is accepted, everything else has
to be refused by one ValueError that names the file; nothing may be run. Writes tests/soak/fuzz.json. A case is its
seed and number, so that one that went wrong can be made again: `--seed S --first N --cases 1 --jobs 1`."""
import argparse
import collections
import copy
import hashlib
import json
import os
import pickletools
import platform
import random
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import hostile  # noqa: E402
import judge  # noqa: E402

FLOOR = 64 * 2**20
VALUES = ('false', True, False, None, -1, 0, 1, 2, 3, 2**31, 2**40, 2**63, 10**30, -2**70, .5, 1e308, -1e-300, [], {},
          [1], [2**31, 2**31], {'a': 1}, '', 'os.system', '\x1b[31m\n', '../../etc/passwd', 'x' * 1000, 'relu', 'topk',
          'jumprelu', 'batchtopk', 'float16', 'nan', '\ud800', '3', 'TopKSAE', 'RATopKSAE', 'SAE', 'identity', 'data')


# ---- changes of bytes


def flip_bits(raw: bytes, rng) -> bytes:
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return bytes(raw)


def cut(raw: bytes, rng) -> bytes:
    return raw[:rng.randrange(len(raw))]


def random_bytes(raw: bytes, rng) -> bytes:
    start = rng.randrange(len(raw))
    return raw[:start] + rng.randbytes(rng.choice((1, 4, 64))) + raw[start + rng.choice((0, 1, 4, 64)):]


def move_piece(raw: bytes, rng) -> bytes:
    a, b, c = sorted(rng.randrange(len(raw) + 1) for _ in range(3))
    return raw[:a] + raw[b:c] + raw[a:b] + raw[c:]


def repeat_piece(raw: bytes, rng) -> bytes:
    a, b = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    return raw[:b] + raw[a:b] * rng.choice((1, 1, 3)) + raw[b:]


BYTES = flip_bits, cut, random_bytes, move_piece, repeat_piece


# ---- changes of JSON


def places(value, path=()):
    "All places within a value of JSON, as paths of names and numbers."
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


def parent_of(value, path):
    for key in path[:-1]:
        value = value[key]
    return value


def change_value(value, rng):
    "Another value in a few places, a place less, two values exchanged, or a name more."
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        all_places = list(places(value))
        if not all_places:
            return some_value(rng)
        path, other = rng.choice(all_places), rng.choice(all_places)
        parent, key = parent_of(value, path), path[-1]
        how = rng.randrange(6)
        if how <= 2:
            parent[key] = near(parent[key], rng) if how else some_value(rng)
        elif how == 3:
            del parent[key]
        elif how == 4 and path[:len(other)] != other and other[:len(path)] != path:
            second = parent_of(value, other)
            parent[key], second[other[-1]] = second[other[-1]], parent[key]
        elif isinstance(parent, dict):
            parent[rng.choice(('evil', 'k', 'd_in', 'x\n', '\ud800'))] = some_value(rng)
    return value


def near(value, rng):
    "A value of the same kind, if there is one."
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, 2 * value, value * 2**32, float(value), str(value)))
    if isinstance(value, float):
        return rng.choice((-value, value * 1e300, value / 1e300, str(value), 0.))
    if isinstance(value, str):
        return rng.choice((value + 'x', value[:-1], value.upper(), [value], value + '\n'))
    return some_value(rng)


def some_value(rng):
    return copy.deepcopy(rng.choice(VALUES))


def dumped(value) -> bytes:
    return json.dumps(value).encode('utf-8', 'surrogatepass')


def change_json(raw: bytes, rng) -> bytes:
    if rng.random() < .35:
        return rng.choice(BYTES)(raw, rng)
    return dumped(change_value(json.loads(raw), rng))


# ---- changes of safetensors


def change_safetensors(raw: bytes, rng) -> bytes:
    n = int.from_bytes(raw[:8], 'little')
    header, body = raw[8:8 + n], raw[8 + n:]
    how = rng.random()
    if how < .2:
        return rng.choice(BYTES)(raw, rng)
    if how < .4 and body:
        return raw[:8 + n] + change_numbers(body, rng)
    if how < .6:
        header = rng.choice(BYTES)(header, rng)
    else:
        header = dumped(change_value(json.loads(header), rng))
    length = len(header) if rng.random() < .95 else rng.choice((0, 2**20, 2**40, 2**63))
    return struct.pack('<Q', length) + header + body


def change_numbers(body: bytes, rng) -> bytes:
    "Numbers that are none, or bytes."
    if rng.random() < .5:
        return rng.choice(BYTES)(body, rng)
    place = 4 * rng.randrange(len(body) // 4)
    return body[:place] + struct.pack('<f', rng.choice((float('nan'), float('inf'), -1e38, 0.))) + body[place + 4:]


# ---- changes of torch's files

WORDS = (
    'os system', 'builtins eval', 'torch._utils _rebuild_tensor_v2', 'torch._utils _rebuild_parameter', 'torch Size',
    'collections OrderedDict', 'torch FloatStorage', 'torch LongStorage', 'torch.nn.modules.linear Linear',
    'builtins set', 'overcomplete.sae.base SAE', 'torch.storage _load_from_bytes', 'builtins getattr')
PIECES = (
    *(bytes([byte]) for byte in b'()]}012NRbQ\x81\x85\x86\x87tldsuae.io\x8f\x90\x91\x92\x94'),
    b'K\x05', b'J\xff\xff\xff\xff', b'\x8a\x08' + b'\xff' * 8, b'h\x00', b'h\x05', b'q\x09', b'r\xff\xff\xff\x7f',
    b'j\xff\xff\xff\x7f', b'\x95' + b'\xff' * 8, b'X\xff\xff\xff\xff', b'U\x01x', b'\x82\x01',
    b'G' + struct.pack('>d', float('nan')))


def instructions(code: bytes) -> list:
    "The pieces of a pickle, an instruction each."
    starts = [at for _, _, at in pickletools.genops(code)]
    return [code[a:b] for a, b in zip(starts, [*starts[1:], len(code)])]


def change_code(code: bytes, rng) -> bytes:
    "Instructions that are exchanged, repeated, left out, or put in."
    pieces = instructions(code)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(1, len(pieces))
        how = rng.randrange(7)
        if how == 0:
            del pieces[at]
        elif how == 1:
            pieces.insert(at, pieces[rng.randrange(len(pieces))])
        elif how == 2:
            other = rng.randrange(1, len(pieces))
            pieces[at], pieces[other] = pieces[other], pieces[at]
        elif how == 3:
            pieces.insert(at, rng.choice(PIECES))
        elif how == 4:
            pieces.insert(at, hostile.word(rng.choice(WORDS), rng.choice((2, 4))))
        elif how == 5:
            value = rng.choice(list(hostile.EVIL.values()))
            pieces.insert(at, hostile.code_of(value) + rng.choice((b'', b'0')))
        else:
            pieces[at] = flip_bits(pieces[at], rng)
        if len(pieces) < 3:
            break
    return b''.join(pieces)


def change_torch(raw: bytes, rng) -> bytes:
    if rng.random() < .35:
        return rng.choice(BYTES)(raw, rng)
    with tempfile.TemporaryFile() as f:
        f.write(raw)
        with zipfile.ZipFile(f) as z:
            records = [(info.filename, z.read(info)) for info in z.infolist()]
        f.seek(0)
        f.truncate()
        with zipfile.ZipFile(f, 'w') as z:
            for name, content in changed_records(records, rng):
                z.writestr(zipfile.ZipInfo(name), content)
        f.seek(0)
        return f.read()


def changed_records(records: list, rng) -> list:
    "The pickle changed, or the bytes of a storage, or a name; checksums will be right."
    found = []
    target = rng.choice([name for name, _ in records] + ['data.pkl'] * len(records))
    for name, content in records:
        if name.endswith('data.pkl') and target.endswith('data.pkl'):
            content = change_code(content, rng) if rng.random() < .8 else rng.choice(BYTES)(content, rng)
        elif name == target and content:
            content = rng.choice(BYTES)(content, rng)
        elif rng.random() < .02:
            name = name + rng.choice(('x', '\n', '/data.pkl'))
        found.append((name, content))
    return found


# ---- one case

CHANGES = {'.json': change_json, '.safetensors': change_safetensors, '.pt': change_torch, '.pth': change_torch}


def change_array(raw: bytes, rng) -> bytes:
    return rng.choice(BYTES)(raw, rng)


def seal(folder: Path):
    "Give a checkpoint of a training the checksums of its files, or nothing would come past them."
    try:
        stored = json.loads((folder/'list.json').read_text())
        for file in stored['files']:
            stored['files'][file] = hashlib.sha256((folder/file).read_bytes()).hexdigest()
        (folder/'list.json').write_text(json.dumps(stored))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass


def seal_model(folder: Path):
    "The same for a model in the package's own format."
    try:
        stored, raw = json.loads((folder/'config.json').read_text()), (folder/'model.safetensors').read_bytes()
        stored['weights'] |= dict(bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        (folder/'config.json').write_text(json.dumps(stored))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass


SEALS = dict(checkpoint=seal, archsae=seal_model)


class Target:
    "A valid model of a format, one of whose files is changed for a moment."

    def __init__(self, reader: str, path: Path):
        self.reader, self.path = reader, path
        files = [path] if path.is_file() else sorted(p for p in path.rglob('*') if p.is_file())
        self.files = {file: file.read_bytes() for file in files}

    def change(self, rng) -> Path:
        file = rng.choice(list(self.files))
        change = CHANGES.get(file.suffix, change_array)
        file.write_bytes(change(self.files[file], rng))
        if self.reader in SEALS and rng.random() < .7:
            SEALS[self.reader](self.path)
        return file

    def restore(self):
        for file, raw in self.files.items():
            file.write_bytes(raw)


def make_targets(folder: Path, bases: dict) -> list:
    import numpy as np
    import torch

    import archsae
    from archsae.sae import BatchTopKSAE, JumpSAE

    torch.manual_seed(0)
    for act in ('relu', 'jumprelu', 'batchtopk'):
        sae = dict(relu=archsae.SAE, jumprelu=JumpSAE, batchtopk=BatchTopKSAE)[act](4, 12)
        sae = sae.set_threshold(.1) if act == 'batchtopk' else sae
        for name in ('dictionary_learning', 'overcomplete', 'saelens'):
            archsae.save(sae, folder/f'{name}-{act}', format=name)
    found = [Target(name, base) for name, base in bases.items()]
    found += [Target(path.name.split('-')[0], path) for path in sorted(folder.glob('*-*')) if path.name not in bases]
    state = {f'layer.{i}': torch.randn(3, 4) for i in range(4)} | dict(step=3, half=torch.ones(4).half())
    torch.save(state, folder/'state.pt')
    torch.save(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)), folder/'net.pt')
    np.save(folder/'rows.npy', np.ones((3, 4), np.float32))
    found += [Target(name, folder/'state.pt') for name in ('torch', 'mapped', 'modules')]
    found += [Target('modules', folder/'net.pt'), Target('array', folder/'rows.npy')]
    found += [Target('auto', target.path) for target in found if target.path.is_dir() and target.reader != 'checkpoint']
    return found


def run_child(seed: int, first: int, count: int, step: int, only: str | None):
    "Cases first, first + step, ...; a line of JSON for the sums, and one for each that went wrong."
    sums = collections.defaultdict(collections.Counter)
    most = collections.Counter()
    wrong = []
    with tempfile.TemporaryDirectory() as t:
        (readers, bases), mark = judge.prepare(Path(t))
        targets = collections.defaultdict(list)
        for target in make_targets(Path(t)/'bases', bases):
            if only in (None, target.reader):
                targets[target.reader].append(target)
        for n in range(first, first + count * step, step):
            rng = random.Random(f'{seed}-{n}')
            target = rng.choice(targets[rng.choice(list(targets))])
            file = target.change(rng)
            print(n, target.reader, file.name, file=sys.stderr, flush=True)
            says = target.path.name
            found = judge.watched(readers[target.reader], target.path, says, False, mark)
            if found['end'] == 'foreign' or found['executed']:
                wrong.append(dict(seed=seed, number=n, reader=target.reader, file=file.name) | found)
            target.restore()
            sums[target.reader][found['end']] += 1
            sums[target.reader]['executed'] += bool(found['executed'])
            most['memory'] = max(most['memory'], found['memory'])
            most['beyond'] = max(most['beyond'], found['memory'] - 3 * found['bytes'])
            most['seconds'] = max(most['seconds'], found['seconds'])
    print(json.dumps(dict(sums=sums, most=most, wrong=wrong)))


def start(given, part: int):
    count = len(range(part, given.cases, given.jobs))
    command = [sys.executable, __file__, '--child', '--seed', given.seed, '--first', given.first + part,
               '--cases', count, '--step', given.jobs, *(['--only', given.only] if given.only else [])]
    log = tempfile.TemporaryFile('w+')
    env = dict(os.environ, OMP_NUM_THREADS='1')
    env.pop('ARCHSAE_CHECK_SHAPES', None)
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=log, text=True, env=env), log


def add_up(parts: list) -> dict:
    "The sums of all children; one that did not end is a case that went wrong."
    sums = collections.defaultdict(collections.Counter)
    most, wrong = collections.Counter(), []
    for child, log in parts:
        out, _ = child.communicate()
        if child.returncode:
            log.seek(0)
            wrong.append(dict(end='crash', code=child.returncode, last=log.read()[-2000:]))
            continue
        found = json.loads(out)
        wrong += found['wrong']
        for reader, counts in found['sums'].items():
            sums[reader].update(counts)
        most = collections.Counter({k: max(most[k], v) for k, v in found['most'].items()})
    readers = {reader: {k: counts[k] for k in ('accepted', 'refused', 'foreign', 'executed')}
               for reader, counts in sorted(sums.items())}
    return dict(readers=readers, most=most, wrong=wrong)


def main():
    parser = argparse.ArgumentParser()
    for name, default in dict(cases=100_000, jobs=2, seed=0, first=0, step=1).items():
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--only')
    parser.add_argument('--child', action='store_true')
    given = parser.parse_args()
    if given.child:
        return run_child(given.seed, given.first, given.cases, given.step, given.only)
    begun = time.time()
    found = add_up([start(given, part) for part in range(given.jobs)])
    readers = found['readers']
    total = {k: sum(counts[k] for counts in readers.values()) for k in ('accepted', 'refused', 'foreign', 'executed')}
    import torch

    result = dict(
        cases=sum(total[k] for k in ('accepted', 'refused', 'foreign')), **total, readers=readers, seed=given.seed,
        crashes=sum(row['end'] == 'crash' for row in found['wrong']), floor_bytes=FLOOR,
        largest_memory_bytes=found['most']['memory'], largest_memory_beyond_three_files_bytes=found['most']['beyond'],
        longest_seconds=found['most']['seconds'], seconds=round(time.time() - begun),
        versions=dict(python=platform.python_version(), torch=torch.__version__))
    for row in found['wrong'][:200]:
        print(json.dumps(row))
    print(json.dumps(result, indent=1))
    if given.cases >= 100_000 and given.only is None:
        (HERE/'fuzz.json').write_text(json.dumps(result, indent=1) + '\n')
    sys.exit(bool(found['wrong']) or result['largest_memory_beyond_three_files_bytes'] > FLOOR)


if __name__ == '__main__':
    main()
