"""Files that nobody should open, more than two hundred of them, each for the reader that it is made for.

`cases(folder)` makes valid models of every format once and yields `Case`s; `case.make(place)` writes one hostile file
or folder and answers the path that the reader is given. Everything that a payload could run leaves the file named by
`$HOSTILE_MARK` behind. Used by test_hostile.py and soak/fuzz.py; needs nothing but Python for what it writes by itself.
"""
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Callable, NamedTuple

MARK = 'touch "$HOSTILE_MARK"'
MARK_CODE = "open(__import__('os').environ['HOSTILE_MARK'], 'w').close()"


class Case(NamedTuple):
    name: str
    reader: str  # a key of READERS in test_hostile.py
    make: Callable  # empty folder -> path for the reader
    says: str  # a part of the path that the message has to name
    missing: bool = False  # there is no file: a FileNotFoundError is right


# ---- pickles


class Call:
    "Pickles as a call of `module.name` with these arguments; `name` may have dots."

    def __init__(self, where, *arguments, state=None):
        self.where, self.arguments, self.state = where, arguments, state


class Word:
    "Pickles as a name."

    def __init__(self, where):
        self.where = where


def text(value: str) -> bytes:
    raw = value.encode('utf-8', 'surrogatepass')
    return b'X' + struct.pack('<I', len(raw)) + raw


def word(where: str, protocol: int = 2) -> bytes:
    module, _, name = where.partition(' ')
    if protocol >= 4:
        return text(module) + text(name) + b'\x93'
    return f'c{module}\n{name}\n'.encode()


def code_of(value, protocol: int = 2) -> bytes:
    "The instructions that build a value: plain ones, calls and names; raw bytes of instructions as they are."
    if isinstance(value, Raw):
        return value.code
    if isinstance(value, Word):
        return word(value.where, protocol)
    if isinstance(value, Call):
        code = word(value.where, protocol) + code_of(value.arguments, protocol) + b'R'
        return code if value.state is None else code + code_of(value.state, protocol) + b'b'
    if isinstance(value, dict):
        return b'}(' + b''.join(code_of(v, protocol) for pair in value.items() for v in pair) + b'u'
    if isinstance(value, tuple):
        return b'(' + b''.join(code_of(v, protocol) for v in value) + b't'
    if isinstance(value, list):
        return b'](' + b''.join(code_of(v, protocol) for v in value) + b'e'
    return pickle.dumps(value, protocol=2)[2:-1].replace(b'q\x00', b'')


class Raw:
    "Instructions as they are."

    def __init__(self, code: bytes):
        self.code = code


def program(value, protocol: int = 2) -> bytes:
    return b'\x80' + bytes([protocol]) + code_of(value, protocol) + b'.'


def stored(key='0', n=4, kind='torch FloatStorage', lead='storage', place='cpu') -> Raw:
    "A storage, by its persistent id."
    return Raw(code_of((lead, Word(kind), key, place, n)) + b'Q')


def untyped() -> Raw:
    return stored(kind='torch.storage UntypedStorage', n=16)


def tensor(*args, by='torch._utils _rebuild_tensor_v2', **how) -> Call:
    "A tensor of a storage: (offset, shape, strides), four numbers where nothing is said."
    offset, shape, strides = args or (0, (4,), (1,))
    return Call(by, stored(**how), offset, shape, strides, False, Call('collections OrderedDict'))


def torch_zip(path: Path, code: bytes, records: dict | None = None, lead='a', method=zipfile.ZIP_STORED,
              extra=()) -> Path:
    "A file as torch.save writes it."
    records = {'0': struct.pack('<4f', 1, 2, 3, 4)} if records is None else records
    with zipfile.ZipFile(path, 'w', method) as z:
        z.writestr(f'{lead}/data.pkl', code)
        z.writestr(f'{lead}/byteorder', 'little')
        for key, raw in records.items():
            z.writestr(f'{lead}/data/{key}', raw)
        for name, raw in extra:
            z.writestr(name, raw)
    return path


