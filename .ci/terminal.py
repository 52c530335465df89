"""What the terminal says: the ```console blocks of notebooks, recorded anew by running their commands.

With --check: run them, compare all but the numbers, print the difference and end with 1 if there is one."""
import contextlib
import difflib
import io
import json
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from archsae.files import replacing

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r'```console\n(.*?)```', re.S)
NOTEBOOKS = ('quickstart', 'index')


def said(command: str) -> str:
    "What a command of archsae says, notes among it."
    from archsae.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(shlex.split(command)[1:] + (['--no-progress'] if ' fit ' in command else []))
    if code:
        raise RuntimeError(f'{command}: ended with {code}: {out.getvalue()}')
    return out.getvalue()


def recorded(block: str) -> str:
    "A block with its commands, and what they say now."
    lines = []
    for command in re.findall(r'^\$ (archsae .*)$', block, re.M):
        lines += [f'$ {command}', said(command).rstrip(), '']
    return '\n'.join(line.rstrip() for line in '\n'.join(lines).strip().splitlines()) + '\n'


def skeleton(block: str) -> list:
    "The lines without their numbers and units of time, which depend on machine and clock, nor the number of spaces."
    numberless = (re.sub(r'-?\d[\d,.]*( (s|min|h)\b)?', '#', line) for line in block.splitlines())
    return [re.sub(r'\s+', ' ', line).strip() for line in numberless]


def main(check: bool) -> int:
    os.environ['NO_COLOR'] = '1'
    wrong, known = 0, {}
    for name in NOTEBOOKS:
        path = ROOT/f'nbs/{name}.ipynb'
        nb = json.loads(path.read_text(encoding='utf-8'))
        for cell in nb['cells']:
            text = ''.join(cell['source'])
            found = BLOCK.search(text) if cell['cell_type'] == 'markdown' else None
            if not found:
                continue
            old = found[1]
            commands = tuple(re.findall(r'^\$ .*$', old, re.M))
            if commands not in known:
                with contextlib.chdir(tempfile.mkdtemp()):
                    known[commands] = recorded(old)
            new = known[commands]
            diff = list(difflib.unified_diff(skeleton(old), skeleton(new), f'{name}.ipynb', 'now', lineterm=''))
            if check and diff:
                print('\n'.join(diff))
                wrong = 1
            cell['source'] = text.replace(old, new).splitlines(True)
        if not check:
            with replacing(path) as part:
                part.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
    return wrong


if __name__ == '__main__':
    sys.exit(main('--check' in sys.argv[1:]))
