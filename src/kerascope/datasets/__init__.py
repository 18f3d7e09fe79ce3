"""Data with a known answer, and real data: `kerascope.datasets`.

Every function that gives data returns a `Dataset`: matrices, one label each and, where it is known, the cells
that carry the label. What is drawn is drawn in NumPy from the seed given, whatever the backend.
"""

from __future__ import annotations

from kerascope.datasets.base import Dataset
from kerascope.datasets.boxes import BOX_LAYOUTS, BOX_PROCESSES, boxes
from kerascope.datasets.motifs import Motifs, motifs
from kerascope.datasets.planted import Planted, planted
from kerascope.datasets.real import basic_motions, demo_file, japanese_vowels

__all__ = [
    "BOX_LAYOUTS",
    "BOX_PROCESSES",
    "Dataset",
    "Motifs",
    "Planted",
    "basic_motions",
    "boxes",
    "demo_file",
    "japanese_vowels",
    "motifs",
    "planted",
]
