"""The charts, on a real API server and as helm renders them."""