FLOATS = {'w': tensor()}  # what a good file holds
EVIL = {
    'os.system': Call('os system', MARK),
    'posix.system': Call('posix system', MARK),
    'subprocess.Popen': Call('subprocess Popen', MARK, -1, None, None, None, None, None, True, True),
    'subprocess.getoutput': Call('subprocess getoutput', MARK),
    'builtins.eval': Call('builtins eval', MARK_CODE),
    'builtins.exec': Call('builtins exec', MARK_CODE),
    '__builtin__.eval': Call('__builtin__ eval', MARK_CODE),
    'builtins.compile': Call('builtins exec', Call('builtins compile', MARK_CODE, 'x', 'exec')),
    'builtins.open': Call('builtins open', '/tmp/hostile_mark_by_open', 'w'),
    'getattr chain': Call('builtins getattr', Call('builtins __import__', 'os'), 'system'),
    'getattr call': Raw(code_of(Call('builtins getattr', Call('builtins __import__', 'os'), 'system'))
                        + code_of((MARK,)) + b'R'),
    'importlib': Call('importlib import_module', 'antigravity'),
    'os.popen': Call('os popen', MARK),
    'os.execv': Call('os execv', '/bin/sh', ['sh', '-c', MARK]),
    'os.remove': Call('os remove', '/tmp/hostile_victim'),
    'shutil.rmtree': Call('shutil rmtree', '/tmp/hostile_victim'),
    'pty.spawn': Call('pty spawn', ['sh', '-c', MARK]),
    'runpy': Call('runpy _run_code', MARK_CODE, {}),
    'timeit': Call('timeit timeit', MARK_CODE),
    'pdb': Call('pdb run', MARK_CODE),
    'cProfile': Call('cProfile run', MARK_CODE),
    'code.interact': Call('code InteractiveInterpreter.runcode', MARK_CODE),
    'webbrowser': Call('webbrowser open', 'file:///etc/passwd'),
    'ctypes': Call('ctypes CDLL', 'libc.so.6'),
    'marshal': Call('types FunctionType', Call('marshal loads', b'c'), {}),
    'copyreg': Call('copyreg _reconstructor', Word('os _wrap_close'), Word('builtins object'), None),
    'functools.partial': Call('functools partial', Word('os system'), MARK),
    'operator.methodcaller': Call('operator methodcaller', 'system', MARK),
    'operator.attrgetter': Call('operator attrgetter', 'system'),
    'map': Call('builtins list', Call('builtins map', Word('os system'), [MARK])),
    'numpy.load': Call('numpy load', '/tmp/evil.npy', None, True),
    'numpy runstring': Call('numpy.testing._private.utils runstring', MARK_CODE, {}),
    'numpy scalar': Call('numpy._core.multiarray scalar', Call('numpy dtype', 'f8'), b'12345678'),
    'torch.load': Call('torch load', '/tmp/evil.pt'),
    'torch.hub': Call('torch.hub load', 'evil/evil', 'evil'),
    'torch storage bytes': Call('torch.storage _load_from_bytes', b'evil'),
    'torch type v2': Call('torch._tensor _rebuild_from_type_v2', Word('os system'), Word('torch Tensor'), (MARK,), {}),
    'torch from file': Call('torch from_file', '/etc/passwd', False, 10),
    'torch jit': Call('torch.jit._script CompilationUnit', MARK_CODE),
    'torch dynamo': Call('torch._dynamo.guards GuardBuilder.get', MARK_CODE),
    'torch.nn door': Call('torch.nn.modules.container os.system', MARK),
    'overcomplete door': Call('overcomplete.sae.base torch.os.system', MARK),
    'torch.nn object': Call('torch.nn.modules.linear Linear', 4, 4),
    'state of a word': Raw(word('torch.nn.modules.linear Linear') + code_of({'__class__': 1}) + b'b'),
    'dotted name': Raw(text('torch.nn') + text('modules.module.os.system') + b'\x93' + code_of((MARK,)) + b'R'),
    'INST': Raw(b'(' + text(MARK) + b'ios\nsystem\n'),
    'OBJ': Raw(b'(' + word('os system') + text(MARK) + b'o'),
    'NEWOBJ': Raw(word('os system') + code_of((MARK,)) + b'\x81'),
    'NEWOBJ_EX': Raw(word('os system') + code_of((MARK,)) + b'}\x92'),
    'EXT1': Raw(b'\x82\x01'),
    'PERSID': Raw(b'P0\n'),
    'set of a call': Call('builtins set', [Call('os system', MARK)]),
    'hooks': Call('torch._utils _rebuild_tensor_v2', stored(), 0, (4,), (1,), False, {'0': Word('os system')}),
    'parameter state': Call('torch._utils _rebuild_parameter_with_state', tensor(), True, {}, {'x': Word('os system')}),
}


def laughs(levels: int) -> bytes:
    "Ten of ten of ten ... values, in a few bytes each."
    code = b']q\x00' + b'(' + b'K\x01' * 10 + b'e'
    for level in range(levels):
        code += b'0]q' + bytes([level + 1]) + b'(' + b'h' + bytes([level]) + (b'h' + bytes([level])) * 9 + b'e'
    return code


