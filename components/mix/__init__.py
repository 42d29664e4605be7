"""The stage ``mix``: records of several data sets as one, without what is tested."""
