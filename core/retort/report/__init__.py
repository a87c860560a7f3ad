"""The parts of the report: figures, sentences, charts, pictures and the page that holds them."""
