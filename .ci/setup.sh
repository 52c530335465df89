#!/bin/sh
# setup.sh PYTHON VENV READY: a virtual environment with archsae and its dev extra in it; the file READY says that it is done, and for which settings
set -eu
python=$1 venv=$2 ready=$3

# nbdev_export writes pyproject.toml anew without changing it: what counts is what is in the files, not when they were written
now=$(cat settings.ini setup.py pyproject.toml | cksum)
if [ -f "$ready" ] && [ "$(cat "$ready")" = "$now" ] && "$venv/bin/python" -c '' 2>/dev/null; then touch "$ready"; exit 0; fi

command -v "$python" >/dev/null 2>&1 || { echo "set-up: no '$python' here; install Python 3.11 or newer, or call make PYTHON=/path/to/python" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "set-up: expected Python 3.11 or newer; got $("$python" -V 2>&1) ('$python'); call make PYTHON=/path/to/python3.11" >&2; exit 1; }

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    echo "set-up: creating $venv with $("$python" -V 2>&1)"
    [ -e "$venv" ] && was=yes || was=no
    if ! "$python" -m venv "$venv"; then
        [ "$was" = yes ] || rm -rf "$venv"  # half an environment is worse than none
        echo "set-up: '$python -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1
    fi
fi
echo "set-up: installing archsae and what it needs into $venv (once; about 5 GB and a few minutes on a fast line)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[dev]'
# a browser for tests/test_atlas.py, where that takes no more than asking; without one these tests are skipped
if ! command -v chromium >/dev/null 2>&1 && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get install --yes --quiet --no-install-recommends chromium >/dev/null 2>&1 ||
        echo "set-up: no chromium could be installed; the tests of atlases in a browser will be skipped"
fi
echo "$now" > "$ready"
echo "set-up: done"
