"""The dashboard: reads run databases, never torch."""
