"""Caches and figures under real faults: damaged files, killed and competing processes, full and read-only disks.

Nothing is imitated: small disks are mounted, processes are killed with SIGKILL, system calls are refused by the kernel.
What needs root is left out where nobody is."""
import codecs
import contextlib
import ctypes
import errno
import json
import multiprocessing
import os
import platform
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time
import traceback
import warnings
from pathlib import Path
import numpy as np
import pytest
import torch
from safetensors.torch import save
from archsae.core import cache_folder, cached, memory_for_activations, rows_file, stored
from archsae.files import replacing

N, D = 20_000, 50  # 4 MB
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(['archsae.core', 'safetensors.torch', 'numpy', 'glob'])
NOBODY = 54321
KEYS = dict(n=N, d=D, name='rows')


# ---- what is stored, and how a process does it

def rows(start=0, n=N):
    "Rows that tell their own number."
    return torch.arange(start * D, n * D, dtype=torch.float32).view(-1, D).sqrt()


def blocks(start, size=1000, wait=0., log=None):
    for i in range(start, N, size):
        if log is not None:
            with open(log, 'a') as f:
                f.write(f'{os.getpid()} {i}\n')
        time.sleep(wait)
        yield rows(i, i + size)


def is_right(A):
    return tuple(A.shape) == (N, D) and bool((A == rows()).all())


def numbers():
    return {'a': rows(), 'b': torch.arange(7), 'c': torch.ones(3, dtype=torch.bfloat16)}


def slow_numbers(log):
    with open(log, 'a') as f:
        f.write(f'{os.getpid()}\n')
    time.sleep(.5)
    return numbers()


def same(found):
    return set(found) == set('abc') and all(torch.equal(v, found[name]) for name, v in numbers().items())


def store(wait=0., log=None, every=.02, size=1000):
    import archsae.core as core

    core.NOTE_EVERY = every
    return stored(lambda start: blocks(start, size, wait, log), **KEYS)


def remember(log=None):
    return cached(numbers if log is None else lambda: slow_numbers(log), 'numbers', n=1)


# ---- processes

def begin(answer, folder, prepare, work, arguments):
    "In a child: what `work` says, and what was warned of."
    torch.set_num_threads(1)
    answer.send('begun')
    try:
        os.environ['ARCHSAE_CACHE'] = str(folder)
        if prepare is not None:
            prepare()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter('always')
            found = work(**arguments)
        answer.send(('fine', found, [str(w.message) for w in said]))
    except BaseException as e:
        answer.send((type(e).__name__, f'{e}\n{traceback.format_exc()}', []))


class Child:
    "A real process that works on a cache folder."

    def __init__(self, work, folder, prepare=None, **arguments):
        self.ear, mouth = SERVER.Pipe(duplex=False)
        self.process = SERVER.Process(target=begin, args=(mouth, folder, prepare, work, arguments))
        self.process.start()
        mouth.close()
        assert self.ear.poll(60) and self.ear.recv() == 'begun'

    def answer(self, limit=60):
        "('fine', result, warnings), (kind of error, its text, []) or ('dead', exit code, [])."
        assert self.ear.poll(limit), 'a process that hangs'
        try:
            found = self.ear.recv()
        except EOFError:
            found = None
        self.process.join(limit)
        return found or ('dead', self.process.exitcode, [])

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(60)


def fine(child):
    how, found, said = child.answer()
    assert how == 'fine', found
    return found, said


def right_rows(**arguments):
    return is_right(store(**arguments))


def right_numbers(**arguments):
    return same(remember(**arguments))


def wait_until(holds, limit=30.):
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, 'waited in vain'
        time.sleep(.003)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('ARCHSAE_CACHE', str(tmp_path/'cache'))
    return tmp_path/'cache'


