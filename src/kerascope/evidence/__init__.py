"""Evidence: which rows, columns and stretches speak for an output, tested against references and by the model."""
