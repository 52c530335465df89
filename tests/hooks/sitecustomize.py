"On the path of the processes that test notebooks: shapes are checked there too (tests/shapes.py)."
import os
import sys

if os.environ.get('ARCHSAE_CHECK_SHAPES'):
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path.append(here)
    import shapes

    shapes.install()
