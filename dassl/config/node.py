"""The config object: yacs' `CfgNode` with its own merging rules, and messages that name key and source."""

import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from yacs.config import CfgNode as YacsNode

from clipfit.io.files import printable
from dassl.config.unused import unused_defaults
from dassl.config.yaml_files import yaml_layers
from dassl.utils.registry import nearest

LEAF_TYPES = (bool, int, float, str, list, tuple, type(None))

# Keys, by their last part, whose values may have one of several types whatever the default's is.
SEVERAL_TYPES = {
    "CTX_INIT": (str, bool),  # a phrase, or whether to start from the method's own phrase
    "LAM": (float, int, str),  # a weight, or a formula of the shots
    "STORE": (str, bool),  # a folder, or whether to use the user's cache
}


SAME_NAME = 0.75  # two names whose difflib ratio exceeds this are one name, misspelt


class CfgNode(YacsNode):
    """A config node. Attribute and item access, `clone`, `freeze`, `defrost`, `dump` and `print` are yacs'.

    Merging: a value must have its default's type, except that an int is accepted for a float, lists and
    tuples convert into each other, one string stands for a list of strings, and None goes everywhere. Text
    that reads as a Python literal is one: "1e-5" is a number, "(224, 224)" a tuple. Nodes of plain yacs may
    stand anywhere in the tree.

    Raises (all merges): KeyError for an unknown key, with the nearest known one (never another trainer's, see
    `merge_from_mapping`); ValueError for a wrong type, for a value in the place of a node and the reverse;
    AttributeError if the config is frozen
    """

    def merge_from_file(self, cfg_filename: str | os.PathLike, allow_new: bool = False) -> None:
        """Merge a YAML file, its parents (`_BASE_`) first. `allow_new` declares keys that are missing."""
        for path, content in yaml_layers(cfg_filename):
            self.merge_from_mapping(content, source=str(path), allow_new=allow_new)

    def merge_from_other_cfg(self, cfg_other: Mapping) -> None:
        self.merge_from_mapping(cfg_other, source="another config")

    def merge_from_list(self, cfg_list: Sequence) -> None:
        """Merge ["OPTIM.LR", 0.002, "SEED", 1]: keys and values in turn. ValueError for an odd number."""
        if len(cfg_list) % 2:
            raise ValueError(
                f"configuration pairs are KEY VALUE KEY VALUE ..., but there are {len(cfg_list)} words and "
                f"the last, {cfg_list[-1]!r}, has no partner; quote a value that contains spaces"
            )
        for key, value in zip(cfg_list[::2], cfg_list[1::2], strict=True):
            self.merge_from_mapping({key: value}, source="command line")

    def merge_from_mapping(
        self, mapping: Mapping, source: str, allow_new: bool = False, own_nodes: Collection[str] = ()
    ) -> None:
        """Merge a nested dict, whose keys may also be dotted: {"OPTIM": {"LR": 0.1}, "TRAIN.PRINT_FREQ": 5}.

        A message on an unknown key names the nearest key of the same node of TRAINER, if the key names one;
        else the nearest engine key, or the nearest key of the chosen trainer's own nodes.

        Args: source where the values come from, for messages; allow_new declares keys that are missing;
              own_nodes the nodes of TRAINER that the chosen trainer declares: {"CLIPFIT"}
        """
        if self.is_frozen():
            raise AttributeError(
                f"the config is frozen and takes nothing from {source}; call defrost() first"
            )
        _Merge(self, source, allow_new, own_nodes).run(mapping)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name.startswith("__"):  # copy and pickle look for their hooks
            raise AttributeError(name)
        guess = nearest(name, self, cutoff=SAME_NAME)
        hint = f"; did you mean {guess}?" if guess else f" (here: {', '.join(map(str, self)) or 'none'})"
        raise AttributeError(f"there is no config key {name} here{hint}")


def flatten(cfg: Mapping, prefix: str = "") -> dict[str, Any]:
    """Every leaf under its dotted key, in definition order: {"OPTIM.LR": 0.002, ...}."""
    leaves = {}
    for key, value in cfg.items():
        if isinstance(value, Mapping):
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


