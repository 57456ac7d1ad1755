"""A model, a front end, a patchout kind, a data set and a figure for passt-bench."""
