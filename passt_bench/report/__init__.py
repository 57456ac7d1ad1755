"""From results to what people read: tables, figures, pages. Reads records alone, no torch."""
