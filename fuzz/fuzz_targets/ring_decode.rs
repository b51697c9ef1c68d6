//! Any bytes as a record of the ring buffer: an event, or none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::fuzz::decode;
use tracer_common::{Cause, Event, Family, Hook, Kind};
use zerocopy::FromBytes;

fuzz_target!(|bytes: &[u8]| {
    let event = Event::read_from_bytes(bytes).ok();
    let expected = event.filter(|event| {
        Kind::from_u8(event.kind).is_some()
            && Cause::from_u8(event.cause).is_some()
            && Hook::from_u8(event.hook).is_some()
            && Family::from_u8(event.family).is_some()
    });
    let Some(event) = expected else {
        assert!(decode(bytes).is_none());
        return;
    };
    let decoded = decode(bytes).expect("every tag is known");
    for (address, port) in [
        (decoded.local, event.local_port),
        (decoded.remote, event.remote_port),
    ] {
        if let Some(address) = address {
            assert_eq!(address.port(), port);
            assert_eq!(address.is_ipv6(), event.family == Family::V6 as u8);
        }
    }
    for name in &decoded.names {
        assert!(!name.chars().any(char::is_control), "{name:?}");
    }
});
