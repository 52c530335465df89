"""The kinds of arguments that functions of archsae take, values of each, good and bad, and how an answer is judged.

`table.py` says which function takes what; `test_inputs.py` tries one value after the other and `soak/inputs.py` many at
random. The rules:

* a tensor of any precision, an array, a part of a file, whatever its strides, gives the answer that float32 gives;
* what cannot be right is refused by a ValueError that names the argument;
* what may be right (huge, zero, a single row) gives finite numbers, or is refused."""
import dataclasses
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
import numpy as np
import torch
from torch import Tensor

# must be refused; finite or refused; may pass if it is seen in the answer; anything but another error
REFUSE, EITHER, SHOWN, ANY = 'refuse', 'either', 'shown', 'any'


@dataclass(frozen=True)
class Bad:
    "A value that is no usual one: what it is, how it is made from a good one, and what must become of it."
    label: str
    make: object
    verdict: str = REFUSE
    any_name: bool = False  # whether the message may name another argument: shapes that belong together, sizes


def constant(value):
    def make(good):
        return value
    return make


# ---- tensors

def with_number(number):
    def make(good):
        out = good.detach().clone()
        out.reshape(-1)[out.numel() // 2] = number
        return out
    return make


def times(factor):
    def make(good):
        return good.detach() * factor
    return make


def to(dtype):
    def make(good):
        return good.detach().to(dtype)
    return make


def as_numpy(dtype):
    def make(good):
        return good.detach().numpy().astype(dtype)
    return make


def no_rows(good):
    return good.detach()[:0]


def no_columns(good):
    return good.detach()[..., :0]


def one_axis_more(good):
    return good.detach()[None]


def one_axis_less(good):
    return good.detach()[0]


def wider(good):
    return torch.cat([good.detach(), good.detach()[..., :1]], -1)


def longer(good):
    return torch.cat([good.detach(), good.detach()[:1]], 0)


def one_row(good):
    return good.detach()[:1].clone()


def one_column(good):
    return good.detach()[..., :1].clone()


def same_rows(good):
    return good.detach()[:1].expand_as(good).clone()


def sparse(good):
    return good.detach().to_sparse()


def compressed(good):
    return good.detach().to_sparse_csr()


def on_meta(good):
    return good.detach().to('meta')


def ragged(good):
    return [[1., 2.], [3.]]


def texts(good):
    return [['a', 'b'], ['c', 'd']]


def objects(good):
    return np.full(tuple(good.shape), None, object)


NOT_A_TENSOR = [
    Bad('None', constant(None)), Bad('text', constant('text')), Bad('bytes', constant(b'ab')), Bad('a dict',
    constant({})),
    Bad('texts', texts), Bad('ragged', ragged), Bad('objects', objects), Bad('an empty list', constant([])),
    Bad('an object', constant(object())), Bad('a type', constant(float)),
    Bad('int64', to(torch.int64)), Bad('bool', to(torch.bool)), Bad('complex', to(torch.complex64)),
    Bad('numpy int32', as_numpy(np.int32)), Bad('numpy bool', as_numpy(bool)), Bad('numpy complex', as_numpy(complex)),
    Bad('numpy str', as_numpy(str)), Bad('sparse', sparse),
]
NOT_A_MATRIX = NOT_A_TENSOR + [Bad('a number', constant(3)), Bad('a float', constant(2.5))]
NOT_FINITE = [('NaN', math.nan), ('Inf', math.inf), ('-Inf', -math.inf)]
SIZES = [('1e30', 1e30), ('1e38', 1e38), ('1e-30', 1e-30), ('zero', 0.), ('1e4', 1e4), ('negative', -1.)]


@dataclass(frozen=True)
class Real:
    "Activations, a dictionary, codes, weights: a tensor of real numbers."
    make: object  # () -> float32 tensor
    optional: bool = False
    finite: bool = True  # whether NaN is looked for; False where that would make a GPU wait: there it must be seen
    leading: bool = False  # any leading axes will do, and there may be none
    free: bool = False  # its width need not fit anything
    empty: bool = False  # whether there may be no number at all
    shown: bool = True  # whether a NaN that is not looked for is to be seen in the answer (counts have none)
    scales: bool = True  # whether sizes of the numbers are free (weights of a simplex are not)

    def of_number(self, number: float) -> str:
        if self.finite:
            return REFUSE
        return SHOWN if math.isnan(number) and self.shown else ANY

    def of_size(self, factor: float) -> str:
        return EITHER if self.finite or factor < 1e30 else ANY  # in a training step float32 may overflow, and shows it

    def bads(self) -> list:
        found = list(NOT_A_TENSOR if self.leading else NOT_A_MATRIX)
        found = found[1:] if self.optional else found  # the first is None
        found += [Bad('no rows', no_rows, EITHER if self.leading else REFUSE, True), Bad('no columns', no_columns,
            EITHER if self.empty else REFUSE, True)]
        found += [Bad('one axis more', one_axis_more, EITHER if self.leading else REFUSE, True)]
        if self.make().ndim == 2:
            found += [Bad('csr', compressed)]
        if self.make().ndim > 1:
            found += [Bad('one axis less', one_axis_less, EITHER if self.leading else REFUSE, True)]
        found += [Bad('wider', wider, EITHER if self.free else REFUSE, True), Bad('longer', longer, EITHER, True)]
        found += [Bad(label, with_number(v), self.of_number(v)) for label, v in NOT_FINITE]
        found += [Bad(label, times(v), self.of_size(v), True) for label, v in SIZES if self.scales or v == 0.]
        found += [Bad('meta', on_meta, ANY if not self.finite else EITHER, True), Bad('one row', one_row, EITHER, True)]
        found += [Bad('one column', one_column, EITHER, True), Bad('same rows', same_rows, EITHER, True)]
        return found


def strided(good):
    wide = good.new_zeros(*good.shape[:-1], 2 * good.shape[-1])
    wide[..., ::2] = good
    return wide[..., ::2]


def transposed(good):
    return good.detach().mT.contiguous().mT if good.ndim > 1 else strided(good.detach())


def read_only(good):
    array = good.detach().numpy().copy()
    array.flags.writeable = False
    return array


def backwards(good):
    return good.detach().flip(0).numpy().copy()[::-1]


def with_gradient(good):
    return good.detach().clone().requires_grad_()


def new_file(folder) -> Path:
    return Path(folder)/f'rows-{len(list(Path(folder).iterdir()))}'


def memmap(good, folder):
    path = new_file(folder)
    good.detach().numpy().tofile(path)
    return np.memmap(path, np.float32, 'r', shape=tuple(good.shape))


def from_disk(good, folder):
    from archsae.core import mapped

    path = new_file(folder).with_suffix('.npy')
    np.save(path, good.detach().numpy())
    return mapped(path)


GOOD = {  # the same numbers otherwise: label -> (how, precision)
    'float16': (to(torch.float16), torch.float16),
    'bfloat16': (to(torch.bfloat16), torch.bfloat16),
    'float64': (to(torch.float64), torch.float32),
    'numpy float16': (as_numpy(np.float16), torch.float16),
    'numpy float32': (as_numpy(np.float32), torch.float32),
    'numpy float64': (as_numpy(np.float64), torch.float32),
    'big-endian': (as_numpy('>f4'), torch.float32),
    'read-only': (read_only, torch.float32),
    'backwards': (backwards, torch.float32),
    'transposed': (transposed, torch.float32),
    'strided': (strided, torch.float32),
    'with a gradient': (with_gradient, torch.float32),
    'memmap': (memmap, torch.float32),
    'on disk': (from_disk, torch.float32),
}


# ---- numbers and words

@dataclass(frozen=True)
class Count:
    "A whole number."
    value: object
    least: int = 1
    most: int | None = None
    optional: bool = False
    fraction: bool = False  # a share will do as well

    def bads(self) -> list:
        values = ['a', True, -1, math.nan, math.inf, -math.inf, [3], {}, object(), 1j, 10**400, b'1']
        values += [] if self.fraction else [2.5, 3., np.float64(2)]
        values += [] if self.optional else [None]
        values += [0] if self.least == 1 else []
        values += [] if self.most is None else [self.most + 1]
        return [Bad(named(v), constant(v)) for v in values]

    def goods(self) -> list:
        return [] if self.value is None else [kind(self.value) for kind in (np.int64, np.int32, np.uint16)]


@dataclass(frozen=True)
class Number:
    "A real number."
    value: object
    least: float | None = None
    above: float | None = None
    most: float | None = None
    optional: bool = False
    infinite: bool = False

    def bads(self) -> list:
        values = ['a', True, math.nan, [1.], {}, object(), 1j, 10**400]
        values += [] if self.infinite else [math.inf, -math.inf]
        values += [] if self.optional else [None]
        values += [] if self.least is None else [self.least - 1, self.least - 1e-6]
        values += [] if self.above is None else [self.above, self.above - 1]
        values += [] if self.most is None else [self.most + 1e-6]
        return [Bad(named(v), constant(v)) for v in values]

    def goods(self) -> list:
        if self.value is None:
            return []
        whole = [int(self.value), np.int64(self.value)] if float(self.value).is_integer() else []
        return [np.float64(self.value), *whole]


@dataclass(frozen=True)
class Flag:
    "True or False."
    value: bool = False
    optional: bool = False

    def bads(self) -> list:
        values = ['false', 'True', '', 1, 0, 2., [], math.nan] + ([] if self.optional else [None])
        return [Bad(named(v), constant(v)) for v in values]

    def goods(self) -> list:
        return [np.bool_(self.value)]


@dataclass(frozen=True)
class Choice:
    "One of some words."
    value: object
    optional: bool = False

    def bads(self) -> list:
        values = ['no such word', '', 3, 2.5, True, [], {}, ['a'], object(), b'a'] + ([] if self.optional else [None])
        return [Bad(named(v), constant(v)) for v in values] + [Bad('a tensor', constant(torch.zeros(2)))]

    def goods(self) -> list:
        return []


@dataclass(frozen=True)
class Seed:
    "The seed of random numbers."
    value: int = 0

    def bads(self) -> list:
        values = [-1, 1.5, 2., True, 'a', None, math.nan, 10**400, [], {}, -10**9]
        return [Bad(named(v), constant(v)) for v in values]

    def goods(self) -> list:
        return [np.int64(self.value), np.int32(self.value)]


@dataclass(frozen=True)
class Device:
    "What to compute on."
    value: object = 'cpu'
    optional: bool = False

    def bads(self) -> list:
        values = ['abacus', 'cuda:99', '', 3, 2.5, [], {}, True, b'cpu'] + ([] if self.optional else [None])
        return [Bad(named(v), constant(v)) for v in values]

    def goods(self) -> list:
        return [] if self.value is None else [torch.device('cpu')]


@dataclass(frozen=True)
class Given:
    "Something else; tried with the values that are named here, all of which are to be refused."
    make: object
    bad: tuple = ()
    good: tuple = ()

    def bads(self) -> list:
        return [Bad(named(v), constant(v)) for v in self.bad]

    def goods(self) -> list:
        return list(self.good)


@dataclass(frozen=True)
class Index:
    "Numbers of rows, from 0 on."
    make: object
    most: int
    optional: bool = False

    def bads(self) -> list:
        values = ['a', 2.5, {}, object(), [[1], [2, 3]], [0.5], torch.tensor([0.5]), torch.tensor([self.most + 1]),
                  torch.tensor([-self.most - 2]), np.array(['a']), torch.tensor([1j])]
        values += [] if self.optional else [None]
        return [Bad(named(v), constant(v), any_name=False) for v in values]

    def goods(self) -> list:
        good = self.make()
        return [good.numpy(), good.tolist(), good.int()]


@dataclass(frozen=True)
class Mask:
    "Which rows count."
    make: object
    optional: bool = False

    def bads(self) -> list:
        values = ['a', 3, 2.5, {}, object(), [], [0.5], torch.rand(3), torch.ones(1000).bool(), torch.ones(2, 2,
            2).bool()]
        values += [] if self.optional else [None]
        return [Bad(named(v), constant(v)) for v in values]

    def goods(self) -> list:
        return [self.make().numpy()]


@dataclass(frozen=True)
class Places:
    "Activations at several places, by name."
    make: object  # () -> dict of tensors
    finite: bool = True  # as of Real
    some: bool = True  # whether a place may not lack

    def bads(self) -> list:
        found = [Bad(named(v), constant(v)) for v in (None, 'text', 3, [])]
        found.append(Bad('{}', constant({}), REFUSE if self.some else EITHER))
        first = next(iter(self.make()))

        def inside(make):
            def made(good):
                return good | {first: make(good[first])}
            return made
        for bad in Real(lambda: self.make()[first], leading=True, finite=self.finite).bads():
            verdict = ANY if bad.verdict == SHOWN else bad.verdict
            found.append(Bad(f'{bad.label} at {first}', inside(bad.make), verdict, True))
        return found

    def goods(self) -> list:
        kinds = [torch.Tensor.double, torch.Tensor.numpy, torch.Tensor.bfloat16, torch.Tensor.half]
        return [{place: kind(v) for place, v in self.make().items()} for kind in kinds]


@dataclass(frozen=True)
class Folder:
    "A path."
    make: object

    def bads(self) -> list:
        return [Bad(named(v), constant(v)) for v in (None, 3, 2.5, [], {}, object(), True)]

    def goods(self) -> list:
        return []


def named(value) -> str:
    "What a value is, for the report."
    if isinstance(value, Tensor):
        return f'tensor {tuple(value.shape)} {value.dtype}'
    text = repr(value)
    text = re.sub(r' at 0x\w+', '', text)
    return text if len(text) < 40 else text[:30] + '...'


# ---- a function and its arguments

@dataclass(frozen=True)
class Case:
    "A function, how one gets it, and its arguments by name."
    name: str
    get: object  # () -> what is called
    arguments: dict
    nan: str = ''  # why its answer may have numbers that are not finite
    nan_at: str = ''  # and where: a pattern for the paths of its answer
    slow: bool = False  # only a few values of each kind
    loose: str = ''  # why the answer to lower precision may differ

    def good(self) -> dict:
        return {name: value_of(kind) for name, kind in self.arguments.items()}


def value_of(kind):
    return kind.make() if hasattr(kind, 'make') else kind.value


def numbers_in(answer, path='', seen=None):
    "All numbers of an answer, as pairs of a path and a float64 array."
    seen = set() if seen is None else seen
    if id(answer) in seen or answer is None or isinstance(answer, (str, bytes, bool, torch.dtype, torch.device, type)):
        return
    if isinstance(answer, (int, float, np.integer, np.floating)):
        yield path, np.asarray(float(answer))
        return
    seen.add(id(answer))
    if isinstance(answer, Tensor):
        if not answer.is_meta and answer.layout == torch.strided:
            yield path, (answer.abs() if answer.is_complex() else answer).detach().cpu().double().numpy()
    elif isinstance(answer, np.ndarray):
        if answer.dtype.kind in 'fiub':
            yield path, answer.astype(float)
    elif isinstance(answer, dict):
        for key, value in answer.items():
            yield from numbers_in(value, f'{path}.{key}', seen)
    elif isinstance(answer, (list, tuple)):
        names = getattr(answer, '_fields', range(len(answer)))
        for key, value in zip(names, answer):
            yield from numbers_in(value, f'{path}.{key}', seen)
    elif isinstance(answer, torch.nn.Module):
        yield from numbers_in(dict(answer.named_parameters()), path, seen)
    elif dataclasses.is_dataclass(answer):
        fields = {f.name: getattr(answer, f.name) for f in dataclasses.fields(answer)}
        yield from numbers_in(fields, path, seen)
    elif type(answer).__name__ == 'SparseCodes':
        yield from numbers_in(dict(values=answer.values, index=answer.index), path, seen)


def not_finite(answer, case=None) -> list:
    "Where an answer has NaN or Inf, but for where it may."
    found = [path for path, v in numbers_in(answer) if not np.isfinite(v).all()]
    return [path for path in found if case is None or not case.nan or not re.search(case.nan_at, path)]


ALLOWED = (FileNotFoundError, ImportError, NotImplementedError, FloatingPointError, ConnectionError)


def names_it(error: Exception, names) -> bool:
    "Whether a message names one of some arguments."
    text = str(error)
    return any(re.search(rf'(?<![\w.]){re.escape(name)}(?!\w)', text[:200]) for name in names)


def call(case: Case, arguments: dict):
    "The answer of a case, with all that is lazy in it done, without warnings."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        answer = case.get()(**arguments)
        if hasattr(answer, '__next__'):
            answer = list(answer)
        if hasattr(answer, '__enter__') and not isinstance(answer, Tensor):
            with answer:
                pass
            answer = None
        return answer


def judge(case: Case, name: str, bad: Bad, arguments: dict) -> str:
    "What is wrong with the answer to a bad value; '' if nothing is."
    try:
        answer = call(case, arguments)
    except ValueError as e:
        names = case.arguments if bad.any_name else [name]
        return '' if names_it(e, names) else f'message does not name {name}: {str(e)[:120]}'
    except ALLOWED:
        return ''
    except Exception as e:
        return f'{type(e).__name__}: {str(e)[:120]}'.replace('\n', ' ')
    if bad.verdict == REFUSE:
        return 'accepted'
    if bad.verdict == SHOWN:
        return '' if not_finite(answer) else 'NaN or Inf vanished'
    where = not_finite(answer, case) if bad.verdict == EITHER else []
    if where:
        return f'silent NaN or Inf at {where[:3]}'
    return ''


ROUNDING = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 8e-2}


