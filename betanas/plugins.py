"""What others add by name: families and objectives, registered from Python or by a package."""

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from betanas.errors import InputError

T = TypeVar("T")


class Registry(Generic[T]):
    """Plug-ins of one kind, by name.

    Those of installed packages are looked up when a name is not known otherwise, or when all are
    listed: a package declares them in ``pyproject.toml`` under ``[project.entry-points."GROUP"]``,
    a line ``name = "package.module:object"`` each.

    Args:
        kind: What errors call them.
        group: The entry points' group.
        built_in: Those that are always there.
        accept: From what an entry point names to the plug-in.
    """

    def __init__(
        self, kind: str, group: str, built_in: Mapping[str, T], accept: Callable[[Any], T]
    ) -> None:
        self._kind, self._group, self._accept = kind, group, accept
        self._built_in = frozenset(built_in)
        self.known: dict[str, T] = dict(built_in)

    def register(self, name: str, plugin: T) -> None:
        """Makes a plug-in known for the rest of this process, in place of one of the same name.

        Raises:
            InputError: If a built-in one has the name.
        """
        if name in self._built_in:
            raise InputError(f"{name} is a built-in {self._kind}; give yours another name")
        self.known[name] = plugin

    def find(self, name: str) -> T:
        """Returns the plug-in of that name.

        Raises:
            InputError: If there is none, naming those that exist, or a package's does not load.
        """
        if name not in self.known:
            for point in self._installed():
                if point.name == name:
                    self.known[name] = self._load(point)
                    break
            else:
                raise InputError(
                    f"{self._kind} must be one of {', '.join(self.names())}, but got {name!r}"
                )
        return self.known[name]

    def names(self) -> list[str]:
        """All names: those known here first, then those of installed packages."""
        return list(dict.fromkeys([*self.known, *sorted(p.name for p in self._installed())]))

    def _installed(self) -> Iterable[EntryPoint]:
        return entry_points(group=self._group)

    def _load(self, point: EntryPoint) -> T:
        try:
            return self._accept(point.load())
        except Exception as error:  # whatever somebody else's module raises
            raise InputError(
                f"{self._kind} {point.name} of {point.value} cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error
