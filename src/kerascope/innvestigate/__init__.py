"""Coming from iNNvestigate: its names for our methods, and its 2.1.2 numbers where they are asked for."""
