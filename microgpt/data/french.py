"""A small grammar that says the same in English and in French: numbers, dates, and what one buys.

French agrees in gender and number, shortens words before vowels, puts most adjectives behind the
noun and pronouns in front of the verb ("she sees them", "elle les voit"): more than one word in the
place of another. Words keep the hyphen or apostrophe that joins them to their neighbours: "vingt",
"-trois"; "l'", "arbre".
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Sentence(NamedTuple):
    """The same in two languages.

    Attributes:
        english: its words.
        french: the words of the translation.
        sources: for each French word the place of the English one that it stands for; None for
            words that stand for none alone ("et" in "vingt et un").
    """

    english: tuple[str, ...]
    french: tuple[str, ...]
    sources: tuple[int | None, ...]


Placed = list[tuple[str, int | None]]
"""French words, each with the place of the English word it stands for."""


def _words(text: str) -> list[str]:
    return text.split()


_UNITS = _words(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_ORDINALS = _words(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
)
_TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
_UNITES = _words(
    "un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize"
)
_DIZAINES = ("vingt", "trente", "quarante", "cinquante", "soixante")

_MONTHS = {
    "January": "janvier", "February": "février", "March": "mars", "April": "avril", "May": "mai",
    "June": "juin", "July": "juillet", "August": "août", "September": "septembre",
    "October": "octobre", "November": "novembre", "December": "décembre",
}  # fmt: skip
_DAYS = {
    "Monday": "lundi", "Tuesday": "mardi", "Wednesday": "mercredi", "Thursday": "jeudi",
    "Friday": "vendredi", "Saturday": "samedi", "Sunday": "dimanche",
}  # fmt: skip

# English, its plural; French, its plural; whether it is feminine.
_NOUNS = (
    ("car", "cars", "voiture", "voitures", True),
    ("house", "houses", "maison", "maisons", True),
    ("apple", "apples", "pomme", "pommes", True),
    ("key", "keys", "clé", "clés", True),
    ("flower", "flowers", "fleur", "fleurs", True),
    ("letter", "letters", "lettre", "lettres", True),
    ("picture", "pictures", "image", "images", True),
    ("shirt", "shirts", "chemise", "chemises", True),
    ("book", "books", "livre", "livres", False),
    ("dog", "dogs", "chien", "chiens", False),
    ("cat", "cats", "chat", "chats", False),
    ("tree", "trees", "arbre", "arbres", False),
    ("bird", "birds", "oiseau", "oiseaux", False),
    ("horse", "horses", "cheval", "chevaux", False),
    ("hat", "hats", "chapeau", "chapeaux", False),
    ("boat", "boats", "bateau", "bateaux", False),
)

# Masculine, feminine, their plurals, masculine before a vowel.
_BEFORE = {
    "small": ("petit", "petite", "petits", "petites", "petit"),
    "big": ("grand", "grande", "grands", "grandes", "grand"),
    "beautiful": ("beau", "belle", "beaux", "belles", "bel"),
    "new": ("nouveau", "nouvelle", "nouveaux", "nouvelles", "nouvel"),
    "old": ("vieux", "vieille", "vieux", "vieilles", "vieil"),
    "good": ("bon", "bonne", "bons", "bonnes", "bon"),
}
_BEHIND = {
    "red": ("rouge", "rouge", "rouges", "rouges"),
    "blue": ("bleu", "bleue", "bleus", "bleues"),
    "green": ("vert", "verte", "verts", "vertes"),
    "black": ("noir", "noire", "noirs", "noires"),
    "white": ("blanc", "blanche", "blancs", "blanches"),
    "heavy": ("lourd", "lourde", "lourds", "lourdes"),
    "expensive": ("cher", "chère", "chers", "chères"),
    "strange": ("étrange", "étrange", "étranges", "étranges"),
}

# English with I and with she; French for je, tu, elle, nous, ils; whom or what one does it with.
_VERBS = (
    ("see", "sees", "vois", "vois", "voit", "voyons", "voient", "both"),
    ("like", "likes", "aime", "aimes", "aime", "aimons", "aiment", "both"),
    ("find", "finds", "trouve", "trouves", "trouve", "trouvons", "trouvent", "both"),
    ("draw", "draws", "dessine", "dessines", "dessine", "dessinons", "dessinent", "both"),
    ("hear", "hears", "entends", "entends", "entend", "entendons", "entendent", "people"),
    ("help", "helps", "aide", "aides", "aide", "aidons", "aident", "people"),
    ("buy", "buys", "achète", "achètes", "achète", "achetons", "achètent", "things"),
    ("sell", "sells", "vends", "vends", "vend", "vendons", "vendent", "things"),
    ("take", "takes", "prends", "prends", "prend", "prenons", "prennent", "things"),
    ("want", "wants", "veux", "veux", "veut", "voulons", "veulent", "things"),
)

# English, French, and the place of the verb's form: je 0, tu 1, elle 2, nous 3, ils 4.
_SUBJECTS = (
    ("I", "je", 0), ("you", "tu", 1), ("he", "il", 2), ("she", "elle", 2), ("we", "nous", 3),
    ("they", "ils", 4), ("Anna", "Anna", 2), ("Paul", "Paul", 2),
)  # fmt: skip
_OBJECTS = (
    ("them", "les", 4), ("me", "me", 0), ("you", "te", 1), ("him", "le", 2), ("her", "la", 2),
    ("us", "nous", 3),
)  # fmt: skip
_SAME = ({0, 3}, {1})
"""Persons that are not subject and object at once: that would need a reflexive pronoun."""

_ARTICLES = ("the", "the", "a", "my", "number", "number")
_SHORTENED = {"je": "j'", "ne": "n'", "me": "m'", "te": "t'", "le": "l'", "la": "l'", "de": "d'"}


def _vowel(word: str) -> bool:
    return word[0] in "aeiouéêè"


# ---- numbers ---------------------------------------------------------------------------------


def english_number(n: int, ordinal: bool = False) -> list[str]:
    """The words of 1 to 99, or of first to ninety-ninth.

    Example:
        >>> english_number(42), english_number(20, ordinal=True)
        (['forty', '-two'], ['twentieth'])
    """
    last = _ORDINALS if ordinal else _UNITS
    if n < 20:
        return [last[n - 1]]
    tens, unit = _TENS[n // 10 - 2], n % 10
    if unit:
        return [tens, "-" + last[unit - 1]]
    return [tens[:-1] + "ieth" if ordinal else tens]


def french_number(n: int, feminine: bool = False, place: int = 0) -> Placed:
    """The words of 1 to 99, for an English number that begins at `place`.

    Example:
        >>> [word for word, _ in french_number(97)], [word for word, _ in french_number(21, True)]
        (['quatre', '-vingt', '-dix', '-sept'], ['vingt', 'et', 'une'])
    """
    one = "une" if feminine else "un"
    if n < 20:
        return [(word, place) for word in _below_twenty(n, one)]
    tens = n // 10
    tens -= tens in (7, 9)  # soixante-dix, quatre-vingt-dix
    rest, last = n - 10 * tens, place + (n % 10 > 0)
    if tens == 8:
        words: Placed = [("quatre", place), ("-vingt" if rest else "-vingts", place)]
    else:
        words = [(_DIZAINES[tens - 2], place)]
    if rest in (1, 11) and tens < 8:
        return [*words, ("et", None), (_below_twenty(rest, one)[0], last)]
    ending = ["-" + word.removeprefix("-") for word in _below_twenty(rest, one)] if rest else []
    return [*words, *[(word, None) for word in ending[:-1]], *[(w, last) for w in ending[-1:]]]


def _below_twenty(n: int, one: str) -> list[str]:
    if n == 1:
        return [one]
    return [_UNITES[n - 1]] if n < 17 else ["dix", "-" + _UNITES[n - 11]]


# ---- sentences -------------------------------------------------------------------------------


class _Draft:
    """A sentence in the making: English words as they come, French ones as they will stand."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.english: list[str] = []
        self.french: Placed = []

    def say(self, *words: str) -> int:
        """Add English words; returns the place of the first."""
        self.english += words
        return len(self.english) - len(words)

    def choose(self, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def sentence(self) -> Sentence:
        words, sources = zip(*self.french, strict=True)
        return Sentence(tuple(self.english), words, sources)

    def shorten(self) -> None:
        """je, ne, le, … before vowels."""
        for i, (word, place) in enumerate(self.french[:-1]):
            if word in _SHORTENED and _vowel(self.french[i + 1][0]):
                self.french[i] = (_SHORTENED[word], place)

    # ---- parts -------------------------------------------------------------------------------

    def thing(self, negated: bool = False) -> Placed:
        """A noun with an article or a number, and up to two adjectives."""
        one, many, chose, choses, feminine = self.choose(_NOUNS)
        kind = self.choose(_ARTICLES)
        before = self.choose(list(_BEFORE)) if self.chance(0.35) else None
        behind = self.choose(list(_BEHIND)) if self.chance(0.5) else None
        adjectives = [word for word in (before, behind) if word is not None]
        number = int(self.rng.integers(2, 100)) if kind == "number" else 1
        plural = number > 1 or (kind in ("the", "my") and self.chance(0.4))
        following = (*adjectives, one)[0]
        start = len(self.english)
        if kind == "number":
            self.say(*english_number(number))
        elif kind == "a":
            self.say("an" if _vowel(following) else "a")
        else:
            self.say(kind)
        form = 2 * plural + feminine
        words: Placed = []
        if before is not None:
            place = self.say(before)
            lone = not plural and not feminine and _vowel(chose)
            words.append((_BEFORE[before][4 if lone else form], place))
        if behind is not None:
            place = self.say(behind)
        words.append((choses if plural else chose, self.say(many if plural else one)))
        if behind is not None:
            words.append((_BEHIND[behind][form], place))  # pyright: ignore[reportPossiblyUnbound]
        if kind == "number":
            return [*french_number(number, feminine, start), *words]
        if kind == "a":
            article = "de" if negated else "une" if feminine else "un"
        elif kind == "the":
            article = "les" if plural else "la" if feminine else "le"
        else:
            article = "mes" if plural else "mon"
            if feminine and not plural and not _vowel(words[0][0]):
                article = "ma"
        return [(article, start), *words]

    def date(self) -> Placed:
        """The third of May, next Monday, or at seven o'clock."""
        kind = self.choose(["date", "date", "day", "hour"])
        if kind == "day":
            day = self.choose(list(_DAYS))
            if self.chance(0.5):
                place = self.say("next", day)
                return [(_DAYS[day], place + 1), ("prochain", place)]
            return [(_DAYS[day], self.say("on", day) + 1)]
        if kind == "hour":
            hour = int(self.rng.integers(1, 12))
            place = self.say("at", *english_number(hour), "o'", "clock")
            heures = "heure" if hour == 1 else "heures"
            return [("à", place), *french_number(hour, True, place + 1), (heures, place + 3)]
        return self.day_of_month(self.say("on", "the") + 1)

    def day_of_month(self, article: int) -> Placed:
        """The day and month of a date whose "the" has been said."""
        month, day = self.choose(list(_MONTHS)), int(self.rng.integers(1, 29))
        place = self.say(*english_number(day, ordinal=True))
        words = [("premier", place)] if day == 1 else french_number(day, False, place)
        return [("le", article), *words, (_MONTHS[month], self.say("of", month) + 1)]


def sentence(rng: np.random.Generator) -> Sentence:
    """Who does (or does not) what with what, and often when; sometimes a date or a thing alone.

    Example:
        >>> drawn = sentence(np.random.default_rng(1))
        >>> " ".join(drawn.english), " ".join(drawn.french)
        ('Anna does not want the key', 'Anna ne veut pas la clé')
        >>> drawn.sources
        (0, 2, 3, 2, 4, 5)
    """
    draft = _Draft(rng)
    if draft.chance(0.1):
        draft.french = draft.day_of_month(draft.say("the"))
        return draft.sentence()
    who, qui, person = draft.choose(_SUBJECTS)
    subject: Placed = [(qui, draft.say(who))]
    third = person == 2
    base, with_s, *forms, kind = draft.choose(_VERBS)
    no: Placed = []
    if draft.chance(0.3):
        place = draft.say("does" if third else "do", "not") + 1
        no = [("ne", place), ("pas", place)]
    verb: Placed = [(forms[person], draft.say(with_s if third and not no else base))]
    if kind == "people" or draft.chance(0.4):
        them, les, other = draft.choose(_OBJECTS)
        while any({person, other} <= same for same in _SAME):
            them, les, other = draft.choose(_OBJECTS)
        if kind == "things":
            them, les, _ = _OBJECTS[0]
        clitic: Placed = [(les, draft.say(them))]
        draft.french = [*subject, *no[:1], *clitic, *verb, *no[1:]]
    else:
        draft.french = [*subject, *no[:1], *verb, *no[1:], *draft.thing(bool(no))]
    draft.shorten()
    if draft.chance(0.5):
        draft.french += draft.date()  # "le onze mai" is not shortened
    return draft.sentence()


def vocabulary() -> tuple[set[str], set[str]]:
    """All words that sentences are made of, in English and in French.

    Example:
        >>> english, french = vocabulary()
        >>> "clock" in english, "-vingt" in french
        (True, True)
    """
    english = set(_words("the a an my do does not on next of at o' clock"))
    french = set(_words("ne n' pas le la les l' un une de d' mon ma mes premier prochain à"))
    french |= {"heure", "heures", *_SHORTENED.values()}
    for n in range(1, 100):
        english |= {*english_number(n), *(english_number(n, ordinal=True) if n < 29 else ())}
        french |= {word for feminine in (False, True) for word, _ in french_number(n, feminine)}
    for one, many, chose, choses, _ in _NOUNS:
        english |= {one, many}
        french |= {chose, choses}
    for word, forms in (*_BEFORE.items(), *_BEHIND.items()):
        english.add(word)
        french |= {*forms}
    for base, with_s, *forms, _ in _VERBS:
        english |= {base, with_s}
        french |= {*forms}
    for word, mot, _ in (*_SUBJECTS, *_OBJECTS):
        english.add(word)
        french.add(mot)
    for table in (_MONTHS, _DAYS):
        english |= {*table}
        french |= {*table.values()}
    return english, french
