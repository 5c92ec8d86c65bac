"""The scientific questions: each study has its methods, knobs, networks, losses and stages."""
