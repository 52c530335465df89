"""atlas_pages.py [photos] [text] [--out FOLDER] [--models FOLDER]: the two atlases in figures/atlas/, made anew.

Photos: an RA-SAE on the final tokens of MobileNetV2 on six hundred photos, and a second training of it; shown on four
hundred others. Texts: a stable dictionary of MiniLM on articles of WikiText-2, with the probability that each atom
comes back, and another one of other articles; shown on articles that neither has seen. For each atom also what the
network's answers are without it (see chapter steering). Half an hour on two cores. Models are kept in a folder, where
one is given, and taken from there."""
import argparse
import dataclasses
import time
from pathlib import Path
import archsae
from archsae.atlas import spoken
from archsae.steering import network_of

ROOT = Path(__file__).resolve().parent.parent


def kept(folder, name, make):
    "A model from its folder, or made and put there."
    path = Path(folder)/name if folder else None
    if path and (path/'config.json').exists():
        return archsae.load(path)
    started = time.time()
    model = make()
    print(f'{name}: {time.time() - started:.0f} s', flush=True)
    if path:
        archsae.save(model, path)
    return model


def uses(network, sae, acts, count):
    "A function from an atom to what its deletion changes, on the images or texts in which it fires most."
    c, network = archsae.concepts_of(sae, acts), network_of(network)

    def used(atom):
        best = archsae.top_images(c, atom, count)
        if not len(best):
            return []
        effect = archsae.ablate(network, c, atom, best, draws=2)
        moved, far = effect.summary(), '1 − cosine of embeddings' if effect.measure == 'embedding' else 'KL (nats)'
        rows = [dict(output=f'all: {far}', change=moved['moved'], random=moved['moved_random'],
                     other=moved['moved_other'])]
        rows += [dict(row, output=f"{effect.measure} of {row['output']}") for row in effect.rows(3)]
        return [{f'deleted in {len(best)}': row['output'], 'change': row['change'], 'random direction': row['random'],
                 'other atoms': row['other']} for row in rows]
    return used


def photo_model(train, C, seed):
    "An RA-SAE on the tokens of some photos."
    with archsae.seeded(seed):
        sae = archsae.RATopKSAE(train.A.shape[1], 384, C, top_k=12, delta=1., delta_unit='data')
    sae.set_standardisation(train.mean, train.std)
    archsae.fit(sae, train.A, epochs=20, lr=1e-3, batch_size=512, seed=seed, progress=False)
    return sae.eval()


def photos(out, models):
    "The atlas of photos."
    acts = archsae.load_source('imagenet')
    train, rest = acts.split((.6, .4), seed=0)
    C = archsae.distil(train.A, 768, seed=0)
    saes = [kept(models, f'photos-{seed}', lambda seed=seed: photo_model(train, C, seed)) for seed in range(2)]
    rest = dataclasses.replace(rest, names=spoken(rest.names))
    return archsae.atlas(saes, rest, out, title='MobileNetV2 on photos', held_out=True, thumb=144,
                         used=uses('imagenet', saes[0], rest, 6))


def text(out, models):
    "The atlas of texts."
    acts = archsae.load_source('minilm', limit=1600)
    train, others, shown = acts.split((.6, .2, .2), seed=0)

    def make(rows, seed):
        return archsae.stable_dictionary(rows, 512, 8, progress=False)

    def judged():
        model = archsae.recurrence(make, train, runs=4, progress=False).model
        return model.set_standardisation(train.mean, train.std)

    def other():
        return make(others.A, 0).set_standardisation(train.mean, train.std)
    saes = [kept(models, 'text', judged), kept(models, 'text-other', other)]
    return archsae.atlas(saes, shown, out, title='MiniLM on WikiText-2', held_out=True,
                         used=uses('minilm', saes[0], shown, 3))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('which', nargs='*', choices=('photos', 'text'), default=('photos', 'text'))
    p.add_argument('--out', type=Path, default=ROOT/'figures/atlas')
    p.add_argument('--models', type=Path)
    args = p.parse_args()
    for name in args.which:
        print(globals()[name](args.out/name, args.models))


if __name__ == '__main__':
    main()
