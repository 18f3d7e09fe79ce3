"""Layer-wise relevance propagation and Deep Taylor decomposition: rules, composites, methods."""
