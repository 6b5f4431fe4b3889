"""The loop from source to outputs, and what surrounds it: threads, progress, previews, chunks."""
