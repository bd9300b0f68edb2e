"""The conversation of a realtime session, as far as it is kept: the newest items without their pictures."""

from collections import OrderedDict
from typing import Any

from infinipot.serve.realtime.protocol import Item

_MOST = 256  # items that are kept


class Items:
    """Messages of a session, and the words among them that nobody asked yet."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._asking: dict[str, str] = {}

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
        """Keeps an item; the oldest goes where there are too many."""
        self._kept[told["id"]] = told
        if len(self._kept) > _MOST:
            oldest, _ = self._kept.popitem(last=False)
            self._asking.pop(oldest, None)

    def get(self, name: str) -> dict[str, Any] | None:
        """An item by its id."""
        return self._kept.get(name)

    def drop(self, name: str) -> bool:
        """Forgets an item; returns whether there was one."""
        self._asking.pop(name, None)
        return self._kept.pop(name, None) is not None

    def question(self) -> str:
        """What waits to be asked."""
        return "\n".join(self._asking.values())

    def asked(self) -> None:
        """Nothing waits to be asked any more."""
        self._asking.clear()


def described(name: str, role: str, content: list[dict[str, Any]], status: str = "completed") -> dict[str, Any]:
    """A message as it is told."""
    described = {"id": name, "object": "realtime.item", "type": "message", "status": status}
    return described | {"role": role, "content": content}


def _told(part: Any) -> dict[str, Any]:
    """A part without its picture, of which the stream keeps what matters."""
    return {"type": part.type} if part.type == "input_image" else {"type": part.type, "text": part.text or ""}
