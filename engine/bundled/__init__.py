"""The bundled model and data sets."""
