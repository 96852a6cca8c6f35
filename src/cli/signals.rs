//! SIGHUP, SIGINT and SIGTERM: temporary files go, and the program ends with status 130. SIGXFSZ: a write that would pass the limit
//! on the size of files fails as on a full disk, instead of ending the program.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::api::cleanup_temporaries;

/// Starts the thread that waits for signals. Where signals cannot be waited for, they keep their usual effect; what the program was
/// started to ignore, as `nohup` does with SIGHUP, it goes on ignoring.
pub(super) fn install() {
    // Nobody looks at the flag: that there is a handler is enough.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let ignored = ignored();
    let heeded = [SIGHUP, SIGINT, SIGTERM]
        .into_iter()
        .filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let Ok(mut signals) = Signals::new(heeded) else {
        return;
    };
    let waiting = move || {
        if signals.forever().next().is_some() {
            cleanup_temporaries();
            std::process::exit(130);
        }
    };
    let _ = std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(waiting);
}

/// The signals that are ignored, signal 1 in the lowest bit; none where the system does not say.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
