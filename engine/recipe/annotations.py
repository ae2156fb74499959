"""What the annotation of a recipe's field is made of."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a field may hold."""
    return [one for one in plain(annotation) if isinstance(one, type) and issubclass(one, BaseModel)]


def plain(annotation: Any) -> Iterator[Any]:
    """Yield the types that a union is made of, None aside."""
    if get_origin(annotation) in (Union, UnionType):
        for arg in get_args(annotation):
            yield from plain(arg)
    elif get_origin(annotation) is Annotated:
        yield from plain(get_args(annotation)[0])
    elif annotation is not NoneType:
        yield annotation
