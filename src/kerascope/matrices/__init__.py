"""From a relevance map to rows, columns and stretches: profiles, ranked tables, maximal segments."""