@pytest.fixture
def in_the_open():
    "A folder that other users come to; pytest's own are closed to them."
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def mount(*command):
    done = subprocess.run(['mount', *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f'mounting is not permitted here: {done.stderr.strip()}')


@pytest.fixture
def small_disk(tmp_path):
    "A disk of so many bytes."
    places = []

    def make(size, path=None):
        place = Path(path or tmp_path/f'disk{len(places)}')
        place.mkdir(exist_ok=True)
        mount('-t', 'tmpfs', '-o', f'size={size}', 'none', place)
        places.append(place)
        return place
    yield make
    for place in places:
        subprocess.run(['umount', '-l', str(place)])


def files(folder):
    return sorted(p.name for p in Path(folder).rglob('*') if p.is_file())


def the_file(folder, ending):
    found, = Path(folder).rglob(f'*{ending}')
    return found


def flip(path, bit):
    with open(path, 'r+b') as f:
        f.seek(bit // 8)
        byte = f.read(1)[0]
        f.seek(bit // 8)
        f.write(bytes([byte ^ 1 << bit % 8]))


# ---- damaged files

def emptied(path):
    os.truncate(path, 0)


def halved(path):
    os.truncate(path, path.stat().st_size // 2)


def cut_by_one(path):
    os.truncate(path, path.stat().st_size - 1)


def longer(path):
    with open(path, 'ab') as f:
        f.write(b'more')


def bit_in_front(path):
    flip(path, 8 * 70 + 3)


def bit_in_the_middle(path):
    flip(path, 4 * path.stat().st_size + 1)


def bit_at_the_end(path):
    flip(path, 8 * path.stat().st_size - 1)


def other_content(path):
    path.write_bytes(b'<html>not found</html>')


DAMAGES = [emptied, halved, cut_by_one, longer, bit_in_front, bit_in_the_middle, bit_at_the_end, other_content]


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('work, ending', [(right_rows, '.npy'), (right_numbers, '.safetensors')])
def test_a_damaged_file_is_named_set_aside_and_made_again(cache, damage, work, ending):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert work()
        assert work()
    path = the_file(cache, ending)
    was = path.read_bytes()
    damage(path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert work()
    assert [str(path) in str(w.message) for w in said] == [True], said
    assert path.read_bytes()[:4 * N * D] == was[:4 * N * D]
    assert files(cache) == [path.name, path.name + '.damaged']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert work()


def test_a_file_without_checksums_is_not_believed(cache):
    from safetensors.torch import save_file

    assert right_numbers()
    path = the_file(cache, '.safetensors')
    save_file({name: v + 1 for name, v in numbers().items()}, path)
    with pytest.warns(RuntimeWarning, match='it has no checksum'):
        assert right_numbers()


# ---- killed in the middle

def interrupted(cache, at=6):
    "The part that a killed process leaves, and the number of rows that its mark vouches for."
    child = Child(right_rows, cache, wait=.03)
    wait_until(lambda: [p for p in cache.rglob('*.rows') if p.stat().st_size] and marked(cache) >= at * 1000)
    child.kill()
    return the_file(cache, '.part'), marked(cache)


def marked(cache):
    return json.loads(the_file(cache, '.rows').read_text())['ends'][-1]


def test_a_killed_store_goes_on_where_it_was(cache, tmp_path):
    part, done = interrupted(cache)
    log = tmp_path/'log'
    found, said = fine(Child(right_rows, cache, log=str(log)))
    made = [int(line.split()[1]) for line in log.read_text().splitlines()]
    assert found and not said and made == list(range(done, N, 1000))
    assert files(cache) == [part.with_suffix('.npy').name]


def shortened(part, mark):
    os.truncate(part, part.stat().st_size // 5)


def flipped(part, mark):
    flip(part, 8 * (128 + 4 * D * 3500))


def mark_emptied(part, mark):
    mark.write_text('')


def mark_of_an_earlier_version(part, mark):
    mark.write_text('12000')


def mark_of_more(part, mark):
    said = json.loads(mark.read_text())
    mark.write_text(json.dumps(said | dict(ends=[N] * len(said['ends']))))


def mark_of_garbage(part, mark):
    mark.write_bytes(os.urandom(200))


def mark_of_others(part, mark):
    said = json.loads(mark.read_text())
    mark.write_text(json.dumps(said | dict(ends=[end + 1 for end in said['ends']])))


WORN = [shortened, flipped, mark_emptied, mark_of_an_earlier_version, mark_of_more, mark_of_garbage, mark_of_others]


@pytest.fixture(scope='module')
def left_behind(tmp_path_factory):
    "A cache folder with what a killed process left."
    folder = tmp_path_factory.mktemp('left')/'cache'
    interrupted(folder, at=8)
    return folder


@pytest.mark.parametrize('wear', WORN)
def test_a_damaged_part_is_believed_as_far_as_it_is_right(cache, left_behind, wear):
    shutil.copytree(left_behind, cache)
    part = the_file(cache, '.part')
    wear(part, part.with_suffix('.rows'))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert right_rows()
    assert len(said) == 1 and str(part.with_suffix('')) in str(said[0].message)
    assert files(cache) == [part.with_suffix('.npy').name]


def test_a_part_without_a_mark_is_made_again(cache, left_behind):
    shutil.copytree(left_behind, cache)
    the_file(cache, '.rows').unlink()
    assert right_rows() and files(cache) == [p.name for p in cache.rglob('*.npy')]


def test_a_killed_writer_leaves_nothing_that_is_read(cache):
    "Killed while it writes a file of `cached`, at several moments; the next one makes it, and clears up."
    for wait in (0., .002, .01, .03):
        child = Child(write_for_ever, cache)
        wait_until(lambda: list(cache.glob('.numbers*.part')))
        time.sleep(wait)
        child.kill()
    found, said = fine(Child(right_numbers, cache))
    assert found and not [s for s in said if 'damaged' not in s]
    assert all(name.endswith(('.safetensors', '.damaged')) for name in files(cache))


def write_for_ever():
    import archsae.core as core

    path = cache_folder()/f'numbers-{core.content_key(n=1)}.safetensors'
    while True:
        path.unlink(missing_ok=True)
        remember()


# ---- two at a time

def test_two_processes_do_the_work_once(cache, tmp_path):
    log, other = tmp_path/'log', tmp_path/'cached'
    for work, notes, arguments in ((right_rows, log, dict(wait=.05)), (right_numbers, other, {})):
        first = Child(work, cache, log=str(notes), **arguments)
        wait_until(notes.exists)  # it is in the middle of its work
        second = Child(work, cache, log=str(notes), **arguments)
        assert fine(first) == fine(second) == (True, [])
    assert len(log.read_text().splitlines()) == N // 1000
    assert len(other.read_text().splitlines()) == 1
    assert len(files(cache)) == 2


def with_a_child_that_stays(log):
    "Forks while it holds the lock, as a loader of data does."
    def work(start):
        if not os.fork():
            time.sleep(60)
            os._exit(0)
        yield from blocks(start, wait=.05, log=log)
    return is_right(stored(work, **KEYS))


def test_the_lock_of_a_killed_process_is_free_even_if_its_child_lives(cache, tmp_path):
    first = Child(with_a_child_that_stays, cache, log=str(tmp_path/'log'))
    wait_until(lambda: (tmp_path/'log').exists())
    second = Child(right_rows, cache)
    time.sleep(.3)
    assert not second.ear.poll()  # it waits
    first.kill()
    began = time.monotonic()
    assert fine(second)[0] and time.monotonic() - began < 20


def test_a_damaged_file_is_set_aside_once(cache):
    assert right_rows()
    path = the_file(cache, '.npy')
    bit_in_the_middle(path)
    answers = [fine(child) for child in [Child(right_rows, cache) for _ in range(3)]]
    assert all(found for found, _ in answers)
    assert sum(len(said) for _, said in answers) == 1
    assert files(cache) == [path.name, path.name + '.damaged']


# ---- system calls that a system does not have

CALLS = {'x86_64': dict(flock=73, fallocate=285), 'aarch64': dict(flock=32, fallocate=47)}


def refuse(call, error):
    "From now on the kernel answers a system call of this process with an error (seccomp)."
    number = CALLS[platform.machine()][call]
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error), (0x06, 0, 0, 0x7fff0000)]
    program = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
    filters = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(code), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, filters, 0, 0) == 0, os.strerror(ctypes.get_errno())


def no_locks():
    refuse('flock', errno.ENOLCK)


def no_reserving():
    refuse('fallocate', errno.EOPNOTSUPP)


needs_seccomp = pytest.mark.skipif(platform.system() != 'Linux' or platform.machine() not in CALLS,
                                   reason='system calls are refused by numbers of Linux')


@needs_seccomp
def test_without_locks_nobody_waits_and_all_is_right(cache):
    children = [Child(right_rows, cache, no_locks, wait=.01) for _ in range(2)]
    children += [Child(right_numbers, cache, no_locks) for _ in range(2)]
    assert all(fine(child)[0] for child in children)
    assert fine(Child(right_rows, cache)) == (True, [])
    assert [name for name in files(cache) if not name.endswith('.lock')] == sorted(
        p.name for ending in ('npy', 'safetensors') for p in cache.rglob(f'*.{ending}'))


@needs_seccomp
def test_where_room_cannot_be_reserved_a_full_disk_is_an_error(cache, small_disk):
    disk = small_disk('6m')
    assert fine(Child(right_rows, disk, no_reserving))[0]
    how, why, _ = Child(other_rows, disk, no_reserving).answer()
    assert how == 'OSError' and 'cache folder: expected 4.0 MB of free disk' in why and str(disk) in why
    other = small_disk('6m')
    child = Child(other_rows, other, no_reserving, wait=.03)
    wait_until(lambda: list(other.rglob('*.part')) and the_file(other, '.part').stat().st_size > 4 * D)
    fill(other)
    how, why, _ = child.answer()
    assert how == 'OSError' and 'of free disk for the rest of' in why and str(other) in why
    (other/'filler').unlink()
    assert fine(Child(other_rows, other, no_reserving))[0]  # from where it was


# ---- disks that are too small

def test_two_stores_on_a_small_disk(small_disk, tmp_path):
    "One of them gets its room, the other a clear error before it has computed a row; nobody dies of SIGBUS."
    disk = small_disk('6m')
    first = Child(right_rows, disk, wait=.05, log=str(tmp_path/'first'))
    wait_until((tmp_path/'first').exists)
    how, why, _ = Child(other_rows, disk, log=str(tmp_path/'other')).answer()
    assert how == 'OSError' and not (tmp_path/'other').exists()
    assert fine(first)[0]
    assert f'cache folder: expected 4.0 MB of free disk for {N} rows of {D} numbers' in why and str(disk) in why
    assert '$ARCHSAE_CACHE names another folder' in why
    assert len(files(disk)) == 1  # nothing is left of the other


def other_rows(wait=0., log=None):
    return is_right(stored(lambda start: blocks(start, wait=wait, log=log), N, D, 'others'))


def fill(disk, leave=0):
    "Take all room of a disk but so many bytes."
    with contextlib.suppress(OSError), open(disk/'filler', 'wb', buffering=0) as f:
        while True:
            f.write(bytes(2**16 if shutil.disk_usage(disk).free > 2**17 else 4096))
    if leave:
        os.truncate(disk/'filler', (disk/'filler').stat().st_size - leave)


def test_a_disk_that_fills_up_meanwhile_does_not_touch_reserved_room(small_disk):
    disk = small_disk('6m')
    child = Child(right_rows, disk, wait=.03)
    wait_until(lambda: list(disk.rglob('*.part')) and the_file(disk, '.part').stat().st_size > 4 * N * D)
    fill(disk)
    assert fine(child)[0]


def test_what_cannot_be_kept_is_not_lost(small_disk):
    "`cached` on a disk that is too small: the result, one warning, no part left behind."
    disk = small_disk('1m')
    fill(disk, leave=40_000)
    found, said = fine(Child(right_numbers, disk))
    assert found and len(said) == 1 and 'could not be written' in said[0] and str(disk) in said[0]
    assert files(disk) == ['filler']


def test_a_damaged_file_makes_room_for_the_new_one(small_disk):
    disk = small_disk('6m')
    assert fine(Child(right_rows, disk))[0]
    path = the_file(disk, '.npy')
    bit_in_the_middle(path)
    found, said = fine(Child(right_rows, disk))
    assert found and len(said) == 1 and files(disk) == [path.name]


# ---- nowhere to write

def both():
    "Whether both ways to keep something give the right numbers, twice; and where they would be."
    right = [right_rows(), right_numbers(), right_rows(), right_numbers()]
    return all(right), str(cache_folder())


def no_home():
    del os.environ['ARCHSAE_CACHE']
    os.environ.pop('HOME', None)
    os.environ.pop('XDG_CACHE_HOME', None)
    become_nobody()


def become_nobody():
    codecs.lookup('utf-8-sig')  # Python itself, and what is imported late, may stand where nobody else may read
    save({'nothing': torch.zeros(1)})
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


is_root = hasattr(os, 'getuid') and os.getuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason='only root may become somebody else')


def goes_without(child):
    "One warning, before any work; a folder that is gone afterwards."
    (right, place), said = fine(child)
    assert right and len(said) == 1 and said[0].startswith('no cache: '), said
    assert not Path(place).exists()
    return said[0], place


def test_the_variable_names_a_file(cache):
    cache.write_text('here first')
    said, place = goes_without(Child(both, cache))
    assert str(cache) in said and place in said
    assert cache.read_text() == 'here first'


@needs_root
def test_no_home():
    said, _ = goes_without(Child(both, '', no_home))
    assert '~/.cache/archsae' in said


@needs_root
def test_a_folder_of_another_user(in_the_open):
    cache = in_the_open/'cache'
    cache.mkdir()
    cache.chmod(0o755)
    said, _ = goes_without(Child(both, cache, become_nobody))
    assert 'Permission denied' in said and not files(cache)
    cache.chmod(0o700)  # which may not even be looked into
    goes_without(Child(both, cache, become_nobody))
    assert fine(Child(right_rows, cache)) == (True, []) and fine(Child(right_numbers, cache)) == (True, [])
    cache.chmod(0o755)
    (right, _), said = fine(Child(both, cache, become_nobody))  # what the other made is read
    assert right and len(said) == 1
    bit_in_the_middle(the_file(cache, '.npy'))
    (right, _), said = fine(Child(both, cache, become_nobody))  # but for what is damaged
    assert right and len(said) == 2 and str(cache) in said[1] and 'not used' in said[1]


def test_a_disk_that_is_only_read(cache, tmp_path, small_disk):
    disk = small_disk('20m')
    assert fine(Child(right_numbers, disk))[0]
    mount('-o', 'remount,ro', disk)
    said, _ = goes_without(Child(both, disk))
    assert 'Read-only file system' in said
    assert len(files(disk)) == 1


def test_no_place_at_all(cache):
    "Not even for temporary files: what fits into memory is computed, the rest says why not."
    cache.write_text('')
    assert fine(Child(right_numbers, cache, no_temporary))[0]
    how, why, _ = Child(right_rows, cache, no_temporary).answer()
    assert how == 'FileNotFoundError' and 'No usable temporary directory' in why


def no_temporary():
    tempfile.tempdir = None
    os.environ.update(TMPDIR='/nowhere', TEMP='/nowhere', TMP='/nowhere')
    os.chdir('/proc')
    tempfile._candidate_tempdir_list = lambda: ['/proc', '/nowhere']


# ---- modes and names

@pytest.mark.parametrize('mask, mode', [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_modes_follow_the_umask(cache, tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        assert right_rows() and right_numbers()
        with replacing(tmp_path/'any.txt') as part:
            part.write_text('')
    finally:
        os.umask(before)
    for path in (the_file(cache, '.npy'), the_file(cache, '.safetensors'), tmp_path/'any.txt'):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('ARCHSAE_CACHE', '~/here')
    assert cache_folder('rows') == tmp_path/'here/rows'
    assert rows_file(N, D, 'rows').parent == tmp_path/'here/rows'
    monkeypatch.delenv('ARCHSAE_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', '~/there')
    assert cache_folder() == tmp_path/'there/archsae'
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert cache_folder() == tmp_path/'.cache/archsae'


# ---- memory

def test_the_limit_of_a_container_counts(cache):
    "A control group with less memory than the machine, as containers have it."
    top = next((p for p in map(Path, ('/sys/fs/cgroup/memory', '/sys/fs/cgroup')) if p.is_dir()), None)
    if top is None:
        pytest.skip('no control groups here')
    own = top/f'archsae-test-{os.getpid()}'
    limit = own/('memory.limit_in_bytes' if top.name == 'memory' else 'memory.max')
    try:
        own.mkdir()
        limit.write_text(str(2**30))
    except OSError as e:
        with contextlib.suppress(OSError):
            own.rmdir()
        pytest.skip(f'no control group can be made here: {e}')
    try:
        found, _ = fine(Child(memory_inside, cache, group=str(own)))
        assert found == 2**29
    finally:
        wait_until(lambda: not (own/'cgroup.procs').read_text())
        own.rmdir()


def memory_inside(group):
    os.environ.pop('ARCHSAE_MEMORY', None)
    (Path(group)/'cgroup.procs').write_text(str(os.getpid()))
    return memory_for_activations()


# ---- figures

def draw(value, size=3):
    import matplotlib.pyplot as plt
    from archsae.book.scales import save_figure

    fig, ax = plt.subplots(figsize=(size, size))
    ax.imshow(np.random.default_rng(value).random((100, 100)))
    try:
        return save_figure(fig, 'full_disk', [dict(x=value)], chapter='scales', scale='smoke')
    finally:
        plt.close(fig)


def test_a_full_disk_keeps_the_old_picture_and_its_numbers(small_disk, monkeypatch):
    disk = small_disk('2m')
    monkeypatch.setenv('ARCHSAE_FIGURES', str(disk))
    monkeypatch.delenv('IN_TEST', raising=False)
    png = draw(1)
    before = {name: (disk/name).read_bytes() for name in files(disk)}
    assert set(before) == {'full_disk.png', 'full_disk.json'}
    fill(disk)
    with pytest.raises(OSError):
        draw(2)
    assert files(disk) == ['filler', 'full_disk.json', 'full_disk.png']
    assert {name: (disk/name).read_bytes() for name in before} == before
    os.truncate(disk/'filler', (disk/'filler').stat().st_size - png.stat().st_size - 8192)  # for the picture only
    fill(disk, leave=png.stat().st_size + 4096 - 4096 * (png.stat().st_size % 4096 == 0))
    with contextlib.suppress(OSError):
        draw(2)
    told = json.loads((disk/'full_disk.json').read_text())['rows'][0]['x']
    assert told in (1, 2) and (png.read_bytes() == before['full_disk.png']) == (told == 1)
    (disk/'filler').unlink()
    assert draw(2) == png and png.read_bytes() != before['full_disk.png']


def test_a_killed_figure_is_the_old_one_or_the_new_one(cache, tmp_path):
    for wait in (0., .05, .1):
        child = Child(draw_for_ever, cache, figures=str(tmp_path))
        wait_until(lambda: (tmp_path/'full_disk.json').exists())
        time.sleep(wait)
        child.kill()
        json.loads((tmp_path/'full_disk.json').read_text())
        raw = (tmp_path/'full_disk.png').read_bytes()
        assert raw.startswith(b'\x89PNG') and raw.endswith(b'IEND\xaeB`\x82')


def draw_for_ever(figures):
    os.environ['ARCHSAE_FIGURES'] = figures
    os.environ.pop('IN_TEST', None)
    value = 1
    while True:
        draw(value, 2)
        value += 1
