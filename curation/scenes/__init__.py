"""The embedded world: pictures whose truth is known, and a web of them that exists on any machine without a network."""
