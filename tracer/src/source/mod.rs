//! Where records come from.

pub(crate) mod counters;
pub(crate) mod live;