STRAINS = {
    'memo bomb': Raw(b'Nr\xff\xff\xff\x7f'),
    'billion laughs': Raw(b'}' + text('w') + laughs(20) + b's'),
    'DUP': Raw(b'}2222'),
    'nested lists': Raw(b'}' + text('w') + b']' * 100_000 + b'a' * 99_999 + b's'),
    'nested tuples': Raw(b'}' + text('w') + b')' + b'\x85' * 200_000 + b's'),
    'nested tuple as key': Raw(b'})' + b'\x85' * 200_000 + b'Ns'),
    'list in itself': Raw(b']q\x00h\x00a'),
    'dict in itself': Raw(b'}q\x00' + text('w') + b'h\x00s'),
    'a million lists': Raw(b'}' + text('w') + b'](' + b']' * 10**6 + b'es'),
    'a million dicts': Raw(b'}' + text('w') + b'](' + b'}' * 10**6 + b'es'),
    'long number': Raw(b'}' + text('w') + b'\x8b' + struct.pack('<I', 10**6) + b'\x7f' * 10**6 + b's'),
    'long number that is not there': Raw(b'\x8b\xff\xff\xff\x7f'),
    'long text that is not there': Raw(b'X\xff\xff\xff\xff'),
    'longer text that is not there': Raw(b'\x8d' + struct.pack('<Q', 2**60)),
    'bytes that are not there': Raw(b'\x8e' + struct.pack('<Q', 2**62)),
    'array that is not there': Raw(b'\x96' + struct.pack('<Q', 2**62)),
    'frame that is not there': Raw(b'\x95' + struct.pack('<Q', 2**62)),
    'decimal of many digits': Raw(b'I' + b'9' * 10**5 + b'\n'),
    'empty stack': Raw(b'0'),
    'no mark': Raw(b't'),
    'no memory': Raw(b'h\x07'),
    'unknown instruction': Raw(b'\xfe'),
    'keys that collide': Raw(b'}(' + b''.join(b'\x8a\x0a' + (i * (2**61 - 1)).to_bytes(10, 'little') + b'N'
                                              for i in range(1, 20_000)) + b'u'),
    'list as a key': {'w': Raw(b'}]Ns')},
    'append to a tensor': {'w': Raw(code_of(tensor()) + b'Na')},
    'items of a list': Raw(b']' + text('w') + b'Ns'),
    'number at the top': 3,
    'text at the top': 'state',
    'storage at the top': stored(),
    'storage inside': {'w': stored()},
}
TENSORS = {
    'reaches out': tensor(1, (4,), (1,)),
    'strides reach out': tensor(0, (2, 2), (3, 1)),
    'shows one number often': tensor(0, (10**9,), (0,)),
    'negative offset': tensor(-1, (4,), (1,)),
    'negative size': tensor(0, (-4,), (1,)),
    'negative stride': tensor(3, (4,), (-1,)),
    'offset beyond 64 bits': tensor(2**63 - 1, (1,), (1,)),
    'size of 4 TB': tensor(0, (10**6, 10**6), (10**6, 1), n=10**12),
    'storage of 4 TB': tensor(n=10**12),
    'storage too small': tensor(n=5),
    'no such record': tensor(key='9'),
    'key with a path': tensor(key='../../../etc/passwd'),
    'key is a number': tensor(key=0),
    'shape and strides differ': tensor(0, (2, 2), (1,)),
    'a thousand axes': tensor(0, (1,) * 1000, (1,) * 1000),
    'shape is a text': tensor(0, '4', (1,)),
    'true as a size': tensor(0, (True,), (1,)),
    'no offset': tensor(None, (4,), (1,)),
    'unknown storage': tensor(kind='torch EvilStorage'),
    'complex storage': tensor(kind='torch ComplexFloatStorage'),
    'storage of numpy': tensor(kind='numpy ndarray'),
    'not a storage': tensor(lead='evil'),
    'id is a text': Call('torch._utils _rebuild_tensor_v2', Raw(text('0') + b'Q'), 0, (4,), (1,), False, {}),
    'two kinds of one record': {'a': tensor(), 'b': tensor(kind='torch IntStorage')},
    'no tensor in a parameter': Call('torch._utils _rebuild_parameter', 'w', True, {}),
    'too many arguments': Call('torch._utils _rebuild_parameter', tensor(), True, {}, {}, {}, {}),
    'unknown kind of number': Call('torch._utils _rebuild_tensor_v3', untyped(), 0, (4,), (1,), False, {},
                                   Word('torch system')),
    'kind of number is a text': Call('torch._utils _rebuild_tensor_v3', untyped(), 0, (4,), (1,), False, {}, 'float32'),
    'sparse tensor': Call('torch._utils _rebuild_sparse_tensor', Word('torch sparse_coo'), (tensor(), tensor(), (4,))),
    'quantized tensor': Call('torch._utils _rebuild_qtensor', stored(), 0, (4,), (1,), (), False, {}),
    'tensor on no device': Call('torch._utils _rebuild_meta_tensor_no_storage', Word('torch float32'), (2**40,), (1,)),
    'device tensor': Call('torch._utils _rebuild_device_tensor_from_numpy', tensor(), Word('torch float32'), 'cpu'),
    'pairs of three': Call('collections OrderedDict', [['a', 1, 2]]),
    'pairs are a text': Call('collections OrderedDict', 'ab'),
    'bytes for truth values': tensor(kind='torch BoolStorage', n=16),
}


# ---- zips


def good(place: Path, name='w.pt') -> Path:
    return torch_zip(place/name, program(FLOATS))


def end_of(raw: bytes) -> tuple[int, list]:
    "Where the end of a zip's list is, and its fields."
    at = raw.rindex(b'PK\5\6')
    return at, list(struct.unpack('<4sHHHHIIH', raw[at:at + 22]))


def with_end(change) -> Callable:
    "A zip whose end is changed by `change(fields)`."
    def make(place):
        path = good(place)
        raw = path.read_bytes()
        at, fields = end_of(raw)
        change(fields)
        path.write_bytes(raw[:at] + struct.pack('<4sHHHHIIH', *fields))
        return path
    return make


def with_entry(nth: int, offset: int, layout: str, value) -> Callable:
    "A zip with another number at `offset` of the nth entry of its list."
    def make(place):
        path = good(place)
        raw = bytearray(path.read_bytes())
        at = -1
        for _ in range(nth + 1):
            at = raw.index(b'PK\1\2', at + 1)
        struct.pack_into(layout, raw, at + offset, value)
        path.write_bytes(raw)
        return path
    return make


def with_bytes(change) -> Callable:
    "A zip whose bytes are changed by `change(raw)`."
    def make(place):
        path = good(place)
        path.write_bytes(change(path.read_bytes()))
        return path
    return make


def flipped(raw: bytes, at: int, bit: int = 0x10) -> bytes:
    raw = bytearray(raw)
    raw[at] ^= bit
    return bytes(raw)


def bomb(place: Path) -> Path:
    "100 MB of zeros in 100 kB."
    return torch_zip(place/'w.pt', program(FLOATS), {'0': bytes(10**8)}, method=zipfile.ZIP_DEFLATED)


def set_end(n: int, value) -> Callable:
    def change(fields):
        fields[n] = value
    return change


def end64(place: Path, count=2**62, length=2**62, start=2**62, locator=None) -> Path:
    "A zip whose end of 64 bits tells other numbers."
    path = good(place)
    raw = path.read_bytes()
    at, fields = end_of(raw)
    there = struct.pack('<4sQHHIIQQQQ', b'PK\6\6', 44, 45, 45, 0, 0, count, count, length, start)
    where = struct.pack('<4sIQI', b'PK\6\7', 0, at if locator is None else locator, 1)
    path.write_bytes(raw[:at] + there + where + raw[at:])
    return path


