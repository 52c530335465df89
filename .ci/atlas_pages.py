"""atlas_pages.py [photos] [text] [--out FOLDER] [--models FOLDER] [--only-pictures]: the atlases in figures/atlas/.

Photos: an RA-SAE on the final tokens of MobileNetV2 on six hundred photos, and a second training of it; shown on four
hundred others. Texts: a stable dictionary of MiniLM on articles of WikiText-2, with the probability that each atom
comes back, and another one of other articles; shown on articles that neither has seen. For each atom also what the
network's answers are without it (see chapter steering). Half an hour on two cores. Models are kept in a folder, where
one is given, and taken from there.

Then two pages of each are photographed in Debian's chromium, into figures/atlas_NAME.png and atlas_NAME_atom.png, with
what they show in a JSON beside them."""
import argparse
import dataclasses
import json
import shutil
import time
from pathlib import Path
import archsae
from archsae.atlas import spoken
from archsae.book.scales import README_WIDTH, as_json, provenance
from archsae.files import write_together
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


WIDTH, HEIGHT = 1100, 800
SMALLEST = """() => Math.min(...[...document.querySelectorAll('body *')]
    .filter((node) => node.offsetParent)
    .filter((node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()))
    .map((node) => parseFloat(getComputedStyle(node).fontSize)))"""


def facts(folder):
    "What an atlas says of itself, and how large it is."
    text = (folder/'data/index.js').read_text(encoding='ascii')
    told = json.loads(text[text.index(',') + 1:text.rindex(')')])
    size = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    row = {name: value for name, value in told['facts'].items() if not isinstance(value, dict)}
    row['held_out'] = told['heldOut'] is not None and all(told['heldOut'])
    if row['held_out']:
        row['r2_held_out'] = row.pop('r2')
    return row | dict(title=told['title'], MB=size / 1e6)


def photograph(folder, name, atom, figures=ROOT/'figures'):
    "The first page of an atlas and that of an atom, as pictures with their numbers."
    from playwright.sync_api import sync_playwright

    row, options = facts(folder), ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader']
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which('chromium'), args=options)
        page = browser.new_page(viewport=dict(width=WIDTH, height=HEIGHT))
        page.set_default_timeout(120_000)
        for ending, at in (('', ''), ('_atom', f'atom/{atom}')):
            page.goto(f'file://{folder.resolve()}/index.html#/{at}')
            page.wait_for_selector('body.ready')
            page.wait_for_selector('.tiles' if at else '.row')
            page.wait_for_timeout(3000)  # for pictures to come
            pixels = round(page.evaluate(SMALLEST) * README_WIDTH / WIDTH, 2)
            stem = f'atlas_{name}{ending}'
            about = dict(name=stem, chapter='atlas', scale='laptop', source=row['source'], seeds=[0], rows=[],
                         params=dict(page=f'#/{at}', width=WIDTH, height=HEIGHT), smallest_text_px=pixels,
                         volatile=provenance('cpu'))
            shot, text = page.screenshot(), as_json(about, [row])
            write_together(figures, {f'{stem}.json': lambda path, text=text: path.write_text(text, encoding='utf-8'),
                                     f'{stem}.png': lambda path, shot=shot: path.write_bytes(shot)})
        browser.close()


ATOMS = dict(photos=1, text=155)  # whose pages are photographed


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('which', nargs='*', choices=('photos', 'text'), default=('photos', 'text'))
    p.add_argument('--out', type=Path, default=ROOT/'figures/atlas')
    p.add_argument('--models', type=Path)
    p.add_argument('--only-pictures', action='store_true')
    p.add_argument('--figures', type=Path, default=ROOT/'figures')
    args = p.parse_args()
    for name in args.which:
        if not args.only_pictures:
            print(globals()[name](args.out/name, args.models))
        photograph(args.out/name, name, ATOMS[name], args.figures)


if __name__ == '__main__':
    main()
