"""Everything that wants a GPU, in one command: `make gpu`, in under 25 minutes.

`gpu.py speed`      times and memory of training steps, k-means and pursuit, to figures/speed_gpu.json
`gpu.py tests`      the notebooks with their GPU cells
`gpu.py chapters`   the experiments that a GPU makes longer or larger, three at once
`gpu.py all`        one after the other"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
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
    memory_rows,
]


def measured(parts: list) -> list:
    "The rows of all parts; of one that fails, a row that says how."
    import torch

    rows = []
    for part in parts:
        try:
            found = part()
        except Exception as e:  # the other parts are worth having
            traceback.print_exc()
            found = [dict(name='failed', error=f'{type(e).__name__}: {e}'[:300])]
        rows += found
        print(json.dumps(found[-1], default=str), flush=True)
        torch.cuda.empty_cache()
    return rows


def speed(folder: str):
    "Measure, and write `speed_gpu.json`; `make redraw NAMES=speed_gpu` draws it."
    from archsae.book.bench import PEERS, importable
    from archsae.book.scales import as_json, plain, provenance

    rows = plain(measured(SPEED))
    peers = [name for name, module in PEERS.items() if importable(module)]
    about = dict(name='speed_gpu', chapter='bench', scale='laptop', source='digits', params=dict(peers=peers),
                 seeds=[0], smallest_text_px=None, rows=[], volatile=plain(provenance('cuda')))
    (Path(folder)/'speed_gpu.json').write_text(as_json(about, rows), encoding='utf-8')


def tests(workers: int) -> int:
    "The notebooks, with the cells that are marked cuda."
    env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', PYTHONUNBUFFERED='1')
    command = [sys.executable, '-c', 'from nbdev.test import nbdev_test; nbdev_test()', '--flags', 'cuda', '--do_print',
               '--timing', '--n_workers', str(workers)]
    return subprocess.run(command, cwd=ROOT, env=env).returncode


CHAPTERS = [  # notebook, scale, source
    ('36_halves', 'paper', 'minilm'), ('36_halves', 'paper', 'vit'), ('36_halves', 'laptop', 'photos'),
    ('16_arms', 'laptop', 'vit'), ('17_delta', 'laptop', 'vit'), ('28_crosslayer', 'laptop', 'minilm'),
]


def drawn(job: tuple) -> str:
    "Run a chapter; what became of it."
    notebook, scale, source = job
    start = time.time()
    with tempfile.TemporaryDirectory() as t:
        command = [sys.executable, '-m', 'papermill', '--cwd', 'nbs', '-k', 'python3', '-p', 'scale', scale,
                   '-p', 'source', source, f'nbs/{notebook}.ipynb', f'{t}/{notebook}.ipynb']
        env = os.environ | dict(ARCHSAE_FIGURES=str(ROOT/'figures'), OMP_NUM_THREADS='2')
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    said = 'ok' if done.returncode == 0 else f'FAILED: {done.stderr[-500:]}'
    return f'{notebook} {source}: {said}, {time.time() - start:.0f} s'


def chapters() -> int:
    "The experiments, three at a time: most of a step is spent outside of the GPU."
    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(drawn, CHAPTERS))
    print('\n'.join(told))
    return int(any('FAILED' in line for line in told))


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('part', choices=('speed', 'tests', 'chapters', 'all'))
    p.add_argument('--workers', type=int, default=8, help='notebooks at a time, of tests')
    p.add_argument('--folder', default=str(ROOT/'figures'), help='where speed_gpu.json goes')
    a = p.parse_args()
    import torch

    if not torch.cuda.is_available():
        print('gpu.py: expected a CUDA device; torch sees none', file=sys.stderr)
        return 2
    parts = dict(speed=lambda: speed(a.folder) or 0, tests=lambda: tests(a.workers), chapters=chapters)
    chosen = parts if a.part == 'all' else [a.part]
    return max(parts[name]() for name in chosen)


if __name__ == '__main__':
    sys.exit(main())
