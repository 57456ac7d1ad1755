"""A model, a front end, a patchout kind, a data set, a metric and a figure for passt-bench."""
