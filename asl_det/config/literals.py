"""The text of a config, read as data."""

import ast
import math
from typing import Any, Dict

from asl_det.errors import UserError


def read_literals(text: str, where: str, advice: str = 'give its config file') -> Dict[str, Any]:
    """Assignments of plain values, as mmengine writes configs, without executing them.

    Args:
        text: the source.
        where: what holds it, for errors.
        advice: the end of an error.

    Raises:
        UserError: for anything else, with its line.
    """
    try:
        statements = ast.parse(text).body
        content = {}
        for statement in statements:
            if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1
                    and isinstance(statement.targets[0], ast.Name)):
                raise _refusal(statement, where, advice)
            content[statement.targets[0].id] = _value(statement.value, where, advice)
        return content
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise UserError(f'{where} can not be read ({type(error).__name__}): {advice}') from error
    except UserError:
        raise
    except (TypeError, ValueError) as error:  # ast's own, or a dict as a key
        raise UserError(f'{where} can not be read ({error}): {advice}') from error


def _value(node: ast.AST, where: str, advice: str) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(_value(item, where, advice) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key, where, advice): _value(value, where, advice)
                for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        pairs: Dict[Any, Any] = {}
        # Keys that are no identifiers are written as dict({...}).
        for argument in node.args:
            if not isinstance(argument, ast.Dict) or len(node.args) > 1:
                raise _refusal(node, where, advice)
            pairs.update(_value(argument, where, advice))
        for keyword in node.keywords:
            if keyword.arg is None:
                raise _refusal(node, where, advice)
            pairs[keyword.arg] = _value(keyword.value, where, advice)
        return pairs
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _value(node.operand, where, advice)
        if type(number) in (int, float):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return math.inf if node.id == 'inf' else math.nan
    raise _refusal(node, where, advice)


def _refusal(node: ast.AST, where: str, advice: str) -> UserError:
    found = ''.join(c if c.isprintable() else ' ' for c in ast.unparse(node))[:80]
    return UserError(f'{where}, line {node.lineno}: {found!r} is no plain value, and nothing in it '
                     f'is executed: {advice}')
