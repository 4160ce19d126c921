"""Who marks samples: by captions, json fields, tables, embeddings, pictures; and what they say."""
