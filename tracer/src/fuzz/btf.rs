//! The kernel's own types, for fuzzing.

use crate::host::{btf::KernelTypes, facts::Facts};

/// Bytes as BTF: whether they are, and then the numbers of these functions.
///
/// `None` also where a function has no name: aya-obj 0.3.0 panics there, if the number of
/// bytes is larger than where the name should be (`Btf::string_at`).
#[must_use]
pub fn functions(bytes: &[u8], names: &[&'static str]) -> Option<Vec<Option<u32>>> {
    let types = KernelTypes::parse(bytes, &[], names).ok()?;
    if !types.has_all_names() {
        return None;
    }
    let number = |name: &&'static str| types.function(name).map(|function| function.type_id);
    Some(names.iter().map(number).collect())
}

/// Asks for all that tracer wants to know of a kernel.
pub fn facts(bytes: &[u8]) {
    let _ = Facts::from_btf(bytes);
}

/// Where a member is, in bytes from the begin of its struct.
#[must_use]
pub fn offset(bytes: &[u8], structure: &'static str, path: &str) -> Option<u32> {
    let types = KernelTypes::parse(bytes, &[structure], &[]).ok()?;
    types.offset(structure, path)
}
