"""GroundingDINO: its network and its prompts."""
