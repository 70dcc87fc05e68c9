//! Room `demo`: filled by its first working slice.
