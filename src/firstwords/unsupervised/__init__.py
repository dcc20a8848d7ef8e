"""wav2vec-U around the adversarial model: preparation, decoding, self-training (Baevski 2021, Liu 2022)."""
