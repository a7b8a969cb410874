//! Appends keys and values of new tokens to the cache.
