//! Systems as files: the image of a tree, capture and extraction.
