"""Nodes that stay float, from lists of nodes and operators that are quantized or are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._arguments import names_of, refuse_unknown, refused
from .._patterns import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..._model import Model, Node


class Chosen:
    """Which nodes of a model a caller wants to be quantized.

    Args:
        function: the function that is called, for messages.
        types: operators; all, if empty.
        nodes: names of nodes; all, if empty.
        excluded: names of nodes that stay float.
    """

    def __init__(
        self, function: str, types: Iterable[str] | None, nodes: Iterable[str] | None, excluded: Iterable[str] | None
    ) -> None:
        self.function = function
        self.types = names_of(types)
        self.nodes = names_of(nodes)
        self.excluded = names_of(excluded)

    def __bool__(self) -> bool:
        """Whether some list says anything."""
        return bool(self.types or self.nodes or self.excluded)

    def check(self, model: Model) -> None:
        """Refuses names that no node has."""
        known = [node.name for node in model.nodes if node.name]
        refuse_unknown(self.function, "nodes_to_quantize", self.nodes, known)
        refuse_unknown(self.function, "nodes_to_exclude", self.excluded, known)

    def float_nodes(self, model: Model, is_type: Callable[[Node, list[str]], bool]) -> list[str]:
        """Patterns of the nodes that stay float; ``is_type`` says whether a list of operators has a node's."""

        def wanted(node: Node) -> bool:
            return (
                (not self.types or is_type(node, self.types))
                and (not self.nodes or node.name in self.nodes)
                and node.name not in self.excluded
            )

        nodes = model.nodes
        kept = {name for node in nodes if wanted(node) for name in (node.name, *node.outputs)}
        found = []
        for node in nodes:
            if wanted(node):
                continue
            names = [name for name in (node.name, *node.outputs) if name]
            alone = next((name for name in names if name not in kept), None)
            if alone is None:
                why = "its name and results are names of nodes that are quantized, too"
                raise refused(self.function, "nodes_to_exclude", names[:1], why, "give the nodes of the model names of their own")
            found.append(alone)
        return whole(found)


def is_operator(node: Node, types: list[str]) -> bool:
    """Whether a node's operator is in a list."""
    return node.op_type in types
