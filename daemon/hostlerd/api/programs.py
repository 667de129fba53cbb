"""What a program asked for, from the parameters of `isolate`: types and ranges.

Whether it gets that is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from hostler.errors import BadInput
from hostlerd.model.programs import Program

MOST = 8192
"""CPUs that Linux can have (CONFIG_NR_CPUS)."""
LONGEST_NAME = 64
_KNOWN = ("cpus", "same_l3", "same_node", "smt", "class", "profile", "name")


def asked_name(params: Mapping[str, Any]) -> str:
    """Empty where it was not given. Raises BadInput."""
    name: object = params.get("name", "")
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not (name.isprintable() or not name):
        raise BadInput(f"the parameter 'name' is a text of at most {LONGEST_NAME} letters")
    return name.strip()


def asked_program(
    params: Mapping[str, Any], *, name: str, uid: int, pid: int, start: int, ident: str
) -> Program:
    """Raises BadInput."""
    for key in params:
        if key not in _KNOWN:
            raise BadInput(f"there is no parameter {key!r} here", remedy=f"there is {', '.join(_KNOWN)}")
    count: object = params.get("cpus", 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
        raise BadInput(f"the parameter 'cpus' is a number of CPUs, not {count!r:.40}", remedy="such as 4")
    return Program(
        id=ident,
        name=name,
        uid=uid,
        pid=pid,
        start=start,
        count=count,
        same_l3=_flag(params, "same_l3"),
        same_node=_flag(params, "same_node"),
        **{field: _word(params, key, field) for key, field in _WORDS.items() if key in params},
    )


_WORDS = {"smt": "smt", "class": "core_class", "profile": "profile"}
"""Parameter to field of Program, where both say the same words."""


def _flag(params: Mapping[str, Any], key: str) -> bool:
    flag = params.get(key, False)
    if not isinstance(flag, bool):
        raise BadInput(f"the parameter {key!r} is true or false")
    return flag


def _word(params: Mapping[str, Any], key: str, field: str) -> Any:
    words = get_args(get_type_hints(Program)[field])
    if params[key] not in words:
        raise BadInput(f"the parameter {key!r} is one of {', '.join(words)}, not {params[key]!r:.40}")
    return params[key]
