"""Which assets and time series are followed: from the configuration, or from the command `filter`."""

from collections.abc import Mapping

from msgspec import Struct

Keys = tuple[str, ...] | dict[str, tuple[str, ...]]

_MOST = 12_000  # characters of all names: the platform reads frames of 32,768, and each name goes there twice


class Selection(Struct, frozen=True):
    """keys: time series of every asset, or by its profile · profiles: only assets of these; () is all."""

    keys: Keys = ()
    profiles: tuple[str, ...] = ()

    def every_key(self) -> tuple[str, ...]:
        """The time series of all profiles together, each once."""
        lists = self.keys.values() if isinstance(self.keys, Mapping) else (self.keys,)
        return tuple(dict.fromkeys(key for one in lists for key in one))

    def keys_of(self, profile: str) -> frozenset[str]:
        """The time series of an asset of this profile."""
        return frozenset(self.keys.get(profile, ()) if isinstance(self.keys, Mapping) else self.keys)

    def takes(self, profile: str) -> bool:
        return not self.profiles or profile in self.profiles

    def fault(self, attributes: tuple[str, ...] = ()) -> tuple[str, str] | None:
        """What is wrong with it: the field, and the remedy."""
        for name, texts in (("keys", self.every_key()), ("profiles", self.profiles), ("attributes", attributes)):
            if "" in texts:
                return name, "has an empty name in it"
        if sum(len(key) + 40 for key in (*self.every_key(), *attributes)) > _MOST:
            return "keys", "too many: the platform takes at most 32768 characters at once"
        if sum(len(profile) + 3 for profile in self.profiles) > _MOST // 3:
            return "profiles", "too many: the platform takes at most 32768 characters at once"
        return None
