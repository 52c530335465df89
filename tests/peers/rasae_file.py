"""The layout of the public archetypal SAE of 32 000 concepts (matybohacek/RA-SAE-DINOv2-32k), by overcomplete's code.

That file is `torch.save(DataParallel(BatchTopKSAE))` with the encoder `mlp_ln_1` and an archetypal dictionary whose W
is 32 000 x 32 000; the threshold for inference stands in `config.json`. There was no network to fetch it, so the
file is built here, as large, and read in three ways, each in a process of its own. In an environment that has
overcomplete and archsae:

    python tests/peers/rasae_file.py --concepts 32000

Writes `rasae_file.json` beside this script: sizes, the most memory beyond that of the imports, and what agrees."""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

D, THRESHOLD, TOKENS = 768, .829, 261
WAYS = {'dense': {}, 'free': dict(free=True), 'support': dict(support=64)}


def build(folder: Path, k: int):
    "The file, its configuration, and what overcomplete's own arithmetic answers."
    from overcomplete.sae import BatchTopKSAE, RelaxedArchetypalDictionary

    torch.manual_seed(0)
    C = torch.randn(k, D)
    sae = BatchTopKSAE(D, k, top_k=8 * 1024, encoder_module='mlp_ln_1')
    layer = RelaxedArchetypalDictionary(D, 1, C[:1], delta=.5)  # its own W would be in memory twice
    layer.nb_concepts, layer.nb_candidates, layer.C = k, k, C
    W = torch.zeros(k, k)
    for start in range(0, k, 1000):  # about 200 points an atom, as after training, and a large one
        rows = W[start:start + 1000]
        where = torch.randint(0, k, (len(rows), 200))
        rows.scatter_(1, where, torch.rand(len(rows), 200)**4)
        rows[torch.arange(len(rows)), torch.arange(start, start + len(rows))] += 10.
    layer.W = torch.nn.Parameter(W)
    layer.Relax = torch.nn.Parameter(torch.randn(k, D) * .01)
    layer.multiplier = torch.nn.Parameter(torch.tensor(.1))
    sae.dictionary = layer
    torch.save(torch.nn.DataParallel(sae), folder/'sae.pth')
    (folder/'config.json').write_text(json.dumps(dict(threshold=THRESHOLD)))
    x = torch.randn(TOKENS, D)
    with torch.no_grad():
        _, z = sae.encoder(x)
        z = z * (z >= torch.tensor(THRESHOLD))
        W.relu_().div_(W.sum(-1, keepdim=True) + 1e-8)
        short = (.5 / layer.Relax.norm(dim=-1, keepdim=True)).clamp(max=1)
        atoms = (W @ C + layer.Relax * short) * layer.multiplier.exp()
        torch.save(dict(x=x, z=z, x_hat=z @ atoms, atoms=atoms[:100].clone()), folder/'answers')


def memory(line: str) -> int:
    found = [text for text in Path('/proc/self/status').read_text().splitlines() if text.startswith(line)]
    return int(found[0].split()[1]) * 1024


def read(folder: Path, way: str):
    "Read it in one way; prints what it took and what agrees."
    from archsae.exchange import read_overcomplete

    before, start = memory('VmHWM'), time.perf_counter()
    sae = read_overcomplete(folder, **WAYS[way])
    seconds, most = time.perf_counter() - start, memory('VmHWM')
    size = os.path.getsize(folder/'sae.pth')
    theirs = torch.load(folder/'answers')
    with torch.no_grad():
        ours = sae(theirs['x'])
        atoms = sae.get_dictionary()[:100]
    print(json.dumps(dict(
        way=way, model=repr(sae), file_bytes=size, memory_bytes=most - before,
        memory_over_file=round((most - before) / size, 3),
        seconds=round(seconds, 1), same_support=bool(((ours.codes != 0) == (theirs['z'] != 0)).all()),
        codes_away=(ours.codes - theirs['z']).abs().max().item(), active=(ours.codes != 0).sum(1).float().mean().item(),
        x_hat_away=((ours.x_hat - theirs['x_hat']).norm() / theirs['x_hat'].norm()).item(),
        atoms_away=((atoms - theirs['atoms']).norm() / theirs['atoms'].norm()).item(),
        error_told=getattr(sae.dictionary, 'support_error', None))))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--concepts', type=int, default=32_000)
    parser.add_argument('--folder', type=Path)
    parser.add_argument('--way', choices=WAYS)
    given = parser.parse_args()
    if given.way:
        return read(given.folder, given.way)
    with tempfile.TemporaryDirectory() as t:
        folder = Path(t)
        build(folder, given.concepts)
        rows = []
        for way in WAYS:
            command = [sys.executable, __file__, '--folder', folder, '--way', way]
            rows.append(json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))
            print(rows[-1], flush=True)
    about = dict(concepts=given.concepts, points=given.concepts, width=D, threshold=THRESHOLD, tokens=TOKENS,
                 versions=dict(torch=torch.__version__, python=platform.python_version()))
    path = Path(__file__).with_suffix('.json')
    path.write_text(json.dumps(about | dict(ways=rows), indent=1) + '\n')
    sys.exit(not all(row['same_support'] and row['memory_over_file'] < 3 for row in rows))


if __name__ == '__main__':
    main()