def wide_start(place: Path, start: int) -> Path:
    "A zip whose first record is told to begin beyond any file, in 64 bits."
    path = good(place)
    raw = bytearray(path.read_bytes())
    at = raw.index(b'PK\1\2')
    name = int.from_bytes(raw[at + 28:at + 30], 'little')
    extra = struct.pack('<HHQ', 1, 8, start)
    raw[at + 30:at + 32] = struct.pack('<H', len(extra))
    raw[at + 42:at + 46] = b'\xff' * 4
    raw[at + 46 + name:at + 46 + name] = extra
    end, fields = end_of(bytes(raw))
    fields[5] += len(extra)
    path.write_bytes(raw[:end] + struct.pack('<4sHHHHIIH', *fields))
    return path


ZIPS = {
    'bomb': bomb,
    'deflated pickle': lambda place: torch_zip(place/'w.pt', program(FLOATS), method=zipfile.ZIP_DEFLATED),
    'bzip2': lambda place: torch_zip(place/'w.pt', program(FLOATS), method=zipfile.ZIP_BZIP2),
    'sizes that differ': with_entry(2, 20, '<I', 15),
    'size of 4 GB': with_entry(2, 24, '<I', 2**32 - 2),
    'both sizes of 4 GB': with_entry(2, 20, '<Q', (2**32 - 2) * (2**32 + 1)),
    'size of 64 bits that is not told': with_entry(2, 24, '<I', 2**32 - 1),
    'records upon one another': with_entry(2, 42, '<I', 0),
    'record beyond the end': with_entry(2, 42, '<I', 2**31),
    'record in the list': with_entry(2, 42, '<I', 300),
    'place beyond 64 bits': lambda place: wide_start(place, 2**64 - 1),
    'place beyond 63 bits': lambda place: wide_start(place, 2**63),
    'locked': with_entry(2, 8, '<H', 1),
    'unknown method': with_entry(2, 10, '<H', 77),
    'name beyond the list': with_entry(2, 28, '<H', 60_000),
    'entry without a sign': with_entry(2, 0, '<I', 0),
    'list longer than told': with_end(set_end(5, 10**6)),
    'list elsewhere': with_end(set_end(6, 0)),
    'list beyond the end': with_end(set_end(6, 2**32 - 2)),
    'more records than there are': with_end(set_end(4, 60)),
    '65 534 records': with_end(set_end(4, 65_534)),
    'comment': with_end(set_end(7, 5)),
    'end of 64 bits': end64,
    'end of 64 bits, no records': lambda place: end64(place, 0, 0, 0),
    'end of 64 bits elsewhere': lambda place: end64(place, locator=2**63),
    'two pickles': lambda place: torch_zip(place/'w.pt', program(FLOATS), extra=[('b/data.pkl', program(FLOATS))]),
    'no pickle': lambda place: torch_zip(place/'w.pt', program(FLOATS), lead='a/b'),
    'TorchScript': lambda place: torch_zip(place/'w.pt', program(FLOATS), extra=[('a/constants.pkl', b'N.')]),
    'big-endian': lambda place: replaced(good(place), b'little', b'bigger'),
    'flipped number': with_bytes(lambda raw: flipped(raw, raw.index(struct.pack('<f', 2)) + 1)),
    'flipped pickle': with_bytes(lambda raw: flipped(raw, raw.index(b'storage') + 2)),
    'cut in half': with_bytes(lambda raw: raw[:len(raw) // 2]),
    'cut at the end': with_bytes(lambda raw: raw[:-1]),
    'bytes after the end': with_bytes(lambda raw: raw + bytes(100)),
    'bytes before the start': with_bytes(lambda raw: bytes(100) + raw),
    'empty': with_bytes(lambda raw: b''),
    'one byte': with_bytes(lambda raw: raw[:1]),
    'four bytes': with_bytes(lambda raw: raw[:4]),
    'plain pickle': with_bytes(lambda raw: program(EVIL['os.system'])),
    'old torch file': with_bytes(lambda raw: pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps(1001, 2)
                                 + program(EVIL['os.system'])),
    'text': with_bytes(lambda raw: b'hello'),
    'gzip': with_bytes(lambda raw: b'\x1f\x8b' + zlib.compress(bytes(10**6))),
    'program': with_bytes(lambda raw: b'\x7fELF' + bytes(1000)),
    '20 000 records': lambda place: torch_zip(
        place/'w.pt', program(FLOATS), {str(i): b'' for i in range(20_000)} | {'0': bytes(16)}),
    'pickle of 9 MB': lambda place: torch_zip(place/'w.pt', program({'w': tensor(), 's': 'x' * 9_000_000})),
    'shown forty times': lambda place: torch_zip(
        place/'w.pt', program({'w': [tensor(0, (250_000,), (1,), n=250_000)] * 40}), {'0': bytes(10**6)}),
    'name with a path': lambda place: torch_zip(place/'w.pt', program(FLOATS), lead='../../evil'),
    'names with line ends': lambda place: torch_zip(place/'w.pt', program({'w': tensor(key='\n\x1b[31m')})),
}


def replaced(path: Path, old: bytes, new: bytes) -> Path:
    "A file with other bytes, and the right checksum of the record that they stand in."
    raw = path.read_bytes().replace(old, new)
    path.write_bytes(raw.replace(struct.pack('<I', zlib.crc32(old)), struct.pack('<I', zlib.crc32(new))))
    return path


# ---- whatever may lie where a file should be


def fifo(path: Path):
    os.mkfifo(path)


def loop(path: Path):
    path.symlink_to(path.with_name('other'))
    path.with_name('other').symlink_to(path)


def device(path: Path):
    path.symlink_to('/dev/zero')


def locked_away(path: Path):
    path.write_bytes(b'')  # for root, who may read it, it is empty
    path.chmod(0)


def link_to_nothing(path: Path):
    path.symlink_to('/nowhere/at/all')


def in_place(put) -> Callable:
    "Replaces a file by what `put(path)` makes there."
    def change(path: Path):
        path.unlink()
        put(path)
    return change


PLACES = {
    'a folder': in_place(Path.mkdir),
    'a pipe': in_place(fifo),
    'a device': in_place(device),
    'a circle of links': in_place(loop),
    'unreadable': in_place(locked_away),
    'empty': in_place(Path.touch),
}
GONE = {'gone': Path.unlink, 'a link to nothing': in_place(link_to_nothing)}


# ---- JSON


def bytes_of(content: bytes) -> Callable:
    def change(path: Path):
        path.write_bytes(content)
    return change


def cut(path: Path):
    raw = path.read_bytes()
    path.write_bytes(raw[:len(raw) // 2])


def told_twice(path: Path):
    raw = path.read_bytes().strip()
    path.write_bytes(raw[:-1] + b',' + raw[1:])


JSONS = {
    'cut': cut,
    'no JSON': bytes_of(b'hello'),
    'a list': bytes_of(b'[1, 2, 3]'),
    'a number': bytes_of(b'12'),
    'null': bytes_of(b'null'),
    'an empty object': bytes_of(b'{}'),
    'deep': bytes_of(b'{"a": ' + b'[' * 10**5 + b']' * 10**5 + b'}'),
    'not UTF-8': bytes_of(b'{"d_in": "\xff\xfe"}'),
    'UTF-16': bytes_of('{"d_in": 4}'.encode('utf-16')),
    'names twice': told_twice,
    'a long number': bytes_of(b'{"d_in": ' + b'9' * 5000 + b'}'),
    'NaN': bytes_of(b'{"d_in": NaN}'),
    'Infinity': bytes_of(b'{"d_in": -Infinity}'),
    'huge': bytes_of(b'{"a": "' + b'x' * (2**25) + b'"}'),
    'zero bytes': bytes_of(bytes(1000)),
}


def with_field(keys: tuple, value) -> Callable:
    "Another value for a field, by its path of names; DROP takes it away."
    def change(path: Path):
        stored = json.loads(path.read_text(encoding='utf-8'))
        inner = stored
        for key in keys[:-1]:
            inner = inner[key]
        if value is DROP:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
        path.write_text(json.dumps(stored), encoding='utf-8')
    return change


DROP = object()

# what is contradictory or unheard of in the configuration of each format: dotted name -> values
FIELDS = {
    'dictionary_learning': {
        'trainer': [3, DROP], 'trainer.k': [DROP, 4, 0, 13, 'false', 10**30, True], 'trainer.layer': [1.5, {}],
        'trainer.dict_class': [DROP, 'IdentityDict', 'os.system', ['AutoEncoder'], 'AutoEncoder', 'GatedAutoEncoder'],
        'trainer.activation_dim': [5, '4', 0], 'trainer.dict_size': [2**40, '12'], 'trainer.submodule_name': [7]},
    'sparsify': {
        'd_in': [DROP, 5, '4', 2**40, -4, True], 'num_latents': [13, 2**62, -1, None], 'k': [0, 13, 'x', 2.5],
        'transcode': ['false', 1], 'skip_connection': [True, 'false'], 'activation': ['groupmax', 3], 'signed': [True]},
    'overcomplete': {
        'class': [DROP, 'os.system', ['SAE'], 'JumpSAE'], 'top_k': [0, 'all', 10**30], 'delta': [-1, '1', True, 1e999],
        'use_multiplier': ['false'], 'k_per': ['galaxy']},
    'saelens': {
        'd_in': [5, '4'], 'd_sae': [13, 2**62], 'architecture': ['gpt', ['topk'], 'gated'], 'k': [0, 'x', 10**30],
        'apply_b_dec_to_input': ['false'], 'normalize_activations': ['sometimes'], 'dtype': ['evil'],
        'reshape_activations': ['hook_x', 3]},
    'language-model-saes': {
        'sae_type': ['evil', ['sae']], 'd_model': [5, '4', 2**62], 'expansion_factor': [-1, 'x', 1e308], 'd_sae': [99],
        'act_fn': ['evil', 3], 'top_k': [0, 'x'], 'use_decoder_bias': ['false'], 'norm_activation': ['evil'],
        'use_glu_encoder': [True], 'hook_point_in': ['']},
    'llama-scope': {
        'act_fn': ['evil'], 'top_k': ['x'], 'sparsity_include_decoder_norm': ['false'], 'norm_activation': ['evil'],
        'jump_relu_threshold': [-1, 'x', DROP], 'dataset_average_activation_norm': [3, {'in': 'x'}, {'in': -1}]},
    'archsae': {
        'config': [3, DROP], 'config.class': ['os.system', DROP, ['TopKSAE']], 'config.nb_concepts': [13, 2**62, 'x'],
        'config.input_shape': [5, [2**31, 2**31]], 'config.top_k': [0, 'false', 10**30], 'config.unheard_of': [1],
        'config.encoder_module': ['evil'], 'config.dictionary': ['evil'], 'config.dictionary.delta': [-1],
        'config.dictionary.points': [[2**31, 2**31]], 'config.dictionary.rule': ['evil'], 'format': ['other'],
        'version': [10**6], 'tensors': [{}], 'standardisation': [['x']], 'counters': [3], 'record': [3]},
    'checkpoint': {'format': [99, 'x'], 'files': [3, {}, {'tensors.safetensors': 'x'}, {'tensors.safetensors': 3}]},
}


# ---- safetensors


def safetensors(path: Path, header, body: bytes = b'', length: int | None = None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(raw) if length is None else length) + raw + body)


def opened(path: Path) -> tuple[dict, bytes]:
    raw = path.read_bytes()
    n = int.from_bytes(raw[:8], 'little')
    return json.loads(raw[8:8 + n]), raw[8 + n:]


def first_of(header: dict) -> str:
    return next(name for name in header if name != '__metadata__' and header[name]['shape'])


def with_header(change) -> Callable:
    "The header changed by `change(header, name of a tensor)`; the numbers stay."
    def make(path: Path):
        header, body = opened(path)
        header = change(header, first_of(header)) or header
        safetensors(path, header, body)
    return make


def with_number(value: bytes) -> Callable:
    "Another number in every tensor of float32, or half of it in one of float16."
    def make(path: Path):
        header, body = opened(path)
        body = bytearray(body)
        for name, entry in header.items():
            start, stop = entry.get('data_offsets', (0, 0))
            if entry.get('dtype') == 'F32' and stop > start:
                body[start:start + 4] = value
        safetensors(path, header, bytes(body))
    return make


def entry(**changes) -> Callable:
    def change(header, name):
        header[name] |= changes
    return change


def renamed(new: str) -> Callable:
    def change(header, name):
        header[new] = header.pop(name)
    return change


def broadcast(path: Path):
    "The first vector of the file becomes a single number."
    header, body = opened(path)
    name = next((n for n, e in header.items() if len(e.get('shape', ())) == 1), first_of(header))
    parts = {n: body[slice(*e['data_offsets'])] for n, e in header.items() if n != '__metadata__'}
    width = len(parts[name]) // max(1, product(header[name]['shape']))
    parts[name] = parts[name][:width]
    header[name]['shape'] = [1] * len(header[name]['shape'])
    body = b''
    for n, raw in parts.items():
        header[n]['data_offsets'] = [len(body), len(body) + len(raw)]
        body += raw
    safetensors(path, header, body)


def product(numbers) -> int:
    total = 1
    for n in numbers:
        total *= n
    return total


def without_first(header, name):
    del header[name]


def one_more(path: Path):
    header, body = opened(path)
    header['os.system'] = dict(dtype='U8', shape=[1], data_offsets=[len(body), len(body) + 1])
    safetensors(path, header, body + b'\0')


SAFETENSORS = {
    'header of 4 TB': lambda path: safetensors(path, b'{}', length=2**42),
    'header of 2^64': lambda path: safetensors(path, b'{}', length=2**64 - 1),
    'header of 0': lambda path: safetensors(path, b'', length=0),
    'header longer than the file': lambda path: safetensors(path, b'{}', length=100),
    'header is no JSON': lambda path: safetensors(path, b'hello world'),
    'header is a list': lambda path: safetensors(path, b'[1, 2]'),
    'header is deep': lambda path: safetensors(path, b'{"a":' + b'[' * 10**5 + b']' * 10**5 + b'}'),
    'header is not UTF-8': lambda path: safetensors(path, b'{"\xff": 1}'),
    'header tells a name twice': lambda path: safetensors(path, b'{"a": 1, "a": 2}'),
    'entry is a number': with_header(lambda header, name: header | {name: 3}),
    'entry is empty': with_header(lambda header, name: header | {name: {}}),
    'metadata is a list': with_header(lambda header, name: header | {'__metadata__': [1]}),
    'unknown kind of number': with_header(entry(dtype='EVIL')),
    'kind of number is a list': with_header(entry(dtype=['F32'])),
    'shape of 4 TB': with_header(entry(shape=[10**6, 10**6])),
    'shape is negative': with_header(entry(shape=[-1, 4])),
    'shape is a text': with_header(entry(shape='44')),
    'shape beyond 64 bits': with_header(entry(shape=[2**62, 2**62])),
    'a hundred thousand axes': with_header(entry(shape=[1] * 10**5)),
    'offsets beyond the end': with_header(entry(data_offsets=[0, 2**40])),
    'offsets backwards': with_header(entry(data_offsets=[16, 0])),
    'offsets of three': with_header(entry(data_offsets=[0, 1, 2])),
    'offsets that are texts': with_header(entry(data_offsets=['0', '16'])),
    'a tensor less': with_header(without_first),
    'a tensor more': one_more,
    'another name': with_header(renamed('evil')),
    'a name with line ends': with_header(renamed('a\n\x1b[31mb')),
    'a name without end': with_header(renamed('x' * 10**5)),
    'NaN': with_number(struct.pack('<f', float('nan'))),
    'infinity': with_number(struct.pack('<f', float('inf'))),
    'a vector of one number': broadcast,
    'cut': cut,
    'bytes after the end': lambda path: path.write_bytes(path.read_bytes() + b'\0'),
    'a pickle': lambda path: path.write_bytes(program(EVIL['os.system'])),
}


# ---- arrays


def npy(header: str, body: bytes = bytes(64), version=b'\1\0') -> Callable:
    def make(place: Path) -> Path:
        raw = header.encode('latin1')
        (place/'a.npy').write_bytes(b'\x93NUMPY' + version + struct.pack('<H', len(raw)) + raw + body)
        return place/'a.npy'
    return make


ARRAYS = {
    'objects': npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", program(EVIL['os.system'])),
    'shape of 4 TB': npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"),
    'shape is negative': npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n"),
    'header that calls': npy(f"__import__('os').system('{MARK}')\n"),
    'header that is deep': npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + '(' * 5000 + ')' * 5000 + '}\n'),
    'unknown kind of number': npy("{'descr': 'evil', 'fortran_order': False, 'shape': (4,), }\n"),
    'no header': npy(''),
    'version 9': npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\n", version=b'\x09\0'),
    'cut': npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000,), }\n"),
    'texts': npy("{'descr': '<U4', 'fortran_order': False, 'shape': (4,), }\n"),
}


