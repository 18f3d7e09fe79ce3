"""Drawing: colours in NumPy, figures in Matplotlib."""
