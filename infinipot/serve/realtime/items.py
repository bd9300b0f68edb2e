"""The conversation of a realtime session, as far as it is kept: the newest items without their pictures."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from infinipot.serve.realtime.protocol import Item

_MOST = 256  # items that are kept
_LETTERS = 1 << 20  # of all of them, the newest aside


class Items:
    """Messages of a session, and the words among them that nobody asked yet."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._asking: dict[str, str] = {}
        self._letters = 0

    @property
    def last(self) -> str | None:
        """The id of the newest item."""
        return next(reversed(self._kept), None)

    def add(self, item: Item, name: str) -> dict[str, Any]:
        """Keeps a message under an id; returns it as it is told."""
        words = [part.text for part in item.content if part.text]
        told = described(name, item.role, [_told(part) for part in item.content])
        self.keep(told)
        if item.role == "user" and words:
            self._asking[name] = "\n".join(words)
        return told

    def keep(self, told: dict[str, Any]) -> None:
        """Keeps an item, in place of the one of its id; the oldest go where there are too many, or too long ones."""
        before = self._kept.get(told["id"])
        self._kept[told["id"]] = told
        self._letters += _length(told) - (0 if before is None else _length(before))
        while len(self._kept) > _MOST or (self._letters > _LETTERS and len(self._kept) > 1):
            self.drop(next(iter(self._kept)))

    def get(self, name: str) -> dict[str, Any] | None:
        """An item by its id."""
        return self._kept.get(name)

    def drop(self, name: str) -> bool:
        """Forgets an item; returns whether there was one."""
        self._asking.pop(name, None)
        gone = self._kept.pop(name, None)
        self._letters -= 0 if gone is None else _length(gone)
        return gone is not None

    @property
    def waiting(self) -> tuple[str, ...]:
        """The ids of the messages whose words wait to be asked."""
        return tuple(self._asking)

    def question(self) -> str:
        """The text that has not been asked yet."""
        return "\n".join(self._asking.values())

    def asked(self, names: Iterable[str]) -> None:
        """The words of these messages were answered; those that came meanwhile still wait."""
        for name in names:
            self._asking.pop(name, None)


def described(name: str, role: str, content: list[dict[str, Any]], status: str = "completed") -> dict[str, Any]:
    """A message as the API describes it."""
    described = {"id": name, "object": "realtime.item", "type": "message", "status": status}
    return described | {"role": role, "content": content}


def _length(told: dict[str, Any]) -> int:
    """The number of characters of an item."""
    return sum(len(part.get("text", "")) for part in told["content"])


def _told(part: Any) -> dict[str, Any]:
    """A part without its picture, of which the stream keeps what matters."""
    return {"type": part.type} if part.type == "input_image" else {"type": part.type, "text": part.text or ""}
