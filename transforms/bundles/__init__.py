"""What a Beam bundle needs besides its messages: overlapping writes, an outbox, coders."""
