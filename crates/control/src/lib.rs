//! Room `control`: filled by its first working slice.
