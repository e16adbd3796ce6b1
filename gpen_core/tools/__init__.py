"""Tools to judge a restoration: comparison sheets, step-by-step explanations, a self-test and a demonstration."""
