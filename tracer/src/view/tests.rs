//! What is on the screen, after which records and keys?
//!
//! `TRACER_WRITE_SCREENS=1 cargo test -p tracer view` writes the screens anew.

mod property;
mod scenes;
mod screens;
