"""Caches and figures under hundreds of kills and flips at random moments; the result is tests/soak/caches.json.

What is returned must be right every time, whatever was killed or damaged before. `--trials` scales everything; a seed
that found a fault finds it again, as far as the moments of kills can be repeated."""
import argparse
import importlib.metadata
import json
import os
import platform
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import test_caches as t  # noqa: E402 (its folder has to be known first)
from archsae.files import json_writer, replacing  # noqa: E402


DAMAGES = 'flip', 'shorten', 'empty', 'garbage'


def damage(path, chance, count):
    "Flip a bit of a file, shorten it or put something else into it."
    how = chance.choice([*DAMAGES, 'flip', 'flip'])
    size = path.stat().st_size
    if not size or path.name.endswith('.damaged'):
        return
    if how == 'flip':
        t.flip(path, chance.randrange(8 * size))
    elif how == 'garbage':
        path.write_bytes(chance.randbytes(chance.randrange(1, 500)))
    else:
        os.truncate(path, 0 if how == 'empty' else chance.randrange(size))
    count[f'{how} {path.suffix}'] += 1


def damage_some(folder, chance, count):
    "Damage what is there, half of the time."
    for path in sorted(p for p in Path(folder).rglob('*') if p.is_file()):
        if chance.random() < .2:
            damage(path, chance, count)


def judge(child, count):
    "Note what a process said that was not killed."
    how, found, said = child.answer()
    if how != 'fine':
        count['errors'] += 1
        print(f'{how}: {found}', file=sys.stderr)
    else:
        count['right results' if found else 'wrong results'] += 1
        count['warnings'] += len(said)



def kills(busy, work, arguments, trials, chance, count):
    "Processes that are `busy`, one or two at a time, killed at random moments, with damage after each; then `work`."
    for _ in range(trials):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for _ in range(chance.randrange(1, 5)):
                children = [t.Child(busy, folder, **arguments) for _ in range(chance.choice([1, 1, 2]))]
                time.sleep(chance.random() * .4)
                for child in children:
                    if child.process.is_alive():
                        child.kill()
                        count['kills'] += 1
                damage_some(folder, chance, count)
            children = [t.Child(work, folder, **arguments) for _ in range(chance.choice([1, 2]))]
            for child in children:
                judge(child, count)
            there = [p for p in Path(folder).rglob('*') if p.is_file()]
            leavings = [p for p in there if p.suffix not in ('.npy', '.safetensors', '.damaged')]
            count['files left behind'] += len(leavings)
            count.update(f'left {p.suffix}' for p in leavings)


def flips(trials, chance, count):
    "A random bit of a finished file, anywhere in it."
    with tempfile.TemporaryDirectory() as folder:
        os.environ['ARCHSAE_CACHE'] = folder
        for work, ending in ((t.right_rows, '.npy'), (t.right_numbers, '.safetensors')):
            work()
            path = t.the_file(folder, ending)
            for _ in range(trials):
                t.flip(path, chance.randrange(8 * path.stat().st_size))
                count[f'flip {ending}'] += 1
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter('always')
                    right = work()
                named = any(str(path) in str(w.message) for w in said)
                count['right results' if right else 'wrong results'] += 1
                count['flips that were named'] += named
                if not named:  # in the padding of a header
                    count['flips that change nothing'] += 1
                    path.unlink()
                    work()
        del os.environ['ARCHSAE_CACHE']


def figures(trials, chance, count):
    "A process that draws the same figure again and again, killed at random moments."
    for _ in range(trials):
        with tempfile.TemporaryDirectory() as folder:
            child = t.Child(t.draw_for_ever, folder, figures=folder)
            t.wait_until(lambda: (Path(folder)/'full_disk.json').exists())
            time.sleep(chance.random() * .3)
            child.kill()
            count['kills'] += 1
            told = json.loads((Path(folder)/'full_disk.json').read_text())
            raw = (Path(folder)/'full_disk.png').read_bytes()
            whole = bool(told['rows']) and raw.startswith(b'\x89PNG') and raw.endswith(b'IEND\xaeB`\x82')
            count['right results' if whole else 'wrong results'] += 1


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--trials', type=int, default=100)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--json', default=str(HERE/'caches.json'))
    a = p.parse_args()
    began, found = time.monotonic(), {}
    parts = dict(
        stored=lambda *given: kills(t.right_rows, t.right_rows, dict(wait=.01), a.trials, *given),
        cached=lambda *given: kills(t.write_for_ever, t.right_numbers, {}, a.trials, *given),
        flips=lambda *given: flips(10 * a.trials, *given),
        figures=lambda *given: figures(a.trials // 2, *given),
    )

    def run(name):
        count, start = Counter({'wrong results': 0, 'errors': 0}), time.monotonic()
        parts[name](random.Random(f'{a.seed} {name}'), count)
        found[name] = dict(sorted(count.items())) | {'seconds': round(time.monotonic() - start, 1)}
        print(name, found[name], flush=True)

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(run, parts))
    total = Counter()
    for row in found.values():
        total.update({key: row.get(key, 0) for key in ('kills', 'right results', 'wrong results', 'errors')})
        total['damages'] += sum(n for key, n in row.items() if key.split(' .')[0] in DAMAGES)
    versions = {name: importlib.metadata.version(name) for name in ('torch', 'numpy', 'safetensors', 'matplotlib')}
    about = dict(seed=a.seed, trials=a.trials, total=dict(total), parts=dict(sorted(found.items())),
                 volatile=dict(seconds=round(time.monotonic() - began, 1), python=platform.python_version(),
                               system=f'{platform.system()} {platform.machine()}', versions=versions))
    with replacing(a.json) as part:
        json_writer(about)(part)
    print(dict(total))
    return int(bool(total['wrong results'] or total['errors']))


if __name__ == '__main__':
    sys.exit(main())
