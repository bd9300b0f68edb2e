"""The words of the synthetic world: the names of its shapes, and how one asks about them. Knows no pixels or times."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 45, 45),
    "green": (45, 175, 65),
    "blue": (55, 85, 225),
    "yellow": (235, 210, 50),
    "purple": (165, 60, 200),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "cross", "diamond", "ring")
PLACES = ("top left", "top right", "bottom left", "bottom right")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "many")  # many: six and more
THIRDS = ("beginning", "middle", "end")
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
CASTS = ("varied", "regulars", "odd")
KINDS = ("colour", "shape", "where", "first", "count", "when", "now", "odd")

# The first wording of a kind is the plain one.
WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": (
        "What colour was the {shape}?",
        "What color was the {shape}?",
        "Which colour was the {shape}?",
    ),
    "shape": ("Which shape was {colour}?", "What shape was {colour}?", "What was the {colour} shape?"),
    "where": ("Where was the {name}?", "In which corner was the {name}?"),
    "first": ("Which came first, the {one} or the {other}?", "Which was first, the {one} or the {other}?"),
    "count": ("How many shapes have appeared so far?", "How many shapes have there been?"),
    "when": ("In which third was the {name}?", "When was the {name}?"),
    "now": ("Is there a shape now?", "Is a shape there now?"),
    "odd": ("Which was the odd one out?", "What was the odd one out?"),
}
LISTINGS = (
    "List all shapes, colour first.",
    "List all shapes, shape first.",
    "List all shapes and their corners.",
    "List all shapes and their thirds.",
)
LONGEST_LIST = 6