def without_times(numbers) -> dict:
    return {path: v for path, v in numbers if not re.search('seconds|time', path)}


def differs(answer, wanted, rounding: float) -> str:
    "Where an answer is not finite or not the one wanted, up to rounding; '' if nowhere."
    got, want = (without_times(numbers_in(a)) for a in (answer, wanted))
    if got.keys() != want.keys():
        return f'other parts: {sorted(got.keys() ^ want.keys())[:4]}'
    for path, w in want.items():
        g = got[path]
        if g.shape != w.shape:
            return f'shape {g.shape} for {w.shape} at {path!r}'
        if not np.array_equal(np.isfinite(g), np.isfinite(w)):
            return f'not finite at {path!r}'
        g, w = g[np.isfinite(w)], w[np.isfinite(w)]
        size = max(np.abs(w).max(initial=0.), 1e-6)
        off = np.abs(g - w).max(initial=0.) / size
        if off > rounding:
            return f'off by {off:.2g} at {path!r}'
    return ''


def judge_good(case: Case, arguments: dict, wanted, rounding: float) -> str:
    "What is wrong with the answer to a good value."
    try:
        answer = call(case, arguments)
    except Exception as e:
        return f'refused: {type(e).__name__}: {str(e)[:120]}'.replace('\n', ' ')
    return differs(answer, wanted, rounding)


