"""Every public function takes what is right in any form, and names what is not (see inputs.py and table.py).

The walk runs in a process of its own, without the shapes that the other tests check: a call with a bad value has to
be refused by the function itself."""
import json
import os
import subprocess
import sys
from pathlib import Path
import pytest
import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def test_the_table_has_every_public_function():
    missing = [name for name in table.public() if not table.covered(name)]
    assert not missing, f'tests/table.py has no entry for {", ".join(missing)}'


def test_the_table_has_nothing_else():
    names = {name.split(' ')[0] for name in table.CASES}
    gone = [name for name in names if not exists(name)]
    assert not gone, f'tests/table.py has entries for what is not there: {", ".join(gone)}'


def exists(name: str) -> bool:
    where, *path = name.split('.')
    thing = table.module(where)
    for part in path:
        thing = getattr(thing, part, None)
    return thing is not None


def test_the_walk_is_wide():
    assert len(table.CASES) >= 60


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    "What is wrong with each function: an argument, a value, and what became of it."
    target = tmp_path_factory.mktemp('walk')/'found.json'
    ours = ('PYTHONPATH', 'IN_TEST', 'ARCHSAE_FIGURES', 'ARCHSAE_CHECK_SHAPES')
    env = {name: value for name, value in os.environ.items() if name not in ours}
    command = [sys.executable, HERE/'table.py', '--json', target]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert target.exists(), done.stderr[-2000:]
    return json.loads(target.read_text())


@pytest.mark.parametrize('where', table.MODULES)
def test_arguments(where, found):
    wrong = [f'{name}: {argument} = {label}: {said}' for name, said_of in found.items()
             if name.split('.')[0] == where for argument, label, said in said_of]
    assert not wrong, '\n'.join(wrong[:40])
