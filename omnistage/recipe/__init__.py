"""Recipe documents: reading with positions, overrides, validation, schema."""
