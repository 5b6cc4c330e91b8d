"""The record of a proxy, and the registry that holds them."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from aznas_onnx.errors import UnknownNameError
from aznas_onnx.proxies.evidence import Evidence, Outcome

__all__ = ["Direction", "Need", "Proxy", "ProxyRegistry"]


class Direction(str, enum.Enum):
    """Which way a proxy points."""

    HIGHER_IS_BETTER = "higher is better"
    LOWER_IS_BETTER = "lower is better"


class Need(str, enum.Enum):
    """What must be measured for a proxy; each includes those before it."""

    GRAPH = "graph"  # counts only: no pass
    FEATURES = "features"  # a forward pass: covariance of each block's features
    GRADIENTS = "gradients"  # forward and backward: each block's vector-Jacobian product


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """One zero-cost proxy.

    Attributes
    ----------
    name
        As users write it and as results name it.
    description
        One line.
    equation
        Where it is defined.
    direction
        Which values are better.
    needs
        What must be measured for it.
    evaluate
        From the evidence of one seed to the proxy's value.
    for_transformers
        Whether it is defined for transformers.
    """

    name: str
    description: str
    equation: str
    direction: Direction
    needs: Need
    evaluate: Callable[[Evidence], Outcome]
    for_transformers: bool = True


class ProxyRegistry(Mapping[str, Proxy]):
    """Proxies by name, and groups of them.

    Parameters
    ----------
    proxies
        The built-in ones.
    groups
        Names that stand for several proxies.
    """

    def __init__(self, proxies: Iterable[Proxy], groups: Mapping[str, tuple[str, ...]]) -> None:
        self._proxies: dict[str, Proxy] = {}
        self.groups = dict(groups)
        for proxy in proxies:
            self.register(proxy)

    def __getitem__(self, name: str) -> Proxy:
        return self._proxies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._proxies)

    def __len__(self) -> int:
        return len(self._proxies)

    def register(self, proxy: Proxy) -> None:
        """Add a proxy; it changes this registry.

        Raises
        ------
        ValueError
            If its name is taken.
        """
        if proxy.name in self._proxies or proxy.name in self.groups:
            raise ValueError(f"a proxy or group named {proxy.name!r} is registered already")
        self._proxies[proxy.name] = proxy

    def resolve(self, names: Iterable[str]) -> tuple[Proxy, ...]:
        """Return the proxies that names and groups stand for, each once, in the order given.

        Raises
        ------
        UnknownNameError
            If a name is neither.

        Examples
        --------
        >>> from aznas_onnx.proxies import PROXIES
        >>> [proxy.name for proxy in PROXIES.resolve(["macs", "az"])]
        ['macs', 'expressivity', 'progressivity', 'trainability']
        """
        found: dict[str, Proxy] = {}
        for name in names:
            for member in self.groups.get(name, (name,)):
                if member not in self._proxies:
                    raise self._unknown(member)
                found.setdefault(member, self._proxies[member])
        return tuple(found.values())

    def _unknown(self, name: str) -> UnknownNameError:
        known = [*self._proxies, *self.groups]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return UnknownNameError(f"there is no proxy {name!r} (there are {', '.join(known)}){hint}")
