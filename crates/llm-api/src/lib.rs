//! Room `llm-api`: filled by its first working slice.