# ---- all together


def copied(base: Path, file: str, change) -> Callable:
    "A copy of a valid folder in which `change(path)` was done to one file."
    def make(place: Path) -> Path:
        folder = place/'model'
        shutil.copytree(base, folder)
        change(folder/file)
        return folder
    return make


def in_torch(base: Path, file: str, code: bytes) -> Callable:
    "A copy of a valid folder with another file of torch.save."
    return copied(base, file, lambda path: torch_zip(path, code))


# words that may stand for an object where modules are read, and are not called there either
MAY_BE_OBJECTS = 'torch.nn object', 'torch.nn door', 'overcomplete door', 'dotted name'


def torch_cases():
    "Files of torch.save: for the reader of states, that of modules, and where the numbers stay in the file."
    for title, table in (('call', EVIL), ('strain', STRAINS), ('tensor', TENSORS)):
        for name, value in table.items():
            inner = value if title == 'strain' else {'w': value}
            for reader in ('torch', 'modules') if title == 'call' else ('torch',):
                if reader == 'modules' and name in MAY_BE_OBJECTS:
                    continue
                yield Case(f'{title}: {name}', reader, saved(program(inner)), 'w.pt')
            if title == 'call' and name not in MAY_BE_OBJECTS:
                yield Case(f'{title}, protocol 4: {name}', 'modules', saved(program([inner], 4)), 'w.pt')
    for name, make in ZIPS.items():
        for reader in ('torch', 'mapped'):
            yield Case(f'zip: {name}', reader, make, 'w.pt')
    for name, change in (PLACES | GONE).items():
        yield Case(f'place: {name}', 'torch', changed(change), 'w.pt', name in GONE)


