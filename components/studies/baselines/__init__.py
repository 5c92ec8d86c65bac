"""What every study is compared with: ERM, and methods that know the groups."""
