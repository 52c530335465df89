"""A thousand hostile files and folders, each given to the reader that it is made for, in a child process with limits:
nothing is run, each is answered by one ValueError that names the file, and no answer takes much memory."""
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not os.path.exists('/proc/self/clear_refs'), reason='memory is read from /proc')
FLOOR = 64 * 2**20  # bytes of memory that a file of any size may take
LEAST = 160


def run_judge(*how):
    "What became of each case, by judge.py."
    script = Path(__file__).with_name('judge.py')
    env = dict(os.environ, OMP_NUM_THREADS='1')
    for name in ('ARCHSAE_CHECK_SHAPES', 'PYTHONPATH'):  # the readers as a user has them
        env.pop(name, None)
    done = subprocess.run([sys.executable, script, *how], capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope='module')
def judged():
    return run_judge()


def named(rows):
    return [f"{row['reader']}: {row['name']}: {row['end']}: {row['said'][:200]}" for row in rows]


def test_there_are_many_of_every_kind(judged):
    assert len({(row['reader'], row['name']) for row in judged}) == len(judged) > 5 * LEAST
    readers = Counter(row['reader'] for row in judged)
    assert len(readers) == 15 and min(readers.values()) >= 10


def test_nothing_was_run(judged):
    assert not named(row for row in judged if row['executed'])


def test_each_is_answered_by_one_error_that_names_the_file(judged):
    assert not named(row for row in judged if row['end'] == 'foreign')


def test_none_is_taken_for_a_model(judged):
    assert not named(row for row in judged if row['end'] == 'accepted')


def test_memory_stays_within_three_times_the_files(judged):
    assert not named(row for row in judged if row['memory'] > 3 * row['bytes'] + FLOOR)


def test_no_answer_takes_long(judged):
    assert not named(row for row in judged if row['seconds'] > 30)


def test_models_of_70_megabytes_take_three_times_that_at_most():
    "The file and the model are in memory, and a part of one of them again; what is refused takes no more."
    judged = run_judge('large')
    assert len(judged) == 12 and min(row['bytes'] for row in judged) > 6e7
    assert not named(row for row in judged if row['memory'] > 3 * row['bytes'])
    assert not named(row for row in judged if row['end'] != ('accepted' if row['name'] == 'whole' else 'refused'))


def test_the_long_run_met_nothing_else():
    "The committed result of soak/fuzz.py: a hundred thousand damaged files, for every reader."
    told = json.loads((Path(__file__).parent/'soak/fuzz.json').read_text())
    assert told['cases'] >= 10**5 and len(told['readers']) >= 13
    assert min(row['refused'] for row in told['readers'].values()) > 5000
    assert told['foreign'] == told['executed'] == told['crashes'] == 0
    assert told['largest_memory_beyond_three_files_bytes'] < FLOOR
