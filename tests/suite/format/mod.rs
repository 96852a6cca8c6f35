//! Bytes in and out: round trips, hostile bytes, external data, and saving that is all or nothing.

mod container;
mod external;
mod faults;
mod hostile;
mod memory;
mod relocating;
mod roundtrip;
mod samples;
mod saving;
mod sharing;
