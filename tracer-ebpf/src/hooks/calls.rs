//! Arguments kept from the entry of a call to its return, for hooks at a return
//! that cannot see them: kretprobes, and syscalls on kernels without
//! `bpf_task_pt_regs`.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_common::Hook;

use crate::maps::{CALLS, Call, CallKey};

/// Keeps the arguments of a call that has just begun.
#[inline(always)]
pub fn keep(function: Hook, arg0: u64, arg1: u64) {
    let key = CallKey {
        pid_tgid: bpf_get_current_pid_tgid(),
        function: function as u64,
    };
    let _ = CALLS.insert(key, Call { arg0, arg1 }, 0);
}

/// Takes back what [`keep`] kept; zeros if that was nothing. (No `Option`: old
/// verifiers refuse the read of its unused payload.)
#[inline(always)]
pub fn take(function: Hook) -> Call {
    let key = CallKey {
        pid_tgid: bpf_get_current_pid_tgid(),
        function: function as u64,
    };
    let mut call = Call { arg0: 0, arg1: 0 };
    // SAFETY: only this thread writes this key.
    if let Some(kept) = unsafe { CALLS.get(key) } {
        call = *kept;
        let _ = CALLS.remove(key);
    }
    call
}

/// What [`keep`] kept, for the next program at the same return as well; it is replaced by
/// the thread's next call. Zeros: nothing.
#[inline(always)]
pub fn kept(function: Hook) -> Call {
    let key = CallKey {
        pid_tgid: bpf_get_current_pid_tgid(),
        function: function as u64,
    };
    // SAFETY: only this thread writes this key.
    match unsafe { CALLS.get(key) } {
        Some(kept) => *kept,
        None => Call { arg0: 0, arg1: 0 },
    }
}

/// An entry/return pair: `$entry` keeps arguments `$a` and `$b`, `$exit` calls
/// `$then(ctx, hook, call)` when the function returned `$errno`.
macro_rules! probe_pair {
    ($entry:ident, $exit:ident, $hook:expr, [$a:literal, $b:literal], |$ret:ident| $failed:expr, |$ctx:ident, $call:ident| $then:expr) => {
        #[kprobe]
        pub fn $entry(ctx: ProbeContext) -> u32 {
            $crate::hooks::calls::keep($hook, ctx.arg($a).unwrap_or(0), ctx.arg($b).unwrap_or(0));
            0
        }

        #[kretprobe]
        pub fn $exit($ctx: RetProbeContext) -> u32 {
            let $call = $crate::hooks::calls::take($hook);
            let $ret: i32 = $ctx.ret();
            // A return whose entry was before the programs: nothing was kept.
            if $call.arg0 != 0 && $failed {
                $then;
            }
            0
        }
    };
}
pub(crate) use probe_pair;
