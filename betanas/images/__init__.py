"""From a data set's pixels to batches on the device."""
