"""A small world of comets and fish, whose truth is known: the paper's claims on models that anyone can train again."""
