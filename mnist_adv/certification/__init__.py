"""What is proved of a network: no image inside a ball and the box changes its answer."""
