"""Compare with `sae_lens` itself, in an environment that has it, and write tests/peers/exchange_saelens.json:

    python tests/peers/compare_saelens.py tests/peers/exchange_saelens.json
"""
import json
import sys
import tempfile
import warnings
from pathlib import Path
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from saelens_cases import READ, WRITE, inputs, write_case  # noqa: E402

from archsae.checkpoints import load_saelens, save_saelens  # noqa: E402


def their_load(folder):
    "The SAE that sae_lens makes of a folder; None if it does not take it, or cannot run it, whatever it raises."
    from sae_lens import SAE

    try:
        sae = SAE.load_from_disk(str(folder))
        their_answers(sae, inputs(1).to(sae.dtype))
    except Exception:
        return None
    return sae


@torch.no_grad()
def their_answers(sae, x):
    "Codes and reconstructions, with heads apart where the SAE wants them so."
    if sae.cfg.reshape_activations == 'hook_z':
        x = x.view(len(x), 4, -1)
    codes = sae.encode(x)
    return codes, sae.decode(codes).flatten(1)


@torch.no_grad()
def our_answers(model, x):
    "Codes and reconstructions on raw activations."
    from archsae.sae import SAE

    scale = model.standardisation
    seen = x if scale is None else model.from_raw(x)
    if not isinstance(model, SAE):
        return model.encode(seen), model(seen)
    _, codes, x_hat = model(seen)
    return codes, x_hat if scale is None else x_hat * scale[1] + scale[0]


def apart(ours, theirs) -> float:
    "The largest difference over the largest number."
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30)).item()


def differences(ours, theirs) -> dict:
    "Of (codes, outputs): relative differences, and how many codes are active in one only."
    flipped = int(((ours[0] != 0) != (theirs[0] != 0)).sum())
    active = (theirs[0] != 0).double().sum(1).mean().item()
    return dict(codes=apart(ours[0], theirs[0]), outputs=apart(ours[1], theirs[1]), flipped=flipped,
                active=round(active, 2))


def our_load(folder):
    "Our model of a folder, or the message why not; any other exception is let through."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return load_saelens(folder), None
    except ValueError as e:
        return None, str(e).removeprefix(f'{folder}/')


def about(sae) -> dict:
    "Metadata, without the versions, which say who wrote the file last."
    return {name: value for name, value in sae.cfg.metadata.to_dict().items() if not name.startswith('sae_lens_')}


def compare_read(name: str, folder: Path) -> dict:
    "A folder of SAELens, loaded by both; and what is left of it after our writer."
    write_case(folder, name)
    theirs, (ours, message) = their_load(folder), our_load(folder)
    row = dict(case=name, sae_lens='refused' if theirs is None else type(theirs).__name__,
               archsae=message or ours.cfg.act_fn)
    if theirs is None or ours is None:
        return row
    x = inputs().to(theirs.dtype)
    want = their_answers(theirs, x)
    row |= differences(our_answers(ours, x), want)
    again = their_load(save_saelens(ours, folder/'again'))
    back = differences(their_answers(again, x), want)
    return row | dict(back_codes=back['codes'], back_outputs=back['outputs'], metadata=about(again) == about(theirs))


def compare_write(name: str, folder: Path) -> dict:
    "A model of ours, written, loaded by sae_lens, and by ourselves again."
    model = WRITE[name]()
    theirs = their_load(save_saelens(model, folder, metadata=dict(exclude_special_tokens=True)))
    if theirs is None:
        return dict(case=name, sae_lens='refused')
    again = load_saelens(folder)
    x = inputs().to(theirs.dtype)
    if model.standardisation is not None:
        x = x * 2 + 3
    want, row = our_answers(model, x), dict(case=name, sae_lens=type(theirs).__name__)
    codes, outputs = their_answers(theirs, x)
    if 'up to norms' in name:
        gate = model.gates()
        want = want[0] * gate, want[1]
    row |= differences((codes, outputs), want)
    back = differences(our_answers(again, x), want)
    kept = about(theirs) | dict(archsae=None)
    wanted = dict(model.record.get('metadata', {}))
    return row | dict(back_codes=back['codes'], back_outputs=back['outputs'],
                      metadata=all(kept.get(key) == value for key, value in wanted.items())
                      and kept['exclude_special_tokens'] is True)


def main(path: str):
    import sae_lens

    from archsae import __version__

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        read = [compare_read(name, Path(work)/f'r{i}') for i, name in enumerate(READ)]
        write = [compare_write(name, Path(work)/f'w{i}') for i, name in enumerate(WRITE)]
    numbers = dict(
        about='The same folders of SAELens loaded by sae_lens and by archsae, and models of archsae loaded by '
              'sae_lens: largest relative difference of codes and outputs, and codes active in one only. '
              'back_: after one way there and back.',
        versions=dict(sae_lens=sae_lens.__version__, archsae=__version__, torch=torch.__version__),
        device='cpu', rows=len(inputs()), read=read, write=write)
    Path(path).write_text(json.dumps(numbers, indent=1) + '\n')
    for row in read + write:
        shown = [f'{v:.1e}' if isinstance(v, float) and key != 'active' else str(v)[:70] for key, v in row.items()]
        print(' | '.join(shown))


if __name__ == '__main__':
    main(sys.argv[1])
