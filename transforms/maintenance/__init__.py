"""What changes a lake afterwards: retention, and the index made anew."""