def saved(code: bytes) -> Callable:
    return lambda place: torch_zip(place/'w.pt', code)


def changed(change) -> Callable:
    def make(place):
        path = good(place)
        change(path)
        return path
    return make


# format -> its JSON, its weights
PARTS = {
    'archsae': ('config.json', 'model.safetensors'),
    'saelens': ('cfg.json', 'sae_weights.safetensors'),
    'language-model-saes': ('config.json', 'sae_weights.safetensors'),
    'llama-scope': ('hyperparams.json', 'checkpoints/final.safetensors'),
    'sparsify': ('cfg.json', 'sae.safetensors'),
    'dictionary_learning': ('config.json', 'ae.pt'),
    'overcomplete': ('config.json', 'model.pth'),
    'checkpoint': ('list.json', 'tensors.safetensors'),
}
TORCH_EVIL = ('os.system', 'builtins.eval', 'torch storage bytes', 'torch.nn door', 'INST', 'getattr call')


def folder_cases(bases: dict):
    "Folders of every format with something wrong in one of their files."
    for reader, base in bases.items():
        config, weights = PARTS[reader]
        for name, change in JSONS.items():
            yield Case(f'{config}: {name}', reader, copied(base, config, change), config)
        for name, values in FIELDS[reader].items():
            for value in values:
                shown = 'dropped' if value is DROP else repr(value)[:30]
                change = with_field(tuple(name.split('.')), value)
                yield Case(f'{name}: {shown}', reader, copied(base, config, change), 'model')
        for file in (config, weights):
            for name, change in (PLACES | GONE).items():
                yield Case(f'{file}: {name}', reader, copied(base, file, change), 'model', name in GONE)
        if weights.endswith('.safetensors'):
            for name, change in SAFETENSORS.items():
                yield Case(f'{weights}: {name}', reader, copied(base, weights, change), 'model')
        else:
            for name in TORCH_EVIL:
                yield Case(f'{weights}: {name}', reader, in_torch(base, weights, program({'w': EVIL[name]})), weights)
            if reader == 'overcomplete':
                for name, state in STATES.items():
                    yield Case(f'{weights}: {name}', reader, in_torch(base, weights, program(state)), weights)
            for name, change in (('cut', cut), ('text', bytes_of(b'hello')), ('other tensors', in_file(FLOATS))):
                yield Case(f'{weights}: {name}', reader, copied(base, weights, change), weights)


