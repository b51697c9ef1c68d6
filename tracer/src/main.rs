//! The program; `lib.rs` shows the data's way.

use std::process::ExitCode;

fn main() -> ExitCode {
    tracer::main()
}