class _Merge:
    """One merge of values from one source into a config."""

    def __init__(self, cfg: CfgNode, source: str, allow_new: bool, own_nodes: Collection[str]):
        self.cfg = cfg
        self.source = source
        self.allow_new = allow_new
        self.own_nodes = own_nodes

    def run(self, mapping: Mapping) -> None:
        ignored = []
        for key, value in self._leaves(mapping):
            node, name = self._locate(key)
            new = node[name] = (
                self._coerce(key, value, node[name]) if name in node else self._declare(key, value)
            )
            if key in _UNUSED and new != _UNUSED[key]:
                ignored.append(key)
        if ignored:
            warnings.warn(f"accepted, but nothing reads: {', '.join(ignored)} ({self.source})", stacklevel=4)

    def _leaves(self, mapping: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """(dotted key, value) of everything in `mapping`, nodes of the config opened."""
        for key, value in mapping.items():
            if not isinstance(key, str):
                raise ValueError(
                    f"{self._name(prefix + str(key))}: a config key is text, not {_described(key)}"
                )
            if isinstance(value, Mapping):
                self._check_may_be_node(prefix + key, value)
                yield from self._leaves(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    def _check_may_be_node(self, key: str, value: Mapping) -> None:
        node, name = self._locate(key)
        if name not in node:
            node[name] = CfgNode()
        elif not isinstance(node[name], Mapping):
            raise ValueError(
                f"{self._name(key)} is one value, {_described(node[name])}, not a group of keys; "
                f"got {_described(value)}"
            )

    def _locate(self, key: str) -> tuple[YacsNode, str]:
        """The node that holds `key`, and the key's last part, which need not be there."""
        node = self.cfg
        *parents, name = key.split(".")
        for parent in parents:
            if parent not in node:
                if not self.allow_new:
                    raise self._unknown(key)
                node[parent] = CfgNode()
            node = node[parent]
            if not isinstance(node, Mapping):
                raise self._unknown(key)
        if name not in node and not self.allow_new:
            raise self._unknown(key)
        return node, name

    def _declare(self, key: str, value: Any) -> Any:
        value = _literal(value)
        if not isinstance(value, LEAF_TYPES):
            raise ValueError(
                f"{self._name(key)} is {_described(value)}; a config value is one of {_names(LEAF_TYPES)}"
            )
        return value

    def _coerce(self, key: str, value: Any, old: Any) -> Any:
        """`value` as the key takes it, judged by the value `old` that stands there."""
        name = self._name(key)
        if isinstance(old, Mapping):
            example = next(iter(flatten(old, f"{key}.")), f"{key}.NAME")
            raise ValueError(
                f"{name} is a group of keys and takes no value such as {value!r}; "
                f"set one of its keys, like {example}"
            )
        text, value = value, _literal(value)
        allowed = SEVERAL_TYPES.get(_last_part(key), ()) or (type(old),)
        if type(value) in allowed or value is None or (old is None and isinstance(value, LEAF_TYPES)):
            return value
        if allowed == (float,) and type(value) is int:
            return float(value)
        if isinstance(old, (list, tuple)):
            if isinstance(value, (list, tuple)):
                return type(old)(value)
            if isinstance(value, str) and all(isinstance(item, str) for item in old):
                if value.startswith(("[", "(")):
                    raise ValueError(
                        f'{name} is {value!r}, which does not read as a list; write \'["one", "two"]\''
                    )
                return type(old)([value])
        hint = (
            f"; to give it as text, write \"'{text}'\"" if allowed == (str,) and isinstance(text, str) else ""
        )
        raise ValueError(f"{name} is {_described(value)}; it takes {_names(allowed)}, such as {old!r}{hint}")

    def _unknown(self, key: str) -> KeyError:
        guess = self._nearest(key)
        hint = f"; did you mean {guess}?" if guess else ""
        return KeyError(f"{self._name(key)} is not a config key{hint}")

    def _nearest(self, key: str) -> str | None:
        """The known key that is probably meant: never one of another trainer's node."""
        nodes = self.cfg.get("TRAINER", {})
        top, _, below = key.partition(".")
        node, _, rest = below.partition(".")
        if top == "TRAINER" and node:
            engine_keys = [name for name, value in nodes.items() if not isinstance(value, Mapping)]
            choices = self.own_nodes if rest else [*engine_keys, *self.own_nodes]
            meant = node if node in nodes else nearest(node, choices, cutoff=SAME_NAME)
            if not meant:
                return None
            return self._nearest_within(f"TRAINER.{meant}", rest) or (
                None if meant == node else f"TRAINER.{meant}"
            )
        others = {f"TRAINER.{name}" for name, value in nodes.items() if isinstance(value, Mapping)}
        others -= {f"TRAINER.{name}" for name in self.own_nodes}
        known = [other for other in _keys_in_use(self.cfg) if ".".join(other.split(".")[:2]) not in others]
        same_name = [other for other in known if _last_part(other).casefold() == _last_part(key).casefold()]
        return nearest(key, same_name, cutoff=0) or nearest(key, known, cutoff=0.7)

    def _nearest_within(self, node: str, rest: str) -> str | None:
        """The key of `node` whose name below it is most like `rest`."""
        keys = [key.removeprefix(f"{node}.") for key in flatten(self.cfg) if key.startswith(f"{node}.")]
        guess = nearest(rest, keys)
        return f"{node}.{guess}" if guess else None

    def _name(self, key: str) -> str:
        return f"{printable(key)} ({self.source})"


def _literal(value: Any) -> Any:
    """Text that reads as a Python literal, as that literal (yacs' rule)."""
    return YacsNode._decode_cfg_value(value) if isinstance(value, str) else value


def _keys_in_use(cfg: Mapping) -> list[str]:
    """Dotted keys of the leaves that something may read, and of the nodes that hold them."""
    keys = set()
    for leaf in flatten(cfg).keys() - _UNUSED.keys():
        parts = leaf.split(".")
        keys.update(".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return sorted(keys)


def _last_part(key: str) -> str:
    return key.rpartition(".")[2]


def _described(value: Any) -> str:
    return f"{dict(value) if isinstance(value, Mapping) else value!r} ({type(value).__name__})"


def _names(types: Sequence[type]) -> str:
    return " or ".join("None" if kind is type(None) else kind.__name__ for kind in types)


_UNUSED = flatten(unused_defaults())