def shaped(*shape) -> Call:
    "A tensor of this shape, of the four numbers at most that `torch_zip` writes."
    strides = [product(shape[i + 1:]) for i in range(len(shape))]
    return tensor(0, shape, tuple(strides))


# states of overcomplete whose names ask for more than their tensors are
FREE = {'dictionary._weights': shaped(1, 4), 'dictionary.multiplier': shaped()}
STATES = {
    'hidden layers without matrices': FREE | {
        'encoder.final_block.0.weight': shaped(1, 4), 'encoder.final_block.0.bias': shaped(1),
        'encoder.final_block.1.weight': shaped(1), 'encoder.final_block.1.bias': shaped(1),
        'encoder.mlp_blocks.0.x': shaped(), 'encoder.mlp_blocks.1.x': shaped()},
    'blocks without convolutions': FREE | {
        'encoder.final_block.0.weight': shaped(1, 4), 'encoder.resnet_blocks.0.x': shaped()},
    'no encoder for another width': FREE,
    'attention': FREE | {'encoder.attention_blocks.0.x': shaped()},
    'nine hidden layers': FREE | {f'encoder.mlp_blocks.{n}.0.weight': shaped(2, 2) for n in range(9)},
    'no dictionary': {'encoder.final_block.0.weight': shaped(1, 4)},
    'a number for a tensor': FREE | {'encoder.weight': 3},
    'a number for a name': FREE | {3: shaped(1, 4)},
    'whole numbers': {'dictionary._weights': tensor(0, (1, 4), (4, 1), kind='torch IntStorage')},
    'two shapes of C': {'dictionary.W': shaped(2, 2), 'dictionary.C': shaped(1, 4), 'dictionary.Relax': shaped(2, 2),
                        'dictionary.multiplier': shaped(), 'encoder.weight': shaped(2, 2)},
}


