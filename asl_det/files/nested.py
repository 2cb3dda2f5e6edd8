"""Values inside dicts and lists, as configs and records hold them."""

from typing import Any, Callable, Dict, Iterator, Tuple

# What a change of :func:`rebuilt` returns: look inside this value; leave it out.
INTO, OUT = object(), object()
Enter = Callable[[Any], bool]


def nodes(node: Any, place: str = '', enter: Enter = lambda node: True
          ) -> Iterator[Tuple[str, Any]]:
    """Every value with its dotted key, a dict or list before what is in it.

    Args:
        node: itself first.
        place: its dotted key.
        enter: whether what is in a dict, list, tuple or set comes too. Asked
            after the value was handed out, so what was changed in it counts.
    """
    yield place, node
    if not isinstance(node, (dict, list, tuple, set, frozenset)) or not enter(node):
        return
    # Of mmengine's ConfigDict the items of a dict: an import that is put off stays so.
    for key, value in dict.items(node) if isinstance(node, dict) else enumerate(node):
        yield from nodes(value, f'{place}.{key}' if place else str(key), enter)


def dicts(node: Any, place: str = '', enter: Enter = lambda node: True
          ) -> Iterator[Tuple[str, Dict[Any, Any]]]:
    """Those of :func:`nodes` that are dicts."""
    return ((where, found) for where, found in nodes(node, place, enter)
            if isinstance(found, dict))


def rebuilt(node: Any, change: Callable[[Any, Any], Any], key: Any = None) -> Any:
    """A copy with other values.

    Args:
        node: dicts, lists and tuples of any depth; their types stay.
        change: called with the key (None in a list) and each value; returns
            the new one, ``INTO`` for a copy of what is inside, or ``OUT``.
    """
    new = change(key, node)
    if new is not INTO:
        return new
    if isinstance(node, dict):
        pairs = ((k, rebuilt(value, change, k)) for k, value in dict.items(node))
        return type(node)({k: value for k, value in pairs if value is not OUT})
    if isinstance(node, (list, tuple)):
        values = (rebuilt(value, change) for value in node)
        return type(node)(value for value in values if value is not OUT)
    return node


def value_at(node: Any, place: str) -> Any:
    """The value of a dotted key, None where there is none."""
    for name in place.split('.'):
        if isinstance(node, (list, tuple)) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        else:
            node = node.get(name) if hasattr(node, 'get') else None
    return node
