"""Attribution methods: one file for each family."""
