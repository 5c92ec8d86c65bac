"""Concept vocabularies, LF-CBM's recipe: a language model is asked about each class, then filters choose."""
