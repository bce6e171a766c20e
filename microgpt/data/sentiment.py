"""Words with the sentiment that people find in them."""

from __future__ import annotations

import numpy as np

from microgpt.data.embedded import embedded, lines


def sentiment_words() -> dict[str, float]:
    """7,506 English words, and signs such as ":-)", with the mean of what ten people felt.

    From -4 (extremely negative) to 4 (extremely positive). See `sentiment_ratings` for what each
    person said.

    Source: C. J. Hutto and E. Gilbert, "VADER: A parsimonious rule-based model for sentiment
    analysis of social media text", 2014; MIT.

    Example:
        >>> from microgpt import data
        >>> scores = data.sentiment_words()
        >>> scores["great"], scores["terrible"]
        (3.1, -2.1)
    """
    ratings = sentiment_ratings()
    return {word: float(np.mean(row)) for word, row in ratings.items()}


def sentiment_ratings() -> dict[str, np.ndarray]:
    """What ten people answered for each of `sentiment_words`: (10,) int8, -4 to 4."""
    stored = embedded("_sentiment.npz")
    # 14 words are there twice; the last counts, as it does in VADER.
    return dict(zip(lines(stored["words"]), stored["ratings"], strict=True))
