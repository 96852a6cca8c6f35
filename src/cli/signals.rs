//! SIGINT and SIGTERM: temporary files go, and the program ends with status 130.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::format::save::cleanup_temporaries;

/// Starts the thread that waits for signals. Where signals cannot be waited for, they keep their usual effect.
pub(super) fn install() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
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
