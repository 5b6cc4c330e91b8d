"""Rules that put back the batch normalisation that an exporter folded."""
