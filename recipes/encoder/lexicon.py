"""Words beyond the captions: other names of the five flowers and of their colours.

Flower names are general and botanical knowledge; colour names and their RGB values are matplotlib's copies of
the CSS table and of the XKCD colour survey (CC0). ``HELD_OUT`` words are kept out of every table here, so that
tests can tell what the encoder was taught from what it inferred through MiniLM.
"""

from __future__ import annotations

import colorsys
import re

HELD_OUT = {
    "claret": "red",
    "carmine": "red",
    "garnet": "red",
    "tangerine": "orange",
    "canary": "yellow",
    "ivory": "white",
    "periwinkle": "purple",
    "cerise": "pink",
    "blowball": "dandelion",
    "gowan": "daisy",
}
"""Words with their meaning, kept out of all captions and tables to measure what the encoder infers by itself."""

NAMES: dict[str, tuple[str, ...]] = {
    "daisy": (
        *("oxeye daisy", "ox-eye daisy", "moon daisy", "dog daisy", "common daisy", "lawn daisy"),
        *("english daisy", "shasta daisy", "bellis perennis", "bellis", "leucanthemum", "marguerite"),
        *("marguerite daisy", "daisy flower head", "daisy blossom", "field daisy"),
        *("flower with thin rays around a button", "simple lawn flower with a round disc"),
    ),
    "dandelion": (
        *("taraxacum", "taraxacum officinale", "common dandelion", "lion's tooth"),
        *("weed of lawns with a milky stem",),
    ),
    "rose": (
        *("rosa", "tea rose", "hybrid tea rose", "rambling rose", "climbing rose", "floribunda"),
        *("garden rose", "damask rose", "cabbage rose", "briar rose", "dog rose", "rose blossom", "rose bloom"),
        *("rosa damascena", "valentine's flower", "thorny rose"),
    ),
    "sunflower": (
        *("helianthus", "helianthus annuus", "girasol", "common sunflower", "sunflower head", "giant sunflower"),
        *("flower that turns to the sun", "seed-oil flower", "sunflower bloom", "tournesol"),
        *("tall summer flower with a big disc of seeds", "huge bloom with rays and a seed disc"),
    ),
    "tulip": (
        *("tulipa", "darwin tulip", "parrot tulip", "lily-flowered tulip", "garden tulip", "dutch tulip"),
        *("tulip cup", "dutch bulb flower", "tulipa gesneriana", "tulip bloom", "tulip blossom"),
    ),
}
"""Other names of the five flowers; those of buds and seed heads are in ``stages.NAMES``."""

SHADES: dict[str, tuple[str, ...]] = {
    "white": (
        *("snow-white", "snowy", "milky", "milk-white", "chalky", "alabaster", "pearl", "pearly", "pure white"),
        *("whitish", "bleached", "colourless white", "porcelain white", "lily-white", "frost-white"),
    ),
    "cream": ("creamy", "off-white", "eggshell", "vanilla", "buttermilk", "ecru", "champagne"),
    "yellow": (
        *("golden", "gold", "lemon", "buttery", "butter-yellow", "sunny yellow", "amber", "saffron yellow"),
        *("mustard", "yellowish", "honey", "primrose", "straw-coloured", "flaxen", "blond", "citrine"),
    ),
    "orange": ("pumpkin", "carrot", "rust", "rusty", "burnt orange", "marigold", "flame", "apricot", "copper"),
    "peach": ("peachy", "salmon", "coral", "apricot pink", "light orange", "salmon-pink"),
    "red": (
        *("scarlet", "crimson", "cherry", "blood-red", "fire-engine red", "tomato", "poppy-red", "rosy red"),
        *("ruby", "ruby red", "vermilion"),
    ),
    "dark red": ("burgundy", "maroon", "wine", "wine-red", "oxblood", "bordeaux", "deep red", "mahogany"),
    "pink": ("rosy", "rose-pink", "blush", "bubblegum", "candy pink", "pale pink", "pastel pink", "flamingo"),
    "magenta": ("fuchsia", "hot pink", "shocking pink", "raspberry", "deep pink", "vivid pink", "pinkish purple"),
    "purple": ("violet", "lilac", "lavender", "mauve", "plum", "amethyst", "aubergine", "indigo", "orchid", "grape"),
    "blue": ("azure", "navy", "sky-blue", "cobalt", "sapphire", "cornflower blue", "turquoise", "ultramarine"),
}
"""Other names of petal colours, by the colour that the records use."""

_UNFIT = re.compile(
    r"poo|puke|vomit|snot|shit|piss|poop|barf|bile|booger|baby|skin|flesh|green|brown|grey|gray|black|tan|teal|"
    r"aqua|olive|mud|dirt|sand|beige|khaki|taupe|silver|slate|steel|ugly|sick|gross|rose$|^rosa$|dandelion|"
    r"sunflower|tulip|daisy|barney|windows|off blue|blue blue|denim|choco|^pale$|^royal$|^blood$|^brick$|^flat|"
    r"(orange|purple|red|yellow)(y|ish)? (pink|red)|pink(y|ish)? (orange|red|purple)|"
    r"(blue|red) violet|violet (blue|red|pink)|lavender blue|liliac|urple$|manilla"
)


def colour_of(red: float, green: float, blue: float) -> str | None:
    """Return the petal colour nearest to an RGB value in 0..1, or None for browns, greens, greys and doubtful cases."""
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    degrees = 360 * hue
    if saturation < 0.08 and value > 0.93:
        return "white"
    if saturation < 0.30 or value < 0.35:
        return "cream" if 30 < degrees < 65 and value > 0.94 and 0.1 < saturation < 0.25 else None
    if (degrees < 14 or degrees > 346) and saturation > 0.65:
        return "red" if value > 0.68 else "dark red"
    if 18 < degrees < 38 and saturation > 0.7 and value > 0.8:
        return "orange"
    if 46 < degrees < 63 and saturation > 0.4 and value > 0.85:
        return "yellow"
    if 318 < degrees < 350 and saturation < 0.7 and value > 0.75:
        return "pink"
    if 300 <= degrees < 335 and saturation >= 0.7 and value > 0.6:
        return "magenta"
    if 262 < degrees < 300:
        return "purple"
    return "blue" if 205 < degrees < 245 and saturation > 0.45 else None


def named_colours() -> dict[str, str]:
    """Map every colour name of the two tables that clearly names a petal colour to that colour."""
    from matplotlib.colors import CSS4_COLORS, XKCD_COLORS, to_rgb

    found = {}
    for name, value in {**CSS4_COLORS, **XKCD_COLORS}.items():
        plain = name.removeprefix("xkcd:").replace("/", " ")
        colour = colour_of(*to_rgb(value))
        if colour and not _UNFIT.search(plain):
            found[plain] = colour
    return found


def shades() -> dict[str, str]:
    """Map every colour word of the lexicon to the petal colour it means, without the held-out words."""
    table = named_colours()
    table.update({word: colour for colour, words in SHADES.items() for word in words})
    return {word: colour for word, colour in table.items() if not held_out(word)}


def names() -> dict[str, str]:
    """Map every other flower name of the lexicon to its kind, without the held-out words."""
    table = {name: kind for kind, listed in NAMES.items() for name in listed}
    return {name: kind for name, kind in table.items() if not held_out(name)}


def held_out(text: str) -> bool:
    """Return whether ``text`` contains a held-out word."""
    return not HELD_OUT.keys().isdisjoint(re.findall(r"[a-z]+", text.lower()))
