"""wav2vec-U around the adversarial model: preparation, decoding, self-training (Baevski et al. 2021; Liu et al. 2022)."""
