"""Transcripts: normalisation and alphabets."""
