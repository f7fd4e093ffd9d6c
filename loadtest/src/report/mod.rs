//! What a run found and the forms in which it is told.

mod chart;
pub mod facts;
pub mod html;
mod html_comparison;
mod html_soak;
pub mod model;
pub mod output;
#[cfg(test)]
mod sample;
mod table;
pub mod terminal;
pub mod units;
