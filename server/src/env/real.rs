//! Placeholder of the real environment.
