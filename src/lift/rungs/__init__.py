"""The rungs of a ladder, judged alike: from a closed form up, and what the next would cost."""
