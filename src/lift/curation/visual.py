"""How visual a caption is: nearer to sentences about what is seen, or to words about nothing seen.

`visualness` is the mean of a caption's 5 largest cosines with the visual sentences below, less the
mean of its 5 largest cosines with the others. It is above 0 where a caption is nearer to what can
be seen. It is made in the space of the stored rows; another space has another scale.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

NEAREST = 5

VISUAL = (
    "A dog runs across a green field.",
    "Two children play with a red ball on the beach.",
    "A man in a blue shirt rides a bicycle down a street.",
    "A woman holds an umbrella in the rain.",
    "A black cat sleeps on a sofa.",
    "A plate of pasta with tomatoes and basil on a wooden table.",
    "A train stands at the platform of a station.",
    "Snow covers the roofs of small houses in a valley.",
    "A surfer rides a tall wave.",
    "A white car is parked in front of a brick building.",
    "A close-up of a yellow flower with drops of water.",
    "A group of people sits around a campfire at night.",
    "A bird perches on a bare branch.",
    "A kitchen with white cabinets and a steel refrigerator.",
    "An old man with a grey beard looks into the camera.",
    "A boat on a calm lake with mountains behind it.",
    "A crowd watches a football player kick the ball.",
    "A vase of pink roses beside a window.",
    "An aerial view of a city with tall towers at sunset.",
    "A bowl of fresh fruit: apples, bananas and grapes.",
    "A girl in a striped dress jumps over a puddle.",
    "Three horses graze behind a wooden fence.",
    "A leather handbag with a gold buckle on a white background.",
    "A painting of a ship in a storm.",
    "A baby in a high chair with food on its face.",
    "A stone bridge over a narrow river.",
    "A chef in a white hat cuts vegetables.",
    "A laptop and a cup of coffee on a desk.",
    "A bride and groom stand under an arch of flowers.",
    "A drawing of a smiling sun above a house.",
    "A pair of running shoes, grey with orange laces.",
    "An elephant sprays water with its trunk.",
    "A skateboarder in the air above a ramp.",
    "A bedroom with a large bed and a patterned rug.",
    "A red double-decker bus on a crowded road.",
    "A waterfall between rocks covered in moss.",
    "A person in a yellow helmet climbs a cliff.",
    "A chocolate cake with candles.",
    "A market stall full of colourful spices.",
    "A soldier in uniform walks past a tank.",
)
"""What photographs, drawings and products show."""

NOT_VISUAL = (
    "Click here to read more.",
    "All rights reserved.",
    "Add to cart. Free shipping on all orders.",
    "Sign up for our newsletter.",
    "Please enable JavaScript to view this page.",
    "Posted on March 3, 2014 by admin.",
    "Terms of service and privacy policy.",
    "$19.99, was $29.99, you save 33%.",
    "IMG_20170412_153022.jpg",
    "Share this on Facebook and Twitter.",
    "Page 4 of 17.",
    "Image may be subject to copyright.",
    "No description available.",
    "Home, about us, contact.",
    "Your account has been updated.",
    "DSC00123",
    "January 2009",
    "Item number 4471-B, in stock.",
    "How to improve the quality of your decisions.",
    "Freedom is the right of every person.",
    "The theory explains why prices rise.",
    "Success depends on patience and hard work.",
    "An introduction to the methods of statistics.",
    "The company announced its results for the third quarter.",
    "We believe in honesty and trust.",
    "The meeting was moved to next Tuesday.",
    "Annual report on economic policy.",
    "What does this mean for the future?",
    "He is known for his work on the history of law.",
    "Version 2.3.1 fixes several errors.",
    "Ten reasons why you should think positively.",
    "Comments are closed.",
    "Log in or register to reply.",
    "Related articles you might like.",
    "Quotes about love and life.",
    "Find the best deals online today.",
    "The new law takes effect next year.",
    "Download the file in high resolution.",
    "Results 1 to 20 of 340.",
    "She argued that knowledge requires justification.",
)
"""What is written on pages and shows nothing: boilerplate, file names, dates, prices, ideas."""


def visualness(
    z_captions: Float32[np.ndarray, "n d"],
    z_visual: Float32[np.ndarray, "v d"],
    z_other: Float32[np.ndarray, "o d"],
) -> Float32[np.ndarray, " n"]:
    """Return the figure that the module describes, between -2 and 2; rows have unit length."""
    return _nearest(z_captions @ z_visual.T) - _nearest(z_captions @ z_other.T)


def _nearest(cosines: Float32[np.ndarray, "n p"]) -> Float32[np.ndarray, " n"]:
    count = min(NEAREST, cosines.shape[1])
    largest = np.partition(cosines, -count, axis=1)[:, -count:]
    # Partition leaves them in any order; a sum of sorted values has the same bits everywhere.
    return np.sort(largest, axis=1).mean(axis=1, dtype=np.float64).astype(np.float32)
