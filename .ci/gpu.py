"""Everything that wants a GPU, in one command: `make gpu`, in under 25 minutes.

`gpu.py speed FILE`   times and memory of training steps, k-means and pursuit, as JSON
`gpu.py tests`        the notebooks with their GPU cells
`gpu.py chapters`     the chapters whose paper scale needs a GPU, several at once"""
import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = ((4096, 64), (16384, 32))  # atoms, active: of the table of floors


def clock(make, repeats: int = 5) -> float:
    "Median of the seconds that a call takes, after one that is not counted."
    import torch

    took = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        make()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - start)
    return sorted(took[1:])[repeats // 2]


def step_rows() -> list:
    "Training steps beside other libraries, at two shapes."
    from archsae.book.bench import Shape, bench, show_rows

    rows = []
    for k, active in STEPS:
        here = bench(Shape(4096, 768, k, k, active), device='cuda', repeats=15, warmup=5)
        print(show_rows(here), flush=True)
        rows += here
    return rows


def memory_rows() -> list:
    "Peak memory of a training step."
    from archsae.book.bench import BIG, Shape
    from archsae.book.bench import memory_rows as measured

    names = [*BIG, 'archsae TopK', 'overcomplete TopK']
    return [row for k in (4096, 16384, 32000) for row in measured(Shape(4096, 768, k, k, 64), names, 'cuda')]


def kmeans_row(n: int, p: int, d: int, passes: int = 3) -> dict:
    "One pass of k-means over rows on the device, and what it is of the product's operations."
    import torch
    from archsae.distillation import kmeans_cost, kmeans_pass

    A = torch.randn(n, d, device='cuda', dtype=torch.bfloat16)
    C = torch.randn(p, d, device='cuda')
    torch.cuda.reset_peak_memory_stats()
    seconds = clock(lambda: kmeans_pass(A, C, dtype=torch.bfloat16), passes)
    flops = kmeans_cost(n, p, d, 1)['flops']
    return dict(name='k-means, one pass', n=n, p=p, d=d, seconds=seconds, tflop_per_s=flops / seconds / 1e12,
                peak_bytes=torch.cuda.max_memory_allocated())


def pursuit_row(n: int, d: int, k: int, active: int) -> dict:
    "Codes of a batch by orthogonal pursuit, beside the encoder's product in bfloat16 and in float32."
    import torch
    from archsae.pursuit import orthogonal_pursuit

    x, D = torch.randn(n, d, device='cuda'), torch.randn(k, d, device='cuda')
    D = D / D.norm(dim=1, keepdim=True)
    torch.cuda.reset_peak_memory_stats()
    seconds = clock(lambda: orthogonal_pursuit(x, D, active))
    peak = torch.cuda.max_memory_allocated()
    plain = clock(lambda: x @ D.T, 20)
    half = clock(lambda: x.bfloat16() @ D.bfloat16().T, 20)
    return dict(name='orthogonal pursuit', n=n, d=d, k=k, active=active, seconds=seconds, product=plain,
                product_bf16=half, peak_bytes=peak)


SPEED = [
    step_rows,
    lambda: [kmeans_row(10**7, 32000, 768)],
    lambda: [pursuit_row(4096, 384, 3072, 16), pursuit_row(65536, 768, 16384, 32)],
]


def written(parts: list, file: str):
    "Write all rows, each part as soon as it is there."
    import torch
    from archsae.book.scales import plain, provenance

    rows = []
    for part in parts:
        try:
            found = part()
        except Exception as e:  # the other parts are worth having
            traceback.print_exc()
            found = [dict(name='failed', error=f'{type(e).__name__}: {e}'[:2000])]
        rows += found
        print(json.dumps(plain(found[-1])), flush=True)
        torch.cuda.empty_cache()
        about = dict(volatile=provenance('cuda'), rows=plain(rows))
        Path(file).write_text(json.dumps(about, indent=1) + '\n', encoding='utf-8')


def tests(workers: int) -> int:
    "The notebooks, with the cells that are marked cuda."
    env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', PYTHONUNBUFFERED='1')
    command = [sys.executable, '-c', 'from nbdev.test import nbdev_test; nbdev_test()', '--flags', 'cuda', '--do_print',
               '--timing', '--n_workers', str(workers)]
    return subprocess.run(command, cwd=ROOT, env=env).returncode


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('part', choices=('speed', 'memory', 'tests'))
    p.add_argument('file', nargs='?', default='gpu.json')
    p.add_argument('--workers', type=int, default=8)
    a = p.parse_args()
    if a.part == 'tests':
        return tests(a.workers)
    written(SPEED if a.part == 'speed' else [memory_rows], a.file)
    return 0


if __name__ == '__main__':
    sys.exit(main())
