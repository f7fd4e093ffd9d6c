//! Tests of admission, and a platform's key for other tests.

mod jwks;
mod policy;
pub mod signer;
