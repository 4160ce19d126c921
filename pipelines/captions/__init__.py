"""What captions name: words, phrases in every form, languages; the annotator that reads them."""
