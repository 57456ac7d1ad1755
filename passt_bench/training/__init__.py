"""Training and evaluation of one model on one data set."""
