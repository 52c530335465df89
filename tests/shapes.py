"""Every shape that is written in a signature of archsae is checked while the tests run.

`install()` wraps the functions and methods of each module of archsae when it is imported. A call that returns must
have had the shapes that its annotations tell: `Float[Tensor, 'n d']` of two arguments means the same n. A call that
raises is left alone, since saying what was wrong is the function's own business."""
import functools
import importlib.abc
import inspect
import sys
import types
import typing


class ShapeError(AssertionError):
    "A call whose tensors do not have the shapes that its signature tells."


def _is_shape(annotation) -> bool:
    from jaxtyping import AbstractArray

    return isinstance(annotation, type) and issubclass(annotation, AbstractArray)


def _options(annotation) -> list:
    "The shapes among the alternatives of an annotation."
    if _is_shape(annotation):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [a for a in typing.get_args(annotation) if _is_shape(a)]
    return []


def _pairs(annotation, value):
    "Tensors of a value, each with the shapes that it may have."
    import torch

    if isinstance(value, torch.Tensor):
        options = _options(annotation)
        if options:
            yield options, value
    elif typing.get_origin(annotation) is tuple and isinstance(value, tuple):
        parts = typing.get_args(annotation)
        if len(parts) == len(value):
            for part, v in zip(parts, value):
                yield from _pairs(part, v)


def _annotated(f) -> bool:
    def has(annotation):
        parts = typing.get_args(annotation)
        return bool(_options(annotation)) or any(_options(p) for p in parts)
    return any(has(a) for a in getattr(f, '__annotations__', {}).values())


def check_call(f, signature, args, kwargs, result):
    "Raise a ShapeError where an argument or the result is not what the signature tells."
    from jaxtyping import jaxtyped

    bound = signature.bind(*args, **kwargs)
    claims = [(name, signature.parameters[name].annotation, value) for name, value in bound.arguments.items()]
    claims.append(('the result', signature.return_annotation, result))
    with jaxtyped('context'):
        for name, annotation, value in claims:
            for options, tensor in _pairs(annotation, value):
                if not any(isinstance(tensor, option) for option in options):
                    told = ' or '.join(str(getattr(o, '__name__', o)) for o in options)
                    got = f'{tuple(tensor.shape)} {tensor.dtype}'
                    raise ShapeError(f'{f.__module__}.{f.__qualname__}: {name}: its signature tells {told}; got {got}')


def checked(f):
    "`f`, with its shapes checked after each call that returns."
    if getattr(f, '_checked', False) or not _annotated(f) or inspect.isgeneratorfunction(f):
        return f
    signature = inspect.signature(f)

    @functools.wraps(f)
    def call(*args, **kwargs):
        import torch

        result = f(*args, **kwargs)
        if not torch.compiler.is_compiling():
            check_call(f, signature, args, kwargs, result)
        return result

    call._checked = True
    return call


def check_module(module):
    "Wrap what a module defines, in its tables too: pickle wants the function that a module has under its name."
    import torch

    wrapped = {}
    for name, thing in list(vars(module).items()):
        if getattr(thing, '__module__', None) != module.__name__:
            continue
        if isinstance(thing, types.FunctionType):
            wrapped[thing] = checked(thing)
            setattr(module, name, wrapped[thing])
        elif isinstance(thing, type) and not issubclass(thing, (torch.autograd.Function, tuple)):
            for attribute, method in list(vars(thing).items()):
                if isinstance(method, types.FunctionType):
                    setattr(thing, attribute, checked(method))
    tables = [v for name, v in vars(module).items() if isinstance(v, dict) and name != '__builtins__']
    for table in tables:
        for key, value in list(table.items()):
            if isinstance(value, types.FunctionType) and value in wrapped:
                table[key] = wrapped[value]


class _Loader(importlib.abc.Loader):
    def __init__(self, loader):
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        check_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if not name.startswith('archsae.'):
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
                return spec
        return None


def install():
    "From now on, modules of archsae are checked when they are imported; nothing where jaxtyping is missing."
    try:
        import jaxtyping  # noqa: F401
    except ImportError:
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
