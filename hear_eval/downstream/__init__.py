"""What embeddings are worth: heareval's downstream evaluation, its predictors trained together."""
