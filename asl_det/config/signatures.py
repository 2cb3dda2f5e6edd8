"""Which arguments a registered class takes, and of what kind."""

import ast
import functools
import inspect
import numbers
import re
import textwrap
import typing
from typing import Any, Callable, Dict, Optional, Set, Tuple

Arguments = Dict[str, inspect.Parameter]
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@functools.lru_cache(maxsize=None)
def arguments(kind: Callable) -> Tuple[Arguments, bool]:
    """The arguments of a class or function, and whether these are all that it takes.

    ``**kwargs`` that are only handed to ``super().__init__`` stand for the
    arguments of the parent; any other ``**kwargs`` may be anything.
    """
    if not inspect.isclass(kind):
        return _own(kind)
    found: Arguments = {}
    follows = None  # the class whose successor a super(Class, self) names
    for parent in kind.__mro__:
        if follows is not None or '__init__' not in vars(parent):
            follows = None if parent.__name__ == follows else follows
            continue
        own, closed = _own(parent.__init__)
        found = {**own, **found}
        if closed:
            return found, True
        handed = _handed_over(parent.__init__)
        if handed is None:
            return found, False
        follows = handed if handed not in ('', parent.__name__) else None
    return found, False


def _own(function: Callable) -> Tuple[Arguments, bool]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin
        return {}, False
    open_ended = any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    names = {name: p for name, p in parameters.items() if p.kind in NAMED and name != 'self'}
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a name that only type checkers import
        hints = {}
    return {name: p.replace(annotation=hints.get(name, p.annotation))
            for name, p in names.items()}, not open_ended


def _handed_over(init: Callable) -> Optional[str]:
    """To whom ``super().__init__(**kwargs)`` hands the ``**kwargs``, if nothing else uses them.

    Returns:
        The class that ``super`` names, '' for none; None if they are used otherwise.
    """
    try:
        function = ast.parse(textwrap.dedent(inspect.getsource(init))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None
    if not isinstance(function, ast.FunctionDef) or function.args.kwarg is None:
        return None
    name, found = function.args.kwarg.arg, []
    for node in ast.walk(function):
        parent = getattr(getattr(node, 'func', None), 'value', None)
        if (isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == '__init__'
                and isinstance(parent, ast.Call) and getattr(parent.func, 'id', '') == 'super'
                and any(k.arg is None and getattr(k.value, 'id', '') == name
                        for k in node.keywords)):
            found.append(parent.args[0].id if parent.args else '')
    uses = sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(function))
    return found[0] if len(found) == uses == 1 else None


def mentions(kind: Any, pattern: str) -> bool:
    """Whether the ``__init__`` of a class or of a parent has this in its source."""
    for parent in inspect.getmro(kind) if inspect.isclass(kind) else ():
        init = vars(parent).get('__init__')
        try:
            if init is not None and re.search(pattern, inspect.getsource(init)):
                return True
        except (OSError, TypeError):  # a builtin
            continue
    return False


def misfit(parameter: inspect.Parameter, value: Any) -> Optional[str]:
    """What an argument expects, if ``value`` is text and that is not it; else None.

    Annotations are often incomplete, a list where a number is stated for
    example, but text in the place of a number or a truth value is a mistake.
    """
    if not isinstance(value, str):
        return None
    kinds = _kinds(parameter.annotation)
    if parameter.annotation is inspect.Parameter.empty and isinstance(
            parameter.default, (bool, int, float)):
        kinds = _kinds(type(parameter.default))
    if not kinds or not kinds <= {'a truth value', 'a number', 'None'} or kinds == {'None'}:
        return None
    return ' or '.join(sorted(kinds - {'None'}))


def _kinds(annotation: Any) -> Set[str]:
    """The kinds of value that an annotation stands for; 'anything' where that is not clear."""
    if annotation is None or annotation is type(None):
        return {'None'}
    if annotation is bool:
        return {'a truth value'}
    if inspect.isclass(annotation) and issubclass(annotation, (int, float, numbers.Number)):
        return {'a number'}
    if typing.get_origin(annotation) is typing.Union or type(annotation).__name__ == 'UnionType':
        return set().union(*(_kinds(part) for part in typing.get_args(annotation)))
    return {'anything'}
