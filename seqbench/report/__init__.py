"""What readers see: charts as data (`chart`), a renderer for each medium, and text and numbers (`text`)."""
