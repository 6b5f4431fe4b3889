"""Recognizes prompts that mean people, and what they wear: an engine that cuts out people can serve them."""

# Words for people, with their plurals. docs/models/prompted.md shows the list.
PEOPLE = frozenset(
    """
    person persons people human humans man men woman women child children kid kids boy boys girl girls baby babies
    adult adults guy guys lady ladies speaker speakers presenter presenters host hosts dancer dancers singer singers
    actor actors actress actresses player players athlete athletes runner runners teacher teachers student students
    worker workers couple couples family families crowd crowds
    """.split()  # noqa: SIM905 - a list of words is easier to read as text
)
# Words for what people wear. Every engine keeps these with people. Alone they do not mean people.
WORN = frozenset(
    """
    clothes clothing accessory accessories outfit outfits dress dresses shirt shirts jacket jackets coat coats suit
    suits trousers pants jeans skirt skirts shoe shoes hat hats cap caps helmet helmets glasses sunglasses scarf scarves
    tie ties glove gloves jewelry jewellery necklace necklaces earring earrings bracelet bracelets ring rings hair beard
    """.split()  # noqa: SIM905
)
# Words that end the subject and start its description: "man in a red car" is a man.
_DESCRIPTION_STARTS = frozenset(
    """
    in on at with without wearing holding carrying who that which of from near by beside behind before under over next
    standing sitting walking running dancing singing talking speaking looking playing riding
    """.split()  # noqa: SIM905
)


def means_people(prompt: str | None) -> bool:
    """Whether a prompt names people, and apart from them only what they wear. A missing prompt means people.

    Subjects are separated by commas, full stops, line breaks or "and". The last word of a subject before its
    description decides: "golden retriever dog" is a dog.
    """
    parts = (prompt or "").lower().replace(".", ",").replace("\n", ",").replace(" and ", ",").split(",")
    subjects = [_subject(words) for part in parts if (words := part.split())]
    return not subjects or (set(subjects) <= PEOPLE | WORN and not PEOPLE.isdisjoint(subjects))


def _subject(words: list[str]) -> str:
    end = next((index for index, word in enumerate(words) if word in _DESCRIPTION_STARTS), len(words))
    return words[end - 1] if end else ""
