"""Two hundred thousand calls of public functions with arguments made up at random; the numbers are in inputs.json.

    python tests/soak/inputs.py [--calls N] [--seed N] [--only NAME] [--out FILE]
    python tests/soak/inputs.py --again FILE ...   the calls that went wrong in these, again; one result of all

A call takes the good arguments of a function (tests/table.py) and replaces up to three: by a value that is bad for its
kind, by the same numbers in another form, or by a tensor of random shape, precision and size. What comes back has to be
finite, or a ValueError that names an argument. A call is its seed and number, so one that went wrong can be made again:
`--only NAME --seed S --first N --calls 1`."""
import argparse
import collections
import json
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0:0] = [str(HERE.parent), str(HERE.parent.parent)]
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ['ARCHSAE_CACHE'] = tempfile.mkdtemp()

import numpy as np  # noqa: E402 (threads and the cache first)
import torch  # noqa: E402
import inputs  # noqa: E402
import table  # noqa: E402

PRECISIONS = torch.float16, torch.bfloat16, torch.float32, torch.float64
SIZES = [0., 1e-45, 1e-30, 1e-8, 1., 1., 1., 1e3, 1e8, 1e20, 1e30, 1e38, 1e300]


def any_tensor(good, rng: random.Random):
    "A tensor that has little to do with a good one: other shape, precision, size, now and then a number that is none."
    shape = list(good.shape)
    for axis in range(len(shape)):
        if rng.random() < .2:
            shape[axis] = rng.choice([0, 1, 2, 3, 7, shape[axis] + 1])
    if rng.random() < .1:
        shape = shape[1:] if rng.random() < .5 else [rng.choice([1, 2]), *shape]
    x = torch.randn(shape, dtype=torch.float64) * rng.choice(SIZES)
    if x.numel() and rng.random() < .1:
        x.view(-1)[rng.randrange(x.numel())] = rng.choice([float('nan'), float('inf'), -float('inf'), 1e300])
    x = x.to(rng.choice(PRECISIONS))
    return x.float().numpy() if rng.random() < .2 else x


def changed(kind, good, rng: random.Random, folder):
    "Another value of an argument, and what may become of it."
    draw = rng.random()
    if isinstance(kind, inputs.Real) and draw < .5:
        return 'random', any_tensor(good, rng), inputs.EITHER if kind.finite else inputs.ANY
    if isinstance(kind, inputs.Real) and draw < .7:
        label, (how, _) = rng.choice(list(inputs.GOOD.items()))
        value = how(good, folder) if how in (inputs.memmap, inputs.from_disk) else how(good)
        return label, value, inputs.EITHER if kind.finite else inputs.ANY
    bads = bads_of(kind)
    if not bads:
        return 'good', good, inputs.EITHER
    bad = rng.choice(bads)
    return bad.label, bad.make(good), bad.verdict


KNOWN = {}


def bads_of(kind) -> list:
    "The bad values of a kind, made once."
    if id(kind) not in KNOWN:
        KNOWN[id(kind)] = kind, kind.bads()
    return KNOWN[id(kind)][1]


def trial(case, number: int, seed: int, folder) -> tuple:
    "One call: what was changed, and what was wrong with the answer."
    rng = random.Random(seed * 10**9 + number)
    torch.manual_seed(rng.randrange(2**31))
    arguments = case.good()
    chosen = rng.sample(sorted(case.arguments), min(rng.choice([1, 1, 2, 3]), len(case.arguments)))
    told, verdicts = [], []
    for name in chosen:
        label, value, verdict = changed(case.arguments[name], arguments[name], rng, folder)
        arguments[name] = value
        told.append(f'{name} = {label}')
        verdicts.append(verdict)
    verdict = next((v for v in (inputs.REFUSE, inputs.ANY, inputs.SHOWN) if v in verdicts), inputs.EITHER)
    if len(chosen) > 1:  # what is too much for one may be right beside another
        verdict = {inputs.REFUSE: inputs.EITHER, inputs.SHOWN: inputs.ANY}.get(verdict, verdict)
        verdict = inputs.ANY if inputs.ANY in verdicts or inputs.SHOWN in verdicts else verdict
    said = inputs.judge(case, chosen[0], inputs.Bad('', None, verdict, any_name=True), arguments)
    return ', '.join(told), said


def kind_of_fault(said: str) -> str:
    if said.startswith('silent') or 'vanished' in said:
        return 'silent NaN'
    if said == 'accepted':
        return 'accepted'
    return 'unnamed' if said.startswith('message') else 'foreign exception'


def weight(case, folder) -> float:
    "How often a function is called: quick ones more often, within limits."
    began = time.perf_counter()
    for _ in range(3):
        inputs.call(case, case.good())
    return 1 / max((time.perf_counter() - began) / 3, 1e-3)**2.5


def versions() -> dict:
    return dict(python=platform.python_version(), torch=torch.__version__, numpy=np.__version__)


def counted(result: dict, faults: list) -> dict:
    "A result with its faults, counted by kind."
    count = collections.Counter(kind_of_fault(fault['said']) for fault in faults)
    return result | dict(
        foreign_exceptions=count['foreign exception'], silent_nan=count['silent NaN'], accepted=count['accepted'],
        unnamed=count['unnamed'], faults=faults)


def again(paths: list) -> dict:
    "The results of several runs as one, whose faults are those that are still there."
    runs = [json.loads(path.read_text()) for path in paths]
    folder, faults = tempfile.mkdtemp(), []
    for run in runs:
        for fault in run['faults']:
            case = table.CASES.get(fault['function'])
            told, said = trial(case, fault['number'], run['seed'], folder) if case else ('', '')
            if said:
                faults.append(fault | dict(changed=told, said=said))
    result = runs[0] | {name: sum(run[name] for run in runs) for name in ('calls', 'seconds')}
    return counted(result | dict(versions=versions()), faults)


def calls_of(cases: list, asked) -> dict:
    "The result of many calls."
    folder = tempfile.mkdtemp()
    torch.manual_seed(0)
    weights = [weight(case, folder) for case in cases]
    faults = []
    began = time.perf_counter()
    done = 0
    for number in range(asked.first, asked.first + asked.calls):
        if time.perf_counter() - began > asked.seconds:
            break
        done += 1
        case = random.Random(f'{asked.seed} {number}').choices(cases, weights)[0]
        told, said = trial(case, number, asked.seed, folder)
        if said:
            faults.append(dict(number=number, function=case.name, changed=told, said=said))
            print(f'{number} {case.name}({told}): {said}', flush=True)
        if number % 500 == 0:
            for path in Path(folder).iterdir():  # of memory maps
                path.unlink()
    result = dict(
        functions=len({case.name.split(' ')[0] for case in cases}), entries=len(cases),
        arguments=sum(len(case.arguments) for case in cases), calls=done, seed=asked.seed,
        seconds=round(time.perf_counter() - began), versions=versions(), machine=platform.machine())
    return counted(result, faults)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--calls', type=int, default=200_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--first', type=int, default=0)
    parser.add_argument('--seconds', type=float, default=float('inf'), help='stop after so many')
    parser.add_argument('--only', default='')
    parser.add_argument('--again', type=Path, nargs='*')
    parser.add_argument('--out', type=Path, default=HERE/'inputs.json')
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case for name, case in table.CASES.items() if name.startswith(asked.only) and case.arguments]
    result = again(asked.again) if asked.again else calls_of(cases, asked)
    print({name: v for name, v in result.items() if name != 'faults'})
    asked.out.write_text(json.dumps(result, indent=1) + '\n')
    sys.exit(bool(result['faults']))


if __name__ == '__main__':
    main()
