"""What is wrong, and how much: what `neti check` concludes, and the metrics."""
