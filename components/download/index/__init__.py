"""The index of a data set's members and media."""
