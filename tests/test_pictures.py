"What holds for the pictures in figures/: they can be read in README, and can be drawn again from their numbers."
import json
import re
import shutil
import sys
import pytest
from conftest import ROOT
from archsae.book.scales import LEAST_TEXT

FIGURES = sorted(path for path in (ROOT/'figures').glob('*.json') if path.stem != 'claims')
# Drawn before the rule, and not since: names leave this list, none enters it.
NOT_YET = set('''
distillation_large
vision_tokens
'''.split())


def smallest(path):
    return json.loads(path.read_text(encoding='utf-8')).get('smallest_text_px')


@pytest.mark.parametrize('path', FIGURES, ids=lambda p: p.stem)
def test_text_can_be_read_at_the_width_of_readme(path):
    if path.stem in NOT_YET:
        pytest.skip('drawn before the rule')
    assert smallest(path) is not None, f'{path.stem}: draw it again, or from its numbers (make redraw)'
    assert smallest(path) >= LEAST_TEXT


def test_pictures_that_keep_the_rule_leave_the_list():
    there = {path.stem: smallest(path) for path in FIGURES}
    fine = [name for name in NOT_YET if (there.get(name) or 0) >= LEAST_TEXT]
    assert not fine, f'now legible: {sorted(fine)}'


def redrawable():
    "Names of the committed figures whose notebook can draw them from their rows."
    sources = [path.read_text(encoding='utf-8') for path in (ROOT/'nbs').glob('*.ipynb')]
    found = {name for source in sources for name in re.findall(r'def picture_(\w+)\(rows, params\)', source)}
    return sorted(found & {path.stem for path in FIGURES} - NOT_YET)


def test_a_picture_is_drawn_again_from_its_numbers(shell, tmp_path):
    "All of them: the numbers stay as they are to the byte, and so does the picture where nothing about it changed."
    names = redrawable()
    assert len(names) >= 5
    for name in names:
        for kind in ('json', 'png'):
            shutil.copy(ROOT/f'figures/{name}.{kind}', tmp_path)
    r = shell('python', ROOT/'.ci/redraw.py', *names, '--figures', tmp_path, cwd=ROOT)
    assert r.returncode == 0, r.stdout + r.stderr
    for name in names:
        before, after = (json.loads((folder/f'{name}.json').read_text(encoding='utf-8'))
                         for folder in (ROOT/'figures', tmp_path))
        assert before.pop('smallest_text_px', None) in (None, after['smallest_text_px'])
        assert after.pop('smallest_text_px') >= LEAST_TEXT and after == before
        assert (tmp_path/f'{name}.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('drawing, says', [
    ('def picture_x(rows, params):\n    return scale', 'it uses the parameter scale'),
    ('def picture_y(rows, params):\n    return 1', 'expected a figure whose notebook defines picture_x'),
])
def test_a_drawing_of_more_than_its_rows_is_refused(drawing, says, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT/'.ci'))
    import redraw

    cells = [dict(cell_type='code', source="scale = 'smoke'", metadata=dict(tags=['parameters'])),
             dict(cell_type='code', source=drawing, metadata={})]
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs/01_x.ipynb').write_text(json.dumps(dict(cells=cells)))
    monkeypatch.setattr(redraw, 'ROOT', tmp_path)
    with pytest.raises(ValueError, match=says):
        redraw.drawing_of('x')
    sys.modules.pop('redraw')


def test_only_what_a_drawing_needs_is_run(tmp_path, monkeypatch):
    "Constants and functions, whatever the names of local variables; nothing that was computed."
    monkeypatch.syspath_prepend(str(ROOT/'.ci'))
    import redraw

    code = ['import math\nrows = 1 / 0', 'COLOR = 3', 'def helper(rows):\n    return COLOR + math.floor(rows[0])',
            'def picture_x(rows, params):\n    ax = [helper(rows) for rows in [rows]]\n    return ax[0]', 'ax = 1 / 0']
    (tmp_path/'nbs').mkdir()
    cells = [dict(cell_type='code', source=source, metadata={}) for source in code]
    (tmp_path/'nbs/01_x.ipynb').write_text(json.dumps(dict(cells=cells)))
    monkeypatch.setattr(redraw, 'ROOT', tmp_path)
    draw, path = redraw.drawing_of('x')
    assert draw([4.5], {}) == 7 and path.name == '01_x.ipynb'
    sys.modules.pop('redraw')
