//! Files: atomic writing, digests.
