//! Room `gateway`: filled by its first working slice.
