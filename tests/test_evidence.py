"""What every number of the book must come with: held-out images, both nulls, living and dead atoms.

A stability is read against what dictionaries reach that learned nothing (random numbers, random rows of the data),
against its value before training, and beside the share of atoms that never fire; an R² beside that of images that
nothing was trained on. Here every row of every committed figure is asked for these columns; where a number does not
apply, the row says None.
"""
import json

import pytest

OF_STABILITY = {'stability_null', 'stability_null_rows', 'stability_alive', 'dead', 'r2', 'r2_held_out'}
OF_R2 = {'r2_held_out', 'dead'}
LEFT_OUT = {  # figure -> why its rows lack columns; only what is listed may lack any, and only for as long as it does
    'distillation_kmeans': 'points alone: no atom that could die, and which rows they were fitted to is the subject',
    'distillation_large': 'points alone: no atom that could die',
    'stability_matching': 'dictionaries made by hand: nothing was trained',
    'table1_methods': 'its rows of the paper have what the paper prints',
    'table1_methods.minilm': 'the same',
    'table1_methods.vit': 'the same',
    'training_curves': 'the training itself, epoch by epoch, on the tokens that it sees; the axis says so',
}


def missing(row: dict) -> set:
    "The columns that a row lacks."
    needed = set()
    if row.get('stability') is not None:
        needed |= OF_STABILITY
    if row.get('r2') is not None:
        needed |= OF_R2
    return needed - set(row)


def lacking(root) -> dict:
    "Figure -> the columns that some of its rows lack."
    found = {}
    for path in sorted((root/'figures').glob('*.json')):
        content = json.loads(path.read_text(encoding='utf-8'))
        if isinstance(content, dict):
            found[path.stem] = set().union(*(missing(row) for row in content['rows']))
    return found


@pytest.mark.parametrize('row, lacks', [
    (dict(arm='topk', r2=.9), OF_R2),
    (dict(arm='topk', r2=None), set()),
    (dict(arm='topk', r2=.9, r2_held_out=None, dead=None), set()),
    (dict(pair='0-1', stability=.5), OF_STABILITY),
])
def test_missing(row, lacks):
    assert missing(row) == lacks


def test_every_row_has_its_controls(root):
    found = {name: columns for name, columns in lacking(root).items() if columns and name not in LEFT_OUT}
    assert not found, '\n'.join(f'{name}: {sorted(columns)}' for name, columns in found.items())


def test_what_is_left_out_still_lacks_columns(root):
    found = lacking(root)
    assert {name for name in LEFT_OUT if not found.get(name)} == set()


