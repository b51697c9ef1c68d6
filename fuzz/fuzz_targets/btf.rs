//! Any bytes as the kernel's BTF: every question ends, and functions have the numbers
//! that aya's reader gives them.

#![no_main]

use aya_obj::btf::{Btf, BtfKind};
use libfuzzer_sys::fuzz_target;
use tracer::fuzz::btf::{facts, functions, offset};

const FUNCTIONS: [&str; 2] = ["call", "tcp_v6_connect"];
const MEMBERS: [&str; 4] = ["head", "b", "inner.b", "skc_net.net"];

fuzz_target!(|bytes: &[u8]| {
    facts(bytes);
    for structure in ["outer", "sock_common"] {
        for path in MEMBERS {
            // 32 bits of bits.
            assert!(offset(bytes, structure, path).is_none_or(|at| at < 1 << 29));
        }
    }
    let Some(numbers) = functions(bytes, &FUNCTIONS) else {
        return;
    };
    // aya takes more for BTF than tracer does, and refuses some: names that are no text.
    let Ok(other) = Btf::parse(bytes, Default::default()) else {
        return;
    };
    for (name, number) in FUNCTIONS.into_iter().zip(numbers) {
        let Some(number) = number else { continue };
        let found = other.id_by_type_name_kind(name, BtfKind::Func);
        assert!(found.is_err() || found.ok() == Some(number), "{name}");
    }
});