def in_file(value) -> Callable:
    return lambda path: torch_zip(path, program(value))


RIGHT_BY_ITSELF = ('a tensor more', 'another name', 'a name with line ends', 'a name without end',
                   'a vector of one number')


def plain_cases(bases: dict):
    "Single files: JSON, safetensors, arrays; and paths that are none."
    weights = bases['sparsify']/'sae.safetensors'
    for name, change in SAFETENSORS.items():
        if name not in RIGHT_BY_ITSELF:
            yield Case(f'safetensors: {name}', 'safetensors', one_file(weights, change), 's.safetensors')
    for name, change in (PLACES | GONE).items():
        yield Case(f'safetensors: {name}', 'safetensors', one_file(weights, change), 's.safetensors', name in GONE)
        yield Case(f'json: {name}', 'json', one_file(bases['sparsify']/'cfg.json', change), 's.json', name in GONE)
    for name, change in JSONS.items():
        if name != 'an empty object':
            yield Case(f'json: {name}', 'json', one_file(bases['sparsify']/'cfg.json', change), 's.json')
    for name, make in ARRAYS.items():
        yield Case(f'array: {name}', 'array', make, 'a.npy')
    for name, last in {'no such path': 'nowhere', 'a long name': 'x' * 300, 'a zero byte': 'a\0b'}.items():
        for reader in ('torch', 'json', 'safetensors', 'auto'):
            yield Case(f'path: {name}', reader, below(last), last[:1], name == 'no such path' or reader == 'auto')
    for name, content in {'nothing': b'', 'a text': b'hello', 'a pickle': program(EVIL['os.system'])}.items():
        yield Case(f'a file of {name}', 'auto', put(content), 'some.bin')
        yield Case(f'a folder with a file of {name}', 'auto', put_in_folder(content), 'some')
    yield Case('an empty folder', 'auto', put_in_folder(None), 'some')


def below(last: str) -> Callable:
    return lambda place: place/last


def put(content: bytes) -> Callable:
    def make(place: Path) -> Path:
        (place/'some.bin').write_bytes(content)
        return place/'some.bin'
    return make


def put_in_folder(content: bytes | None) -> Callable:
    def make(place: Path) -> Path:
        (place/'some').mkdir()
        if content is not None:
            (place/'some'/'data.pkl').write_bytes(content)
        return place/'some'
    return make


def one_file(base: Path, change) -> Callable:
    def make(place: Path) -> Path:
        path = place/f's{base.suffix}'
        shutil.copy(base, path)
        change(path)
        return path
    return make


def make_bases(folder: Path) -> dict:
    "A valid model of every format, reader -> folder, by the package's own writers."
    import torch

    import archsae
    from archsae.core import seeded
    from archsae.runs import write_checkpoint
    from archsae.sae import RATopKSAE, TopKSAE
    from archsae.transcoder import SAEConfig, Transcoder

    with seeded(0):
        points = torch.randn(6, 4)
        sae = RATopKSAE(4, 12, points, top_k=3).eval()
        for name in ('archsae', 'overcomplete', 'dictionary_learning', 'saelens'):
            archsae.save(sae, folder/name, format=name)
        archsae.save(TopKSAE(4, 12, top_k=3), folder/'sparsify', format='sparsify')
        cfg = SAEConfig(d_model=4, expansion_factor=3, act_fn='topk', top_k=3, hook_point_in='in',
                        norm_activation='inference', sparsity_include_decoder_norm=False)
        archsae.save(Transcoder(cfg), folder/'language-model-saes', format='language-model-saes')
        write_checkpoint(folder, 'checkpoint', dict(step=3, model=dict(w=torch.ones(3, 4), b=torch.ones(3))))
        write_llama_scope(folder/'llama-scope')
    return {name: folder/name for name in PARTS}


def write_llama_scope(folder: Path):
    "A folder as the first Llama Scope release has them, which this package only reads."
    import torch
    from safetensors.torch import save_file

    (folder/'checkpoints').mkdir(parents=True)
    state = {'encoder.weight': torch.randn(12, 4), 'encoder.bias': torch.zeros(12),
             'decoder.weight': torch.randn(4, 12), 'decoder.bias': torch.zeros(4)}
    save_file(state, folder/'checkpoints/final.safetensors')
    (folder/'hyperparams.json').write_text(json.dumps(dict(
        act_fn='jumprelu', jump_relu_threshold=.5, top_k=3, norm_activation='dataset-wise', hook_point_in='in',
        hook_point_out='out', sparsity_include_decoder_norm=True,
        dataset_average_activation_norm={'in': 2., 'out': 3.})))


def cases(bases: dict) -> list:
    "All of them."
    return [*torch_cases(), *folder_cases(bases), *plain_cases(bases)]
