//! Tests of admission, and a platform's key for other tests.

mod jwks;
pub mod signer;
