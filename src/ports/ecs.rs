//! (adapter)
