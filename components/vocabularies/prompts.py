"""What a language model is asked about a class: LF-CBM's three questions, in words of our own."""

ASKED = 2  # times that each question is asked
TEMPERATURE = 0.7
MAX_TOKENS = 256  # of one answer

SHORT = "Short phrases, one a line, each after a dash."
QUESTIONS = {
    "important": f'Which visual features matter most to recognise a "{{}}" in a picture? {SHORT}',
    "superclass": f'Which more general categories does a "{{}}" belong to? {SHORT}',
    "around": f'Which things are commonly seen around a "{{}}"? {SHORT}',
}
EXAMPLES = {
    "important": {
        "windmill": ("a tall tower", "four long blades", "a cap on top", "a small door at the bottom"),
        "hedgehog": ("brown spines", "a round body", "a long dark snout", "small black eyes", "short legs"),
    },
    "superclass": {
        "windmill": ("building", "structure", "machine"),
        "hedgehog": ("mammal", "vertebrate", "animal", "living thing"),
    },
    "around": {
        "windmill": ("a field", "a canal", "a farmhouse", "clouds", "sacks of flour", "a miller"),
        "hedgehog": ("fallen leaves", "a hedge", "a garden", "an earthworm", "a pile of branches"),
    },
}
KINDS = tuple(QUESTIONS)


def template(kind: str) -> str:
    """The prompt of one of KINDS: two worked examples, then the question with `{}` for the class's name."""
    worked = [
        "\n".join([_question(kind, name), *(f"- {phrase}" for phrase in phrases)])
        for name, phrases in EXAMPLES[kind].items()
    ]
    return "\n\n".join([*worked, QUESTIONS[kind]])


def _question(kind: str, name: str) -> str:
    return QUESTIONS[kind].replace("{}", name)


def prompt(kind: str, class_name: str) -> str:
    """The prompt about one class."""
    return template(kind).replace("{}", readable(class_name))


def readable(class_name: str) -> str:
    """A class's name as one writes it: cards may have `_` for spaces."""
    return class_name.replace("_", " ")
