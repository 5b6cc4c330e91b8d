"""The bundled search spaces."""
