"""Sentence families written for the classifier, CC0-1.0. Each family has templates, slots and labels."""
