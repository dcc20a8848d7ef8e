"""Recordings and transcripts: utterances, manifests, shards, batches."""
