"""A trained model on photos: batches of a data set, and the predictor."""
