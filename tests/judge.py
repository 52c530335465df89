"""Gives hostile files to their readers in this process, and says what became of each: run by test_hostile.py and
soak/fuzz.py as a child, with limits that a reader that believes a file would hit.

    python tests/judge.py            all cases of hostile.py
    python tests/judge.py large      models of 70 MB, whole and with a NaN at the end

Each case answers with a line of JSON: name, reader, how it ended ('refused', 'accepted' or 'foreign'), what was said,
bytes of the files, bytes of memory beyond what was there before, seconds, and whether anything was executed."""
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import hostile  # noqa: E402

SECONDS = 60
COMMANDS = 'os.system', 'os.exec', 'os.posix_spawn', 'os.spawn', 'subprocess.Popen', 'pty.spawn', 'ctypes.dlopen'
HEARD = []


def listen(event, args):
    "Python tells of every command that is run."
    if event in COMMANDS:
        HEARD.append(event)


class TooLong(BaseException):
    pass


def give_up(*_):
    raise TooLong


def make_readers() -> dict:
    "Reader -> a function of a path."
    from functools import partial

    import archsae
    from archsae.core import mapped
    from archsae.files import read_json, read_tensors
    from archsae.pickles import read_torch
    from archsae.runs import read_checkpoint

    formats = [name for name in hostile.PARTS if name != 'checkpoint']
    return {name: partial(archsae.load, format=name) for name in formats} | dict(
        auto=archsae.load, torch=read_torch, modules=partial(read_torch, objects=True),
        mapped=partial(read_torch, mapped=True), json=read_json, safetensors=read_tensors, array=mapped,
        checkpoint=read_checkpoint)


def memory(line: str) -> int:
    "Bytes that the kernel tells of this process: VmHWM, the most so far, or VmRSS, now."
    for text in Path('/proc/self/status').read_text().splitlines():
        if text.startswith(line):
            return int(text.split()[1]) * 1024
    return 0


def forget_peak():
    "The most so far is what there is now."
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        pass


def size_of(path: Path) -> int:
    "Bytes of a file, or of the files in a folder, that are files."
    try:
        if path.is_dir():
            return sum(p.stat().st_size for p in path.rglob('*') if p.is_file())
        return path.stat().st_size if path.is_file() else 0
    except (OSError, ValueError):
        return 0


def judge(read, path: Path, says: str, missing: bool) -> tuple[str, str]:
    "How a reader answers."
    try:
        read(path)
    except ValueError as e:
        if type(e) is not ValueError:
            return 'foreign', f'{type(e).__name__}: {e}'
        if says not in str(e) or not str(e).isprintable() or len(str(e)) > 8000:
            return 'foreign', f'a message that does not name {says!r}, or cannot be shown: {str(e)[:300]!r}'
        return 'refused', str(e)
    except FileNotFoundError as e:
        return 'refused' if missing else 'foreign', f'FileNotFoundError: {e}'
    except TooLong:
        return 'foreign', f'no answer within {SECONDS} s'
    except BaseException as e:
        return 'foreign', f'{type(e).__name__}: {e}'
    return 'accepted', ''


def watched(read, path: Path, says: str, missing: bool, mark: Path) -> dict:
    "The same with what it took."
    forget_peak()
    before, start = memory('VmRSS'), time.perf_counter()
    signal.alarm(SECONDS)
    end, said = judge(read, path, says, missing)
    signal.alarm(0)
    found = dict(end=end, said=said[:400], bytes=size_of(path), memory=max(memory('VmHWM') - before, 0),
                 seconds=round(time.perf_counter() - start, 3), executed=mark.exists() or list(HEARD))
    mark.unlink(missing_ok=True)
    HEARD.clear()
    return found


def prepare(folder: Path, room: int = 2**31) -> tuple[dict, Path]:
    "Readers that have read something before, and limits: memory for `room` bytes more than there is, no large files."
    mark = folder/'mark'
    os.environ['HOSTILE_MARK'] = str(mark)
    warnings.simplefilter('ignore')
    signal.signal(signal.SIGALRM, give_up)
    readers = make_readers()
    bases = hostile.make_bases(folder/'bases')
    for name, base in bases.items():
        readers[name](base)
    good = hostile.good(folder)
    readers['torch'](good), readers['mapped'](good), readers['modules'](good)
    limit = memory('VmSize') + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))
    sys.addaudithook(listen)
    return (readers, bases), mark


def tell(name: str, reader: str, found: dict):
    print(json.dumps(dict(name=name, reader=reader) | found), flush=True)


def judge_large(folder: Path, readers: dict, mark: Path):
    "Every format with a model of 70 MB, then with a number in it that is none."
    import archsae
    from archsae.transcoder import SAEConfig, Transcoder

    sae = archsae.TopKSAE(512, 2**14, top_k=8)
    family = Transcoder(SAEConfig(d_model=512, expansion_factor=32, act_fn='topk', top_k=8, hook_point_in='in',
                                  norm_activation='inference', sparsity_include_decoder_norm=False))
    for name in ('archsae', 'saelens', 'dictionary_learning', 'sparsify', 'overcomplete', 'language-model-saes'):
        path = folder/name
        archsae.save(family if name == 'language-model-saes' else sae, path, format=name)
        tell('whole', name, watched(readers[name], path, path.name, False, mark))
        spoil(path/hostile.PARTS[name][1])
        tell('NaN at the end', name, watched(readers[name], path, path.name, False, mark))
        shutil.rmtree(path)


def spoil(weights: Path):
    "The last number of a file becomes one that is none."
    import torch

    if weights.suffix == '.safetensors':
        with open(weights, 'r+b') as f:
            f.seek(-4, os.SEEK_END)
            f.write(b'\xff\xff\xff\xff')
        return
    state = torch.load(weights)
    last = [v for v in state.values() if v.ndim == 2][-1]
    last[-1, -1] = float('nan')
    torch.save(state, weights)


def main():
    with tempfile.TemporaryDirectory() as t:
        (readers, bases), mark = prepare(Path(t))
        if 'large' in sys.argv:
            return judge_large(Path(t), readers, mark)
        for n, case in enumerate(hostile.cases(bases)):
            place = Path(t)/f'{n}'
            place.mkdir()
            path = case.make(place)
            tell(case.name, case.reader, watched(readers[case.reader], path, case.says, case.missing, mark))


if __name__ == '__main__':
    main()
