"""A model, a front end, a patchout kind, a data set and a metric for passt-bench."""
