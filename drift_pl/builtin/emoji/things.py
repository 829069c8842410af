"""What the pictures of the emoji world show: 68 things in nine groups, each drawn in five styles."""

from __future__ import annotations

STYLES: dict[str, str] = {
    "glossy": "noto",
    "soft": "noto-v1",
    "flat": "fluent-emoji-flat",
    "black and white": "fluent-emoji-high-contrast",
    "plain": "fxemoji",
}
"""How captions name a style -> the set of pictograms that is drawn in it, in the order of the sheet's columns."""

GROUPS: dict[str, dict[str, str]] = {
    "land animal": {
        "bear": "bear",
        "cat": "cat",
        "cow": "cow",
        "dog": "dog",
        "elephant": "elephant",
        "horse": "horse",
        "koala": "koala",
        "monkey": "monkey",
        "mouse": "mouse",
        "pig": "pig",
        "snake": "snake",
        "tiger": "tiger",
    },
    "sea animal": {
        "crocodile": "crocodile",
        "dolphin": "dolphin",
        "fish": "fish",
        "frog": "frog",
        "octopus": "octopus",
        "turtle": "turtle",
        "whale": "whale",
    },
    "bird": {
        "chick": "baby-chick",
        "penguin": "penguin",
        "rooster": "rooster",
        "bluebird": "bird",
    },
    "bug": {
        "ant": "ant",
        "bee": "honeybee",
        "ladybug": "lady-beetle",
        "snail": "snail",
        "spider": "spider",
    },
    "plant": {
        "cactus": "cactus",
        "clover": "four-leaf-clover",
        "hibiscus": "hibiscus",
        "leaf": "maple-leaf",
        "mushroom": "mushroom",
        "palm": "palm-tree",
        "seedling": "seedling",
        "sunflower": "sunflower",
        "tree": "deciduous-tree",
        "tulip": "tulip",
    },
    "fruit": {
        "apple": "red-apple",
        "banana": "banana",
        "cherry": "cherries",
        "grape": "grapes",
        "lemon": "lemon",
        "melon": "melon",
        "peach": "peach",
        "pear": "pear",
        "pineapple": "pineapple",
        "strawberry": "strawberry",
        "tomato": "tomato",
        "watermelon": "watermelon",
    },
    "sweet": {
        "cake": "birthday-cake",
        "candy": "candy",
        "chocolate": "chocolate-bar",
        "cookie": "cookie",
        "doughnut": "doughnut",
        "sundae": "ice-cream",
        "lollipop": "lollipop",
    },
    "meal": {
        "bread": "bread",
        "drumstick": "poultry-leg",
        "fries": "french-fries",
        "hamburger": "hamburger",
        "soup": "steaming-bowl",
        "sushi": "sushi",
    },
    "drink": {
        "beer": "beer-mug",
        "cocktail": "cocktail-glass",
        "coffee": "hot-beverage",
        "juice": "tropical-drink",
        "wine": "wine-glass",
    },
}
"""Group -> thing, as captions name it -> the name of its pictogram in every set."""

THINGS: dict[str, str] = {thing: icon for things in GROUPS.values() for thing, icon in things.items()}
"""Thing -> pictogram, in the order of the sheet's rows."""

OPEN: dict[str, tuple[str, ...]] = {
    "animal": tuple(thing for name in ("land animal", "sea animal", "bird", "bug") for thing in GROUPS[name]),
    "flower": ("hibiscus", "sunflower", "tulip"),
    "food": tuple(thing for name in ("fruit", "sweet", "meal") for thing in GROUPS[name]),
    **{name: tuple(things) for name, things in GROUPS.items()},
}
"""What a caption may name instead of a thing -> the things that it may mean."""
