"""From a spec to trials and stages; nothing runs here."""
