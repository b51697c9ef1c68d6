//! live tests
fn main() {}
