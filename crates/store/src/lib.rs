//! Room `store`: filled by its first working slice.
