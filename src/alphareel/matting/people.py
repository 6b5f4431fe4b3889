"""Prompts that mean people, and what people wear: an engine that cuts out people can serve them."""

# What a prompt's targets may be, with their plurals. docs/models/prompted.md shows the list.
PEOPLE = frozenset(
    """
    person persons people human humans man men woman women child children kid kids boy boys girl girls baby babies
    adult adults guy guys lady ladies speaker speakers presenter presenters host hosts dancer dancers singer singers
    actor actors actress actresses player players athlete athletes runner runners teacher teachers student students
    worker workers couple couples family families crowd crowds
    """.split()  # noqa: SIM905 - a list of words, to be read as one
)
# Kept with people, whoever cuts them out. They mean nothing alone.
WORN = frozenset(
    """
    clothes clothing accessory accessories outfit outfits dress dresses shirt shirts jacket jackets coat coats suit
    suits trousers pants jeans skirt skirts shoe shoes hat hats cap caps helmet helmets glasses sunglasses scarf scarves
    tie ties glove gloves jewelry jewellery necklace necklaces earring earrings bracelet bracelets ring rings hair beard
    """.split()  # noqa: SIM905
)
# Where a target ends and what is said of it begins: "man in a red car" is a man.
_ENDS = frozenset(
    """
    in on at with without wearing holding carrying who that which of from near by beside behind before under over next
    standing sitting walking running dancing singing talking speaking looking playing riding
    """.split()  # noqa: SIM905
)


def means_people(prompt: str | None) -> bool:
    """Whether a prompt names people, and beside them at most what they wear; so does none at all.

    Each target, between commas or "and", counts by its last word before a preposition: "golden retriever dog" is a dog.
    """
    parted = (prompt or "").lower().replace(".", ",").replace("\n", ",").replace(" and ", ",").split(",")
    targets = [_target(words) for part in parted if (words := part.split())]
    return not targets or (set(targets) <= PEOPLE | WORN and not PEOPLE.isdisjoint(targets))


def _target(words: list[str]) -> str:
    end = next((place for place, word in enumerate(words) if word in _ENDS), len(words))
    return words[end - 1] if end else ""
