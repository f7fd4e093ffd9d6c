//! What a run found and the forms in which it is told.

pub mod model;
