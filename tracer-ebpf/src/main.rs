//! tracer's kernel side.
//!
//! The way of a failure: a hook ([`hooks`]) decides *that* something failed and
//! *why*, reads what describes it ([`kernel`]), counts it and, if there is
//! room, describes it ([`emit`]). On success every hook returns after one
//! comparison.
//!
//! Nothing here knows a kernel version: offsets and switches come from
//! [`tracer_common::Config`], and user space loads only the programs that its
//! plan names.
#![no_std]
#![no_main]
// The BPF target declares no compare-and-swap, so `AtomicU64::fetch_add` does
// not exist there; the plain atomic add does, as an intrinsic.
#![feature(core_intrinsics, adt_const_params)]
#![expect(
    internal_features,
    reason = "see above: no stable way to an atomic add on BPF"
)]

mod allowance;
mod emit;
mod filter;
mod hooks;
mod kernel;
mod listeners;
mod maps;
mod packet;
mod verification;

/// bpf_probe_read_kernel, bpf_get_current_task and the tracing helpers are
/// offered to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: the verifier refuses a program that can get here.
    loop {}
}