def tries(case: Case, folder) -> list:
    "All single changes of a good call: (argument, label, kind, value, more)."
    found = []
    for name, kind in case.arguments.items():
        good = value_of(kind)
        bads = kind.bads()
        found += [(name, bad.label, 'bad', bad, None) for bad in bads]
        if isinstance(kind, Real) and good is not None:
            for label, (how, precision) in GOOD.items():
                value = how(good, folder) if how in (memmap, from_disk) else how(good)
                found.append((name, label, 'real', value, precision))
        elif not isinstance(kind, Real):
            found += [(name, f'good {named(v)}', 'same', v, None) for v in kind.goods()]
    return found


def walk(case: Case, folder, limit: int | None = None) -> list:
    "All that is wrong with a case, as (argument, label, what)."
    torch.manual_seed(0)
    wrong = []
    wanted = {}

    def baseline(arguments, key):
        if key not in wanted:
            torch.manual_seed(0)
            wanted[key] = call(case, arguments)
        return wanted[key]
    try:
        if not_finite(baseline(case.good(), 'good'), case):
            wrong.append(('-', 'good', 'not finite'))
    except Exception as e:
        return [('-', 'good', f'{type(e).__name__}: {e}')]
    for name, label, what, value, precision in tries(case, folder):
        arguments = case.good()
        torch.manual_seed(0)
        if what == 'bad':
            arguments[name] = value.make(arguments[name])
            said = judge(case, name, value, arguments)
        elif what == 'same':
            arguments[name] = value
            said = judge_good(case, arguments, baseline(case.good(), 'good'),
                ROUNDING[torch.bfloat16 if case.loose or isinstance(value, dict) else torch.float32])
        else:
            rounded = case.good()
            rounded[name] = rounded[name].detach().to(precision).float()
            want = baseline(rounded, (name, precision))
            torch.manual_seed(0)
            arguments[name] = value
            said = judge_good(case, arguments, want, math.inf if case.loose else ROUNDING[precision])
        if said:
            wrong.append((name, label, said))
    return wrong
