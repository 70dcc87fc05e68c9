//! Room `registry`: filled by its first working slice.
