"""The book's docstrings say `name : what it is` on one line; numpydoc reads a type there. For the site the words go
beneath the name; types are in the signature."""
import griffe
from pages import rewritten  # hooks.py has imported it


class Words(griffe.Extension):
    "Rewrites docstrings as they are read."

    def on_object(self, *, obj, **more):
        if obj.docstring and not obj.is_alias:
            returns = str(obj.returns or '') if obj.is_function else ''
            obj.docstring.value = rewritten(obj.docstring.value, returns)
