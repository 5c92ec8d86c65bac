"""Where weights lie, how they are loaded, and in which precision they compute."""
