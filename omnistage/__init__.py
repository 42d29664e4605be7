"""What stages share: artifacts, the store, launching, recipes, the command line."""
