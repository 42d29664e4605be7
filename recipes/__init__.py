"""The recipes that ship with omnistage, as YAML files."""
