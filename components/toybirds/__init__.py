"""The training of the small models of toybirds that ship."""
