"What two libraries agree on, case by case: printed, and written beside the script that asked."
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import torch

LARGEST = 2e-5  # difference of numbers around 1 that float32 explains


class Report:
    "Rows of one script; `package` is the library's name on PyPI."

    def __init__(self, script: str, package: str):
        self.path = Path(script).with_suffix('.json')
        self.package = package
        self.rows = []

    def compare(self, name: str, theirs: tuple, ours: tuple):
        "Whether (codes, reconstructions) of both are the same: what is active to the last one, numbers to rounding."
        away = max((a - b).abs().max().item() for a, b in zip(theirs, ours))
        same = bool(((theirs[0] != 0) == (ours[0] != 0)).all())
        active = round((theirs[0] != 0).sum(1).float().mean().item(), 2)
        self.add(name, same and away < LARGEST, same_support=same, largest_difference=away, active=active)

    def add(self, name: str, holds: bool, **facts):
        self.rows.append(dict(case=name, holds=holds) | facts)
        print(json.dumps(self.rows[-1]))

    def close(self):
        "Write the table and end, with an error if a case did not hold."
        held = sum(row['holds'] for row in self.rows)
        versions = dict(python=platform.python_version(), torch=torch.__version__)
        versions[self.package] = importlib.metadata.version(self.package)
        table = dict(cases=len(self.rows), hold=held, versions=versions, rows=self.rows)
        if '--write' in sys.argv:
            self.path.write_text(json.dumps(table, indent=1) + '\n')
        print(f'{held} of {len(self.rows)} agree')
        sys.exit(held < len(self.rows))
