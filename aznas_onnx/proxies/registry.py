"""The registry of proxies."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from aznas_onnx.errors import SettingsError, UnknownNameError
from aznas_onnx.proxies.proxy import Direction, Proxy
from aznas_onnx.proxies.user_proxies import StoredProxy, digest, load_proxy

__all__ = ["ProxyRegistry", "is_reference", "name_list", "split_weight"]


_NOTHING_KEPT: Mapping[str, Direction] = MappingProxyType({})


class ProxyRegistry(Mapping[str, Proxy]):
    """Proxies by name, and groups of them.

    Parameters
    ----------
    proxies
        The built-in ones.
    groups
        Names of several proxies, each with an optional weight: ``"depth:2"``.
    """

    def __init__(self, proxies: Iterable[Proxy], groups: Mapping[str, tuple[str, ...]]) -> None:
        self._proxies: dict[str, Proxy] = {}
        self._loaded: dict[str, str] = {}
        self.groups = dict(groups)
        for proxy in proxies:
            self.register(proxy)
        self._built_in = frozenset(self._proxies)

    def __getitem__(self, name: str) -> Proxy:
        return self._proxies[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._proxies)

    def __len__(self) -> int:
        return len(self._proxies)

    def register(self, proxy: Proxy) -> None:
        """Add a proxy; it changes this registry.

        Raises ValueError if its name is taken.
        """
        if proxy.name in self._proxies or proxy.name in self.groups:
            raise ValueError(f"a proxy or group named {proxy.name!r} is registered already")
        self._proxies[proxy.name] = proxy

    def load(self, reference: str) -> Proxy:
        """Register the proxy of a file, and return it; a changed file replaces its earlier proxy.

        Parameters
        ----------
        reference
            ``FILE.py:NAME``. The file is executed.

        Raises
        ------
        SettingsError
            If the file has no such proxy, or the proxy has the name of one from elsewhere.
        """
        proxy = load_proxy(reference)
        lasting = _lasting(reference)
        if self._loaded.get(proxy.name) != lasting and (proxy.name in self._proxies or proxy.name in self.groups):
            raise SettingsError(f"{reference} defines a proxy {proxy.name!r}, and there is one of that name already")
        self._loaded[proxy.name] = lasting
        self._proxies[proxy.name] = proxy
        return proxy

    def load_all(self, names: Iterable[str]) -> tuple[Proxy, ...]:
        """Return what :meth:`resolve` does, after each file that a name refers to (``FILE.py:NAME``) is executed.

        Functions that score call this where names come in; nothing else executes a file.

        Raises
        ------
        UnknownNameError, SettingsError
            As :meth:`load` and :meth:`resolve`.
        """
        names = name_list(names)
        for reference in filter(is_reference, (split_weight(name)[0] for name in names)):
            self.load(reference)
        return self.resolve(names)

    def reference(self, name: str) -> str | None:
        """Return ``FILE.py:NAME`` of a proxy that was loaded, with the whole path; None for any other."""
        return self._loaded.get(name)

    def describe_user_proxies(self, proxies: Iterable[Proxy]) -> dict[str, StoredProxy]:
        """Return what is stored of each user proxy among `proxies`."""
        return {
            proxy.name: StoredProxy(
                direction=proxy.direction,
                reference=self.reference(proxy.name),
                code=digest(proxy, self.reference(proxy.name)),
            )
            for proxy in proxies
            if not self.is_built_in(proxy.name)
        }

    def is_built_in(self, name: str) -> bool:
        """Whether a proxy comes with this registry, and was not added later."""
        return name in self._built_in

    def sign(self, name: str, kept: Mapping[str, Direction] = _NOTHING_KEPT) -> int:
        """Return 1 for a proxy of which higher values are better, -1 for one of which lower values are.

        Parameters
        ----------
        name
            Of the proxy.
        kept
            Stored directions of user proxies in a study or a scores file; they take precedence over the registry.

        Raises
        ------
        UnknownNameError
            If its direction is unknown.
        """
        direction = kept.get(name)
        if direction is None:
            if name not in self._proxies:
                raise UnknownNameError(
                    f"nothing says whether higher or lower values of proxy {name!r} are better; "
                    "load it with PROXIES.load('FILE.py:NAME'), or score again by that name"
                )
            direction = self._proxies[name].direction
        return -1 if direction is Direction.LOWER_IS_BETTER else 1

    @contextmanager
    def holding(self, proxy: Proxy) -> Iterator[None]:
        """Register a proxy within the context, in place of another of that name."""
        before = dict(self._proxies)
        self._proxies[proxy.name] = proxy
        try:
            yield
        finally:
            self._proxies = before

    def resolve(self, names: Iterable[str]) -> tuple[Proxy, ...]:
        """Return the proxies of names and groups, each once, in the order given.

        No file is executed: ``FILE.py:NAME`` is the proxy that :meth:`load` has registered. A name can end with a
        weight (``synflow:0.5``), which :meth:`weights` reads.

        Raises
        ------
        UnknownNameError
            If a name is neither.
        SettingsError
            If a file is not loaded, or a weight is negative.

        Examples
        --------
        >>> from aznas_onnx.proxies import PROXIES
        >>> [proxy.name for proxy in PROXIES.resolve(["macs", "az"])]
        ['macs', 'expressivity', 'progressivity', 'trainability']
        """
        return tuple(proxy for proxy, _ in self._weighted(names).values())

    def weights(self, names: Iterable[str]) -> dict[str, float]:
        """Return how often each proxy counts in a ranking, where that is not once.

        The weight of a group multiplies those of its members; of a proxy that is named twice, the last weight that was
        given counts. 0 means that a proxy is computed and takes no part.

        Raises
        ------
        UnknownNameError, SettingsError
            As :meth:`resolve`.

        Examples
        --------
        >>> from aznas_onnx.proxies import PROXIES
        >>> PROXIES.weights(["az", "trainability:2", "synflow:0.5"])
        {'trainability': 2.0, 'synflow': 0.5}
        """
        return {name: weight for name, (_, weight) in self._weighted(names).items() if weight != 1.0}

    def _weighted(self, names: Iterable[str]) -> dict[str, tuple[Proxy, float]]:
        found: dict[str, tuple[Proxy, float]] = {}
        for text in name_list(names):
            name, given = split_weight(text)
            members = [self._loaded_from(name)] if is_reference(name) else self.groups.get(name, (name,))
            for member in members:
                own, factor = split_weight(member)
                if own not in self._proxies:
                    raise self._unknown(own)
                if own not in found or given is not None or factor is not None:
                    factors = [one for one in (given, factor) if one is not None]  # 0 is a weight, too
                    found[own] = (self._proxies[own], math.prod(factors, start=1.0))
        return found

    def _loaded_from(self, reference: str) -> str:
        lasting = _lasting(reference)
        for name, origin in self._loaded.items():
            if origin == lasting:
                return name
        raise SettingsError(f"proxy {reference!r} is not loaded; load it with PROXIES.load({reference!r})")

    def _unknown(self, name: str) -> UnknownNameError:
        known = [*self._proxies, *self.groups]
        proxy, _, weight = name.rpartition(":")
        if proxy in known:
            return UnknownNameError(f"the weight {weight!r} of {proxy} is no number")
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        return UnknownNameError(f"there is no proxy {name!r}; {hint}")


def name_list(given: object, noun: str = "proxies", *, separator: str = ",") -> tuple[str, ...]:
    """Return names as a tuple; one text lists them with separators, if any. Raises SettingsError for no texts."""
    if isinstance(given, str):
        return tuple(name.strip() for name in given.split(separator) if name.strip()) if separator else (given,)
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(name, str) for name in found):
        raise SettingsError(f"{noun} is {given!r}; a list of names is needed")
    return found


def is_reference(name: str) -> bool:
    """Whether a name is ``FILE.py:NAME``, or the path of a file that should have been."""
    return ".py:" in name or name.endswith(".py")


def _lasting(reference: str) -> str:
    """Return a reference with the whole path, however it is spelled."""
    file, _, attribute = reference.rpartition(":")
    return f"{Path(file).resolve()}:{attribute}"


def split_weight(text: str) -> tuple[str, float | None]:
    """Split ``NAME:WEIGHT``; the last part is a weight only if it is a number, and not the first after ``FILE.py``."""
    name, _, tail = text.rpartition(":")
    if not name or name.endswith(".py"):  # a proxy of a file may have a name that reads as a number: NAN
        return text, None
    try:
        weight = float(tail)
    except ValueError:
        return text, None
    if not 0.0 <= weight < math.inf:
        raise SettingsError(f"the weight of proxy {name!r} is {tail}; 0 or a positive number is accepted")
    return name, weight
